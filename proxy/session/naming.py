"""SQL statements that make, use or drop names: PREPARE, EXECUTE, DEALLOCATE, DECLARE, CLOSE, DISCARD.

They act on the same names as Parse, Bind and Close do, so an `EXECUTE p` of a statement that the current policy
denies must not run, whichever way `p` was prepared.
"""

from __future__ import annotations

from proxy.policy.judgement import Statement
from proxy.session.answers import Answers
from proxy.session.names import NAME_BYTES, NAMING, Change
from proxy.session.refusals import Refusal, refusal
from proxy.session.talk import Talk


def follow(statement: Statement, talk: Talk, answers: Answers) -> tuple[Refusal | None, list[Change]]:
    """Carry out on the maps what the statement will do upstream; or the refusal, when it must not run."""
    names = talk.names
    if statement.kind == "execute":
        name = statement.name or ""
        prepared = names.statements.get(name.encode()[:NAME_BYTES])
        named = prepared.statement if prepared is not None else None
        if prepared is not None and named is not None and named.kind in NAMING and not prepared.inner:
            # Parse takes what PREPARE does not: an EXECUTE of an EXECUTE would run what nobody has looked at here.
            if not talk.observe:
                return refusal("nested name", name=name, kind=named.kind.upper()), []
            return None, names.follow(named, talk.judge)
        return answers.usable(prepared, name, wait=False), []
    if statement.kind in ("prepare", "declare"):
        if talk.observe:
            names.make_room(len(statement.sql))
        elif not names.room(len(statement.sql)):
            return refusal("too many names"), []
    return None, names.follow(statement, talk.judge)


def what_waits(statement: Statement, talk: Talk) -> Statement | None:
    """What of a statement has to wait for another person's yes: itself, or what it executes by name."""
    if statement.kind == "execute":
        prepared = talk.names.statements.get((statement.name or "").encode()[:NAME_BYTES])
        named = prepared.statement if prepared is not None else None
        return named if named is not None and named.held else None
    return statement if statement.held and statement.kind != "prepare" else None
