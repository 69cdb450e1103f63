"""Delegations: for a while somebody may give another person's voice on requests.

Never to oneself, never a voice that was itself delegated, and never for a request that either of the two has asked for
or is to get in by (`approvals` refuses those). Invariants: only who has a voice gives it away, or takes it back; who is
disabled neither gives nor is given one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.grants import GrantError, new_id, one_line
from proxy.access.model import clock_time, person_key
from proxy.access.requests import refuse_disabled
from proxy.access.store import Emit, Store
from proxy.clock import Clock


@dataclass(frozen=True, slots=True)
class Delegation:
    """`to_whom` may speak for `from_whom` from `starts_at` to `ends_at`, unless `ended_at` comes before."""

    id: str
    from_whom: str
    to_whom: str
    starts_at: datetime
    ends_at: datetime
    reason: str
    ended_at: datetime | None

    def stands(self, now: datetime) -> bool:
        """Whether it counts at `now`."""
        return self.ended_at is None and self.starts_at <= now < self.ends_at


_COLUMNS: Final = [tables.delegations.c[field.name] for field in dataclasses.fields(Delegation)]


class Delegations:
    """The delegations in a store."""

    def __init__(self, store: Store, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit

    async def create(
        self, *, from_whom: str, to_whom: str, until: datetime, reason: str, by: str, starts_at: datetime | None = None
    ) -> Delegation:
        """A new one; only `from_whom` himself gives it. Raises GrantError."""
        now = self._clock.now()
        made = Delegation(
            id=new_id("d", self._clock),
            from_whom=one_line("from", from_whom),
            to_whom=one_line("to", to_whom),
            starts_at=starts_at or now,
            ends_at=until,
            reason=one_line("reason", reason),
            ended_at=None,
        )
        if person_key(made.from_whom) == person_key(made.to_whom):
            raise GrantError(f"{made.from_whom} speaks for himself already")
        if person_key(by) != person_key(made.from_whom):
            raise GrantError(f"only {made.from_whom} can give this voice away, not {by}")
        if until <= max(now, made.starts_at):
            raise GrantError(f"that time is over: it would end at {clock_time(until)}")
        async with self._store.write() as connection:
            for person in (made.from_whom, made.to_whom):
                await refuse_disabled(connection, person)
            await connection.execute(tables.delegations.insert().values(dataclasses.asdict(made)))
            await self._step(connection, "delegation.created", made, by, reason=made.reason)
        return made

    async def end(self, id: str, *, by: str, reason: str) -> Delegation:
        """Takes it back, or gives it back: either of the two may. Raises GrantError."""
        reason, now = one_line("reason", reason), self._clock.now()
        async with self._store.write() as connection:
            query = sa.select(*_COLUMNS).where(
                tables.delegations.c.id == (id if id.isascii() and id.isprintable() else "")
            )
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise GrantError(f"there is no delegation {id!r}")
            found = Delegation(**row)
            if person_key(by) not in {person_key(found.from_whom), person_key(found.to_whom)}:
                raise GrantError(f"only {found.from_whom} or {found.to_whom} can end {id}")
            if found.ended_at is not None or now >= found.ends_at:
                raise GrantError(f"{id} has ended at {clock_time(found.ended_at or found.ends_at)}")
            mine = sa.update(tables.delegations).where(tables.delegations.c.id == id)
            await connection.execute(mine.values(ended_at=now))
            await self._step(connection, "delegation.ended", found, by, reason=reason)
        return dataclasses.replace(found, ended_at=now)

    async def all(self) -> list[Delegation]:
        """Every one, that which ends last first."""
        query = sa.select(*_COLUMNS).order_by(tables.delegations.c.ends_at.desc(), tables.delegations.c.id)
        async with self._store.read() as connection:
            return [Delegation(**row) for row in (await connection.execute(query)).mappings()]

    async def _step(self, connection: Any, action: str, made: Delegation, by: str, *, reason: str) -> None:
        detail: dict[str, Any] = {
            "by": by,
            "delegation": made.id,
            "person": made.from_whom,
            "to": made.to_whom,
            "reason": reason,
        }
        if action == "delegation.created":
            detail |= {"starts_at": made.starts_at, "ends_at": made.ends_at}
        await steps.take(connection, self._emit, self._clock.now(), action, detail)
