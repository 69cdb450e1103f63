"""The simple protocol's half of the gate: Query, and FunctionCall beside it.

All statements of one Query are judged and recorded before the first of them may run, and it goes upstream only when
all are allowed. Invariant: what a Query does to names, its own PREPARE and the drop of what has no name, stands in the
maps when it is forwarded, and is taken back when it fails.
"""

from __future__ import annotations

import hashlib

from proxy.policy.judgement import RUNNING, Judgement, Statement
from proxy.session.answers import Answers, held_back, limited_by
from proxy.session.names import NAMING, Change
from proxy.session.naming import follow, named, what_waits
from proxy.session.refusals import Refusal, refusal
from proxy.session.streaming import not_kept
from proxy.session.talk import STATUS, Talk
from proxy.wire import build, client
from proxy.wire.framing import FUNCTION_CALL, HEADER, ProtocolViolation
from proxy.wire.framing import QUERY as QUERY_MESSAGE
from proxy.wire.ledger import CALL, QUERY, Owed
from recorder import events


class Simple:
    """Handlers for one session, as those of `Extended`."""

    __slots__ = ("_answers", "_longest", "_talk")

    def __init__(self, talk: Talk, answers: Answers, longest: int) -> None:
        self._talk = talk
        self._answers = answers
        self._longest = longest

    def query(self, data: bytes, pos: int, stop: int) -> bytes | None:
        """Judge and record every statement of a Query."""
        talk = self._talk
        self._not_copying(QUERY_MESSAGE)
        sql = client.query(data, pos, stop)
        if len(sql) > self._longest:
            long = refusal("too long", size=len(sql), limit=self._longest)
            digest = hashlib.sha256(data[pos - HEADER : stop]).hexdigest()
            return self._answers.too_long(long, not_kept(stop - pos + HEADER, digest), extended=False)
        judgement = talk.judgement(sql)
        self._settle(judgement.statements)
        held = self._waiting(sql, judgement) if judgement.allowed and not judgement.plain else None
        talk.asked = None
        limited = talk.limited(judgement) if judgement.allowed and held is None else None
        if limited is not None:
            judgement = limited_by(limited, judgement)
        statements = judgement.statements if held is None else held_back(held, judgement.statements)
        first = talk.n + 1
        if not statements:
            talk.record(None, protocol="simple", sql=sql.decode("utf-8", "surrogateescape"))
        for statement in statements:
            talk.record(statement, protocol="simple")
        talk.plan(first)
        if held is not None:
            return self._answers.held(held, range(first, talk.n + 1), extended=False)
        if limited is not None:
            return self._answers.limited(limited, range(first, talk.n + 1), extended=False)
        if not judgement.allowed and judgement.refusal is not None:
            return self._answers.deny(judgement.refusal, range(first, talk.n + 1), extended=False)
        changes = self._unnamed() if not talk.observe or _is_text(sql) else None
        for index, statement in enumerate(statements):
            if statement.kind in NAMING:
                changes = changes or []
                no, made = follow(statement, talk, self._answers)
                if no is not None:
                    for _, earlier in reversed(changes):
                        talk.names.take_back(earlier, [])
                    for n in range(first, talk.n + 1):
                        talk.denied(n, no.sqlstate, "name")
                    return self._answers.answer(no, extended=False)
                changes.append((index, made))
        entry = Owed(QUERY, first, talk.active, changes, None if judgement.plain else judgement)
        entry.count = talk.n + 1 - first
        talk.ledger.entries.append(entry)
        talk.names.group += 1
        return build.query(judgement.forward) if judgement.edits else None

    def _unnamed(self) -> list[tuple[int, list[Change]]] | None:
        """A Query drops the unnamed statement and portal, whatever becomes of it.

        An Execute of that portal must not pass. Where the Query failed inside a transaction the server finds what it
        left behind under the empty name, and reads memory that is no longer there: a backend of Postgres 18 died of it.
        """
        names = self._talk.names
        made = [names.put(kept, b"", None) for kept in (names.statements, names.portals) if b"" in kept]
        return [(-1, made)] if made else None

    def _settle(self, statements: tuple[Statement, ...]) -> None:
        """Raise Pause where it is not known yet what they execute by name."""
        talk = self._talk
        for statement in statements:
            if statement.kind in RUNNING:
                talk.settle(named(statement, talk))

    def _waiting(self, sql: bytes, judgement: Judgement) -> Refusal | None:
        """What a Query waits for: another person's yes; or why it did not come."""
        if not judgement.held:
            return None
        here = {s.name: s for s in judgement.statements if s.kind == "prepare" and s.held}
        for statement in judgement.statements:
            found = here.get(statement.name) if statement.kind == "execute" else None
            waits = found or what_waits(statement, self._talk)
            if waits is not None:
                return self._talk.approval(sql, waits, None)
        return None

    def call(self, data: bytes, pos: int, stop: int) -> bytes | None:
        """A FunctionCall: refused, and only recorded where nothing is."""
        talk = self._talk
        self._not_copying(FUNCTION_CALL)
        talk.n += 1
        talk.recording.append(
            events.Statement(
                n=talk.n,
                sql=f"function oid {int.from_bytes(data[pos : min(stop, pos + 4)], 'big')}",
                params=None,
                verdict="allow" if talk.observe else "deny",
                rule="observe.statement" if talk.observe else "statement",
                rewritten=None,
                reason="the function call message is not available",
                kind="other",
                protocol="function",
                tx=STATUS[talk.tx],
            )
        )
        if talk.observe:
            talk.ledger.entries.append(Owed(CALL, talk.n, talk.active))
            return None
        no = refusal("function call")
        talk.denied(talk.n, no.sqlstate, "statement")
        return self._answers.answer(no, extended=False)

    def _not_copying(self, kind: int) -> None:
        """A COPY reads this message as the end of its data, in error: its own answer would never come."""
        if self._talk.ledger.copying:
            raise ProtocolViolation(f"unexpected message type 0x{kind:02X} during COPY from stdin")


def _is_text(sql: bytes) -> bool:
    """Whether a server takes this for text; what it cannot read drops nothing."""
    try:
        sql.decode()
    except UnicodeDecodeError:
        return False
    return True
