"""Single statements that wait for another person's yes: asked for by a session, decided by somebody, elsewhere.

Knows no sessions and no SQL beyond the text it shows. Invariants: a hold leaves `waiting` once, so what was decided
and what was given up exclude each other; nobody decides about his own statement; each decision is recorded first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import steps, tables
from proxy.access.grants import GrantError, new_id, one_line, row_of
from proxy.access.model import clock_time, person_key
from proxy.access.store import Emit, Store, untold
from proxy.clock import Clock

State = Literal["waiting", "approved", "denied", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True)
class Hold:
    """One statement that waits or waited. `approvers`: the groups that may decide; none: anybody but the person."""

    id: str
    session: str
    grant: str
    person: str
    database: str
    sql: str
    rule: str
    reason: str
    approvers: tuple[str, ...]
    asked_at: datetime
    ends_at: datetime
    state: State
    decided_at: datetime | None = None
    decided_by: str | None = None
    decided_why: str | None = None


_COLUMNS: Final = [tables.holds.c[name] for name in Hold.__slots__]


class Holds:
    """The holds in a store. `groups` maps a group's name to its people."""

    def __init__(
        self, store: Store, clock: Clock, emit: Emit | None = None, groups: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._emit: Emit = emit if emit is not None else untold
        self._groups = groups or {}

    async def ask(
        self,
        *,
        session: str,
        grant: str,
        person: str,
        database: str,
        sql: str,
        rule: str,
        reason: str,
        approvers: Sequence[str],
        seconds: float,
    ) -> Hold:
        """A session asks for a statement. Raises StoreError."""
        now = self._clock.now()
        hold = Hold(
            id=new_id("h", self._clock),
            session=session,
            grant=grant,
            person=person,
            database=database,
            sql=sql,
            rule=rule,
            reason=reason,
            approvers=tuple(approvers),
            asked_at=now,
            ends_at=now + timedelta(seconds=seconds),
            state="waiting",
        )
        async with self._store.write() as connection:
            values = {name: getattr(hold, name) for name in Hold.__slots__}
            await connection.execute(tables.holds.insert().values(values | {"approvers": json.dumps(hold.approvers)}))
            detail = {"hold": hold.id, "session": session, "grant": grant, "by": person, "database": database}
            await self._step(connection, "hold.asked", detail | {"why": reason, "ends_at": hold.ends_at})
        return hold

    async def decide(self, id: str, *, approved: bool, by: str, reason: str) -> Hold:
        """Somebody's yes or no. Raises GrantError where he may not, or it is too late."""
        by, reason = one_line("by", by), one_line("reason", reason)
        now = self._clock.now()
        async with self._store.write() as connection:
            hold = await _get(connection, id)
            if person_key(by) == person_key(hold.person):
                raise GrantError(f"{by} cannot decide about {id}: it is a statement of {hold.person}'s own session")
            people = {person_key(name) for group in hold.approvers for name in self._groups.get(group, ())}
            if hold.approvers and person_key(by) not in people:
                raise GrantError(f"{by} cannot decide about {id}: its policy asks {' or '.join(hold.approvers)}")
            if hold.state != "waiting":
                when = clock_time(hold.decided_at or now)
                raise GrantError(f"{id} no longer waits: {hold.state} at {when}: {hold.decided_why}")
            if now >= hold.ends_at:
                raise GrantError(f"{id} waited until {clock_time(hold.ends_at)}: it is too late")
            state: State = "approved" if approved else "denied"
            return await self._close(connection, hold, state, by=by, why=reason)

    async def give_up(self, id: str, state: Literal["timeout", "cancelled"], why: str) -> bool:
        """Nobody waits any more. False where it was decided before."""
        async with self._store.write() as connection:
            hold = await _get(connection, id)
            if hold.state != "waiting":
                return False
            await self._close(connection, hold, state, by="daypass", why=why)
        return True

    async def put_text(self, id: str, sql: str) -> None:
        """Puts another text in the place of what was asked for, once nobody needs to read it any more."""
        async with self._store.write() as connection:
            await connection.execute(sa.update(tables.holds).where(tables.holds.c.id == id).values(sql=sql))

    async def decided(self, ids: Collection[str]) -> dict[str, Hold]:
        """Those of `ids` that no longer wait."""
        query = sa.select(*_COLUMNS).where(tables.holds.c.id.in_(list(ids)), tables.holds.c.state != "waiting")
        async with self._store.read() as connection:
            return {row["id"]: _hold(row) for row in (await connection.execute(query)).mappings()}

    async def all(self, *, waiting: bool = True, limit: int = 200) -> list[Hold]:
        """Holds, the newest first; `waiting`: only those that can still be decided."""
        query = sa.select(*_COLUMNS).order_by(tables.holds.c.asked_at.desc(), tables.holds.c.id).limit(limit)
        if waiting:
            query = query.where(tables.holds.c.state == "waiting", tables.holds.c.ends_at > self._clock.now())
        async with self._store.read() as connection:
            return [_hold(row) for row in (await connection.execute(query)).mappings()]

    async def get(self, id: str) -> Hold:
        """One hold. Raises GrantNotFound."""
        async with self._store.read() as connection:
            return await _get(connection, id)

    async def _close(self, connection: AsyncConnection, hold: Hold, state: State, *, by: str, why: str) -> Hold:
        values: dict[str, Any] = {"state": state, "decided_at": self._clock.now(), "decided_by": by, "decided_why": why}
        mine = sa.update(tables.holds).where(tables.holds.c.id == hold.id, tables.holds.c.state == "waiting")
        if not (await connection.execute(mine.values(values))).rowcount:
            raise GrantError(f"{hold.id} was decided by somebody else at this moment; look again")
        detail = {"hold": hold.id, "session": hold.session, "grant": hold.grant, "by": by, "reason": why}
        await self._step(connection, f"hold.{state}", detail)
        return Hold(**{name: values.get(name, getattr(hold, name)) for name in Hold.__slots__})

    async def _step(self, connection: AsyncConnection, action: str, detail: dict[str, Any]) -> None:
        await steps.take(connection, self._emit, self._clock.now(), action, detail)


async def _get(connection: AsyncConnection, id: str) -> Hold:
    return _hold(await row_of(connection, tables.holds, _COLUMNS, id, "hold"))


def _hold(row: sa.RowMapping) -> Hold:
    values = {name: row[name] for name in Hold.__slots__}
    return Hold(**values | {"approvers": tuple(json.loads(values["approvers"]))})
