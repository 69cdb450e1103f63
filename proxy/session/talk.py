"""What the two lanes of one session share: the ledger, the names, the recording, the state of the transaction.

The gate (client to upstream) and the results (upstream to client) are two halves of one conversation; this is the
table they both write on. It holds no rules. Invariant: statement numbers run from 1 without a gap, and a number is
given out only together with the event that records it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from msgspec.structs import replace

from proxy.policy.judge import Judges
from proxy.policy.judgement import Judgement, Statement
from proxy.session.budget import FREE, Ended, Meter, Spent
from proxy.session.cost import Costs
from proxy.session.keeping import COUNTS, DEFAULT, Keeping
from proxy.session.literals import Literals
from proxy.session.names import SETTLED, Names, Portal, Prepared
from proxy.session.refusals import Refusal, refusal
from proxy.session.shown import Shown, types_of
from proxy.wire.ledger import Ledger, Owed
from proxy.wire.upstream import Report, report
from recorder import events
from recorder.forms import Form

STATUS: Final = {ord("I"): "I", ord("T"): "T", ord("E"): "E"}
IDLE: Final = ord("I")
TURN: Final = 0.02
"""Seconds after which the texts of one batch give way to other sessions."""


class Record(Protocol):
    """Where a session is recorded: `recorder.journal.Recording`, or what tests put in its place."""

    @property
    def id(self) -> str: ...
    @property
    def broken(self) -> str | None: ...
    def append(self, event: events.Event) -> None: ...
    def append_encoded(self, body: bytes) -> None: ...
    def flush(self) -> None: ...
    def commit(self, told: Callable[[], None] | None = None) -> bool: ...
    def close(self, end: events.SessionEnd) -> None: ...


class Tally:
    """Counters of the whole process, plain integers because they are touched for every statement."""

    __slots__ = ("client_bytes", "denied", "rows", "statements", "upstream_bytes")

    def __init__(self) -> None:
        self.statements = 0
        self.denied: dict[str, int] = {}
        self.rows = 0
        self.client_bytes = 0
        self.upstream_bytes = 0


async def _next_turn() -> None:
    await asyncio.sleep(0)


class Pause(Exception):
    """The client's lane has to wait for `work`; then the same message is taken up again."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.work = work


def milliseconds(seconds: float) -> float:
    """With three digits, as `round` gives them in ten times the time."""
    return int(seconds * 1e6 + 0.5) / 1000


async def for_answers() -> None:
    """What to wait for is the upstream's next ReadyForQuery; the relay knows when that is."""


async def for_record() -> None:
    """What to wait for is the disk, which takes the record; the relay hears when it has."""


@dataclass(frozen=True, slots=True)
class Aids:
    """What the house gives one session. `heavy` judges what would hold the others up; `own` answers SHOW daypass.*;
    `hold` waits for another person's yes (None) to a statement with its values, or says why it may not run."""

    spent: Spent = field(default_factory=Spent)
    heavy: Callable[[Judges, bytes, tuple[int, ...]], Awaitable[Judgement]] | None = None
    costs: Costs | None = None
    own: Callable[[str], str] = str
    keeping: Keeping = DEFAULT
    hold: Callable[[Statement, list[Any] | None], Awaitable[Refusal | None]] | None = None


