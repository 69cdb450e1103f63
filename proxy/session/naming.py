"""SQL statements that make, use or drop names: PREPARE, EXECUTE, DEALLOCATE, DECLARE, FETCH, MOVE, CLOSE, DISCARD.

They act on the same names as Parse, Bind and Close do, so an `EXECUTE p` of a statement that the current policy
denies must not run, whichever way `p` was prepared, nor a `FETCH k` of a portal that a Bind has made.
"""

from __future__ import annotations

from proxy.policy.judgement import RUNNING, Statement
from proxy.session.answers import Answers
from proxy.session.names import NAME_BYTES, Change, Portal, Prepared
from proxy.session.refusals import Refusal, refusal
from proxy.session.talk import Talk


def named(statement: Statement, talk: Talk) -> Prepared | Portal | None:
    """What a statement of a RUNNING kind runs by name, where that is known."""
    name = (statement.name or "").encode()[:NAME_BYTES]
    return talk.names.statements.get(name) if statement.kind == "execute" else talk.names.portals.get(name)


def follow(statement: Statement, talk: Talk, answers: Answers) -> tuple[Refusal | None, list[Change]]:
    """Carry out on the maps what the statement will do upstream; or the refusal, when it must not run."""
    names = talk.names
    if statement.kind in RUNNING:
        return _run(statement, talk, answers)
    if statement.kind in ("prepare", "declare"):
        if talk.observe:
            names.make_room(len(statement.sql))
        elif not names.room(len(statement.sql)):
            return refusal("too many names"), []
    return None, names.follow(statement, talk.judge)


def _run(statement: Statement, talk: Talk, answers: Answers) -> tuple[Refusal | None, list[Change]]:
    name, found = statement.name or "", named(statement, talk)
    prepared = found.prepared if isinstance(found, Portal) else found
    if prepared is None and statement.kind != "execute":
        return None, []  # a function that the policy trusts may have opened it
    if prepared is not None and prepared.about_names and (inside := prepared.statement) is not None:
        # An EXECUTE of an EXECUTE would run what nobody has looked at here.
        if not talk.observe:
            return refusal("nested name", name=name, kind=inside.kind.upper()), []
        return None, [] if inside.kind in RUNNING else talk.names.follow(inside, talk.judge)
    return answers.usable(prepared, name, wait=False), []


def what_waits(statement: Statement, talk: Talk) -> Statement | None:
    """What of a statement has to wait for another person's yes: itself, or what it runs by name."""
    if statement.kind not in RUNNING:
        return statement if statement.held and statement.kind != "prepare" else None
    found = named(statement, talk)
    if isinstance(found, Portal):
        if found.params is None or found.runs:
            return None  # an SQL cursor waited when it was declared, a portal when it ran first
        found = found.prepared
    inside = found.statement if found is not None else None
    return inside if inside is not None and inside.held else None
