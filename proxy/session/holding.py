"""Statements of this process's sessions that wait for another person's yes.

A session asks, its client's lane waits, and one round looks for all of them whether somebody has decided, whether the
time is up. Time is the clock object's. Invariants: what waits ends in exactly one way; a statement is let go only by a
decision that stands in the state; a wait that its session gave up is marked so there, sooner or later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import structlog

from proxy.access.holds import Hold, Holds
from proxy.access.model import Grant
from proxy.access.store import StoreError
from proxy.clock import Clock
from proxy.policy.judge import Judges
from proxy.policy.judgement import Statement
from proxy.policy.model import Hold as Rule
from proxy.session.refusals import Refusal, refusal
from proxy.session.relay import Relay
from proxy.units import format_duration
from recorder.events import HoldEvent
from recorder.files import RecordError

log = structlog.get_logger()

OVERTIME: Final = 5.0
"""Seconds beyond its time after which a wait ends although the state cannot be asked."""
TOO_LATE: Final = "nobody decided in time"
GONE: Final = "the client no longer waits"

Ending = Literal["approved", "denied", "timeout", "cancelled", "unavailable"]


@dataclass(frozen=True, slots=True)
class Decision:
    """How a wait ended. `hold` is its id, `by` and `why` what the approver said: for the record, not for the client."""

    ending: Ending
    hold: str = ""
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What waits: the statement as the client sent it, with its values, and as it would run; and who decides."""

    sql: str
    rule: str
    reason: str
    approvers: tuple[str, ...]
    seconds: float


NO: Final = {
    "denied": "hold denied",
    "timeout": "hold timeout",
    "cancelled": "cancelled",
    "unavailable": "hold unavailable",
}
"""The refusals of the endings that are none of a yes."""


@dataclass(slots=True)
class _Waiting:
    hold: Hold
    session: str
    deadline: float
    ended: asyncio.Future[Decision]


@dataclass(slots=True)
class Holding:
    """All waits of one process."""

    holds: Holds
    clock: Clock
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _given_up: dict[str, Literal["timeout", "cancelled"]] = field(default_factory=dict)
    """Holds whose row does not say yet that nobody waits any more."""

    async def wait(self, session: str, grant: Grant, asked: Asked, told: Callable[[Hold], None]) -> Decision:
        """Ask, call `told` once it is asked, and wait. Never raises but when it is cancelled."""
        try:
            hold = await self.holds.ask(
                session=session,
                grant=grant.id,
                person=grant.person,
                database=grant.database,
                sql=asked.sql,
                rule=asked.rule,
                reason=asked.reason,
                approvers=asked.approvers,
                seconds=asked.seconds,
            )
        except (StoreError, RecordError) as problem:
            log.error("hold_unavailable", session=session, reason=str(problem))
            return Decision("unavailable")
        ended: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        deadline = self.clock.monotonic() + asked.seconds
        self._waiting[hold.id] = _Waiting(hold, session, deadline, ended)
        log.warning("statement_held", session=session, grant=grant.id, hold=hold.id, reason=asked.reason)
        told(hold)
        try:
            return await ended
        finally:
            self._waiting.pop(hold.id, None)

    async def approval(
        self, relay: Relay, grant: Grant, statement: Statement, values: list[Any] | None
    ) -> Refusal | None:
        """Wait for another person's yes to a statement of a session: None, or why it may not run. All is recorded."""
        recording = relay.talk.recording
        hold = hold_of(relay.talk.judge)
        lines = [statement.sql]
        if statement.rewritten is not None:
            lines += ["-- as it would run:", statement.rewritten]
        if values:
            lines.append(f"-- values: {values!r}")
        asked = Asked("\n".join(lines), statement.rule, statement.reason, tuple(hold.from_), hold.timeout)

        def told(made: Hold) -> None:
            recording.append(
                HoldEvent(
                    hold=made.id,
                    state="waiting",
                    sql=statement.sql,
                    params=values,
                    rule=statement.rule,
                    reason=statement.reason,
                )
            )
            text = f"daypass: this statement waits for an approval, {made.id}, at most {format_duration(hold.timeout)}"
            relay.notice(text, hint="cancel it (Ctrl-C) if you do not want to wait")

        decision = await self.wait(recording.id, grant, asked, told)
        if not relay.ended:
            recording.append(HoldEvent(hold=decision.hold, state=decision.ending, by=decision.by, reason=decision.why))
        if decision.ending == "approved":
            return None
        return refusal(NO[decision.ending], why=decision.why)

    def cancel(self, session: str) -> bool:
        """The session no longer waits; whether it did."""
        found = [one for one in self._waiting.values() if one.session == session and not one.ended.done()]
        for one in found:
            self._give_up(one, "cancelled")
        return bool(found)

    async def round(self) -> None:
        """Look whether something was decided, or its time is up. Raises StoreError, RecordError: tried again."""
        if not self._waiting and not self._given_up:
            return
        try:
            await self._look()
        finally:
            # Also where the state cannot be reached: what nobody can decide in time does not run.
            now = self.clock.monotonic()
            for one in self._waiting.values():
                if now >= one.deadline + OVERTIME and not one.ended.done():
                    self._give_up(one, "timeout")

    async def _look(self) -> None:
        open_ = [id for id, one in self._waiting.items() if not one.ended.done()]
        if open_:
            for id, hold in (await self.holds.decided(open_)).items():
                ending: Ending = "approved" if hold.state == "approved" else "denied"
                self._end(id, Decision(ending, id, hold.decided_by or "", hold.decided_why or ""))
        now = self.clock.monotonic()
        for id, one in list(self._waiting.items()):
            # What was decided at this very moment is found in the next round.
            if now >= one.deadline and not one.ended.done() and await self.holds.give_up(id, "timeout", TOO_LATE):
                self._end(id, Decision("timeout", id, "", TOO_LATE))
        for id, state in list(self._given_up.items()):
            await self.holds.give_up(id, state, TOO_LATE if state == "timeout" else GONE)
            self._given_up.pop(id, None)

    def _end(self, id: str, decision: Decision) -> None:
        one = self._waiting.get(id)
        if one is not None and not one.ended.done():
            one.ended.set_result(decision)

    def _give_up(self, one: _Waiting, state: Literal["timeout", "cancelled"]) -> None:
        self._given_up[one.hold.id] = state
        one.ended.set_result(Decision(state, one.hold.id, "", TOO_LATE if state == "timeout" else GONE))


def hold_of(judge: Judges) -> Rule:
    """Who decides and for how long: as the policy file says now, else as the grant pins it."""
    return next(part.policy.model.hold for part in reversed(judge.parts) if part.policy.model.hold is not None)