class Talk:
    """One session's shared state. `end` stops the session: a refusal for the client, a detail for the record."""

    __slots__ = (
        "active",
        "answered",
        "asked",
        "began",
        "costs",
        "counted",
        "decision",
        "end",
        "heavy",
        "hold",
        "judge",
        "ledger",
        "literals",
        "meter",
        "monotonic",
        "n",
        "names",
        "observe",
        "octets",
        "own",
        "planned",
        "recorded",
        "recording",
        "refused",
        "rows",
        "shown",
        "stop",
        "tally",
        "tx",
        "types",
        "waits",
    )

    def __init__(
        self,
        *,
        judge: Judges,
        recording: Record,
        monotonic: Callable[[], float],
        tally: Tally,
        end: Callable[[Refusal | None, str], None],
        observe: bool = False,
        aids: Aids | None = None,
    ) -> None:
        aids = aids or Aids()
        self.judge = judge
        self.recording = recording
        self.monotonic = monotonic
        self.tally = tally
        self.end = end
        self.observe = observe
        self.ledger = Ledger()
        self.names = Names()
        self.tx = IDLE
        self.n = 0
        self.refused = 0
        self.rows = 0
        self.octets = 0
        self.active = monotonic()
        """When the client last said something, or a statement of its last ended, monotonic seconds."""
        self.began = 0.0
        """Since when at the latest a transaction or statement has been open, monotonic seconds; 0 when none is."""
        self.meter = Meter(judge.limits, aids.spent)
        self.heavy = aids.heavy
        self.costs = aids.costs
        self.own = aids.own
        self.hold = aids.hold
        self.waits = False
        """Whether a statement waits for another person's yes."""
        self.decision: tuple[int, bytes, Refusal | None] | None = None
        """What such a wait has come to: for the statement that would be the next after this number, and its key."""
        self.stop: Callable[[], None] = lambda: None
        """Cancel what the upstream is doing, and let the client wait until that is over."""
        self.recorded: Callable[[], None] = lambda: None
        """Called when what the gate committed is on the disk, or will never be."""
        self.answered: tuple[Judges, bytes, Judgement] | None = None
        """A verdict that was waited for and may be too large for the judge to keep."""
        self.types = types_of(judge)
        keeping = aids.keeping
        self.counted = keeping.level >= COUNTS
        """Whether the record says how many rows there were."""
        self.shown = Shown(keeping, recording, self.types) if keeping.level > COUNTS else None
        """Records what the client is shown of results; None where they are only counted."""
        self.literals: Literals | None = None
        """Takes the values out of texts, where the record may not hold them."""
        if keeping.literals != "keep":
            self.literals = Literals(hashed=keeping.literals == "hash", key=keeping.key)
        self.asked: float | None = None
        """What the text that was asked about last is expected to cost."""
        self.planned: dict[int, float] = {}
        """The same by the numbers of statements that have no outcome yet."""

    def judgement(self, sql: bytes, types: tuple[int, ...] = ()) -> Judgement:
        """The verdict on a text. Raises Pause where it takes so long that others would have to wait for it."""
        judge = self.judge
        if self.monotonic() - self.active > TURN:
            raise Pause(_next_turn)
        found = judge.at_once(sql, types)
        if found is not None:
            return found
        if self.heavy is None:
            return judge.judge(sql, types)
        if self.answered is not None:
            asked, text, found = self.answered
            self.answered = None
            if asked is judge and text == sql:
                return found
        heavy = self.heavy

        async def ask() -> None:
            self.answered = (judge, sql, await heavy(judge, sql, types))

        raise Pause(ask)

    def settle(self, kept: Prepared | Portal | None) -> None:
        """Raise Pause where it is not known yet whether a name means this (None: nothing) upstream.

        What made it was sent before a Sync or Query that is not answered yet. If it fails, the name still means what
        it did before, while messages behind that Sync are carried out: another statement would run than is recorded.
        """
        if kept is not None and kept.group in (SETTLED, self.names.group):
            return
        if self.ledger.ready_owed:
            raise Pause(for_answers)
        if kept is not None:
            kept.group = SETTLED

    def limited(self, judgement: Judgement, types: tuple[int, ...] = ()) -> Ended | None:
        """The limit that does not let these statements begin, None where they may. Raises Pause to ask for a plan."""
        if self.meter.unlimited or self.observe:
            return None
        self.asked = None
        limit = self.meter.limits.plan_cost
        kinds = tuple(statement.kind for statement in judgement.statements)
        if limit is not None and self.costs is not None and not FREE.issuperset(kinds):
            cost = self.costs.known(judgement.forward, types)
            if cost is None:
                costs = self.costs
                raise Pause(lambda: costs.ask(judgement.forward, types))
            if not judgement.veiled and not cost.problem:
                self.asked = cost.units
            if ended := cost.over(limit, veiled=judgement.veiled):
                return ended
        return self.meter.admit(kinds, self.monotonic())

    def approval(self, key: bytes, statement: Statement, values: list[Any] | None) -> Refusal | None:
        """None where another person has said yes to this statement now, else why it may not run. Raises Pause to ask.

        `key` tells it from others that could come at this place. A decision is for one run: each has its number.
        """
        known = self.decision
        if known is not None and known[0] == self.n and known[1] == key:
            return known[2]
        hold = self.hold
        if hold is None:
            return refusal("hold unavailable")
        ask_for = hold

        async def ask() -> None:
            try:
                no = await ask_for(statement, values)
                # What came before in its batch is recorded by now, and nothing else is until it is taken up again.
                self.decision = (self.n, key, no)
            finally:
                self.waits = False

        self.waits = True
        raise Pause(ask)

    def open_for(self, now: float) -> float:
        """For how many seconds a transaction or statement has been open; 0 when none is."""
        if not self.began or (self.tx == IDLE and not self.ledger.entries):
            return 0.0
        return now - self.began

    def record(
        self,
        statement: Statement | None,
        *,
        protocol: str,
        sql: str = "",
        params: list[Any] | None = None,
        name: str | None = None,
        portal: str | None = None,
        kind: str = "",
    ) -> int:
        """Record one statement (None: an empty text) and return its number."""
        self.n = n = self.n + 1
        self.tally.statements += 1
        self.recording.append(self._event(n, statement, protocol, sql, params, name, portal, kind))
        return n

    def record_run(self, prepared: Prepared, params: list[Any] | None, name: str, portal: bytes, *, fresh: bool) -> int:
        """Record that a prepared statement runs (not `fresh`: goes on) through a portal; returns its number.

        The same as `record`, and quicker when the same statement runs again the same way.
        """
        self.n = n = self.n + 1
        self.tally.statements += 1
        run = (name, portal, fresh, self.tx)
        form = prepared.form if prepared.formed == run else None
        if form is None:
            shown = portal.decode("utf-8", "surrogateescape")
            text = "" if prepared.statement is not None else prepared.shown
            kind = "" if fresh else "fetch"
            event = self._event(n, prepared.statement, "extended", text, params, name, shown, kind)
            if prepared.formed != run:
                # Most statements run once: making a form only pays from the second time on.
                prepared.formed, prepared.form = run, None
                self.recording.append(event)
                return n
            form = prepared.form = Form(event)
        self.recording.append_encoded(form.fill(n, params))
        return n

    def _event(
        self,
        n: int,
        statement: Statement | None,
        protocol: str,
        sql: str,
        params: list[Any] | None,
        name: str | None,
        portal: str | None,
        kind: str,
    ) -> events.Statement:
        literals = self.literals
        if statement is None:
            if literals is not None:
                sql = literals.text(sql) or ""
            return events.Statement(
                n=n, sql=sql, params=params, verdict="allow", rule=None, rewritten=None, kind=kind or "empty",
                protocol=protocol, name=name, portal=portal, tx=STATUS[self.tx],
            )  # fmt: skip
        if literals is not None:
            statement = literals.statement(statement)
        return events.Statement(
            n=n,
            sql=statement.sql,
            params=params,
            verdict=statement.verdict,
            rule=statement.rule,
            rewritten=statement.rewritten,
            reason=statement.reason,
            kind=kind or statement.kind,
            protocol=protocol,
            name=name if name is not None else statement.name,
            portal=portal,
            tx=STATUS[self.tx],
            tables=list(statement.tables),
            functions=list(statement.functions),
            columns=statement.columns,
        )

    def plan(self, first: int) -> None:
        """The statements from number `first` on are those of the text that was asked about."""
        if self.asked is not None:
            for n in range(first, self.n + 1):
                self.planned[n] = self.asked

    def outcome(self, entry: Owed, n: int, sqlstate: str | None, tag: str | None, told: Report | None = None) -> None:
        """Record how statement `n` ended, with the rows that `entry` has counted since the one before. `told` is the
        server's error as the client reads it."""
        self.tally.rows += entry.rows
        now = self.monotonic()
        if not self.counted:
            entry.rows = entry.octets = 0
            tag = None if tag is None else tag.rstrip("0123456789 ")
        self.rows += entry.rows
        self.octets += entry.octets
        ms = milliseconds(now - entry.started)
        rows, octets = entry.rows, entry.octets
        event = events.Outcome(n=n, rows=rows, bytes=octets, ms=ms, sqlstate=sqlstate, tag=tag)
        if entry.first or told is not None or self.shown is not None or self.planned or not self.counted:
            event = self._more(event, entry, told)
        self.recording.append(event)
        entry.rows = entry.octets = 0
        entry.first = 0.0
        entry.started = self.active = now

    def _more(self, event: events.Outcome, entry: Owed, told: Report | None) -> events.Outcome:
        """An outcome with what most have nothing of."""
        n = event.n
        return replace(
            event,
            counted=self.counted,
            first_ms=milliseconds(entry.first - entry.started) if entry.first else None,
            plan_cost=self.planned.pop(n, None) if self.planned else None,
            digest=self.shown.ended(n) if self.shown is not None else None,
            error=told.text if told is not None else "",
            detail=told.detail if told is not None else "",
            hint=told.hint if told is not None else "",
            position=(told.position or None) if told is not None else None,
        )

    def fail(self, entry: Owed, sqlstate: str, told: Report | None = None) -> bool:
        """Every statement of `entry` that has not ended yet ends with `sqlstate`, the first of them with the error that
        the client was `told`; returns whether there was one."""
        if not entry.n or entry.done >= entry.count:
            return False
        for n in range(entry.n + entry.done, entry.n + entry.count):
            self.outcome(entry, n, sqlstate, None, told)
            told = None
        entry.done = entry.count
        return True

    def told(self, body: bytes) -> Report:
        """An error or notice that the client reads, for the record."""
        return report(body) if self.literals is None else self.literals.told(body)

    def note(self, told: Report) -> None:
        """Record what the server told the client beside the answers to statements."""
        self.recording.append(
            events.Notice(
                severity=told.severity,
                sqlstate=told.sqlstate,
                text=told.text,
                detail=told.detail,
                hint=told.hint,
                source="server",
            )
        )

    def denied(self, n: int, sqlstate: str, rule: str) -> None:
        """Record that statement `n` was refused and never sent."""
        self.refused += 1
        denied = self.tally.denied
        denied[rule] = denied.get(rule, 0) + 1
        cost = self.planned.pop(n, None) if self.planned else None
        self.recording.append(
            events.Outcome(n=n, rows=0, bytes=0, ms=0.0, sqlstate=sqlstate, sent=False, plan_cost=cost)
        )
