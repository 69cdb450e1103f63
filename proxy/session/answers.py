"""Saying no inside a session: in the right place of the reply order, and on record.

A refusal is told when the upstream has answered everything that came before it; in the extended protocol all that
follows up to the next Sync is skipped, as Postgres does after an error of its own. Invariant: a refusal is recorded
when it is decided, and a refused statement has an outcome like any other.
"""

from __future__ import annotations

from msgspec.structs import replace

from proxy.policy.judgement import Judgement, Statement
from proxy.session.budget import Ended
from proxy.session.names import Prepared
from proxy.session.refusals import Refusal, refusal
from proxy.session.talk import STATUS, Talk
from proxy.wire import build
from recorder import events


def limited_by(found: Ended, judgement: Judgement) -> Judgement:
    """The same statements, refused by a limit."""
    refused = (
        replace(s, verdict="deny", rule=found.rule, reason=found.text, hint=found.hint) for s in judgement.statements
    )
    return replace(judgement, statements=tuple(refused), allowed=False)


def held_back(no: Refusal, statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The same statements, refused because one of them waited for a yes that did not come."""
    return tuple(replace(s, verdict="deny", rule="hold", reason=no.text, hint=no.hint) for s in statements)


class Answers:
    """Refusals of one session. `waiting` are those whose turn is now; they are told once the record is written."""

    __slots__ = ("_talk", "waiting")

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.waiting: list[bytes] = []

    def answer(self, no: Refusal, *, extended: bool) -> bytes:
        """Refuse one message; returns what goes upstream in its place."""
        talk = self._talk
        ledger = talk.ledger
        waits = ledger.refuse(no.message, ready=not extended)
        if not waits:
            self.waiting.append(no.message if extended else no.message + build.ready(talk.tx))
        if extended:
            ledger.skipping = True
        # Without Flush the upstream would sit on its replies until a Sync, and the client waits for them.
        return build.FLUSH if waits and ledger.unflushed else b""

    def deny(self, found: Statement, numbers: range, *, extended: bool) -> bytes:
        """Refuse what the judge denied. `numbers` are the recorded statements that are not sent because of it."""
        no = self.denial(found)
        for n in numbers:
            self._talk.denied(n, no.sqlstate, found.rule)
        return self.answer(no, extended=extended)

    def limited(self, found: Ended, numbers: range, *, extended: bool) -> bytes:
        """Refuse statements that a limit of the policy leaves no room for."""
        no = self.over(found)
        for n in numbers:
            self._talk.denied(n, no.sqlstate, found.rule)
        return self.answer(no, extended=extended)

    def held(self, no: Refusal, numbers: range, *, extended: bool) -> bytes:
        """Refuse statements to which nobody has said yes."""
        for n in numbers:
            self._talk.denied(n, no.sqlstate, "hold")
        return self.answer(no, extended=extended)

    def over(self, found: Ended) -> Refusal:
        """What the client is told about a limit."""
        detail = f"rule {found.rule}, policy {self._talk.judge.policy.name}"
        return refusal("limit", detail=detail, text=found.text, hint=found.hint)

    def denial(self, found: Statement, *, here: bool = True) -> Refusal:
        """What the client is told about a denied statement; `here`: its text is in the message that is refused."""
        return refusal(
            "denied",
            detail=f"rule {found.rule}, policy {self._talk.judge.policy.name}",
            position=found.position if here else None,
            text=found.reason,
            hint=found.hint,
        )

    def too_long(self, no: Refusal, reason: str, *, extended: bool) -> bytes:
        """Refuse a message whose statement or values are longer than is allowed and were not kept."""
        talk = self._talk
        talk.n += 1
        if talk.literals is not None:
            reason = talk.literals.reason(reason)
        talk.recording.append(
            events.Statement(
                n=talk.n,
                sql="",
                params=None,
                verdict="deny",
                rule="limit.statement",
                rewritten=None,
                reason=reason,
                kind="other",
                protocol="extended" if extended else "simple",
                tx=STATUS[talk.tx],
            )
        )
        talk.denied(talk.n, no.sqlstate, "limit.statement")
        return self.answer(no, extended=extended)

    def bad_name(self, no: Refusal, prepared: Prepared | None, name: bytes, portal: bytes) -> bytes:
        """Refuse a Bind or Execute because of what it names."""
        talk = self._talk
        talk.n += 1
        sql = prepared.sql.decode("utf-8", "surrogateescape") if prepared else ""
        reason = no.text
        if talk.literals is not None:
            sql, reason = talk.literals.text(sql) or "", talk.literals.reason(reason, sql)
        talk.recording.append(
            events.Statement(
                n=talk.n,
                sql=sql,
                params=None,
                verdict="deny",
                rule="name",
                rewritten=None,
                reason=reason,
                kind=prepared.statement.kind if prepared and prepared.statement else "other",
                protocol="extended",
                name=name.decode("utf-8", "surrogateescape"),
                portal=portal.decode("utf-8", "surrogateescape"),
                tx=STATUS[talk.tx],
            )
        )
        talk.denied(talk.n, no.sqlstate, "name")
        return self.answer(no, extended=True)

    def usable(self, prepared: Prepared | None, name: str, *, wait: bool = True) -> Refusal | None:
        """Whether a prepared statement may run now: it is known, and today's judge still allows it as it is.

        Raises Pause as `Talk.judgement` does, unless `wait` is false.
        """
        talk = self._talk
        if prepared is None or (prepared.unread and not talk.observe):
            # In observe mode the server may say so itself.
            missing = refusal("no statement", name=name) if name else refusal("no unnamed statement")
            return None if talk.observe else missing
        if prepared.judge is talk.judge or prepared.unread:
            return None
        judge = talk.judgement if wait else talk.judge.judge
        found = judge(prepared.sql, prepared.types)
        verdict = prepared.judged_by(talk.judge, found)
        if verdict is True:
            return None
        return refusal("stale") if verdict is False else self.denial(verdict, here=False)
