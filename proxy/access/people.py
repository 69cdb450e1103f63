"""People who must not have access any more: disabled, with everything that is theirs, and enabled again.

Knows people by the names that they act under (`model.person_key`). Invariants: disabling is one transaction, so nobody
is half disabled; what it ended stays ended; whoever got something in the same moment loses it in the next round
(`sweep`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import steps, tables
from proxy.access.grants import GrantError, Grants, grant_columns, grant_of, one_line
from proxy.access.model import Grant, clock_time, person_key
from proxy.access.store import Emit, Store
from proxy.clock import Clock

BY: Final = "daypass"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has or had access, or who was disabled. `live`: the grants that are not over."""

    person: str
    live: int
    grants: int
    disabled_at: datetime | None = None
    disabled_by: str | None = None
    disable_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What disabling somebody has ended, by id. `approvals`: the waiting requests in which theirs no longer count."""

    grants: list[str]
    requests: list[str]
    delegations: list[str]
    approvals: list[str]


class People:
    """The people of an installation."""

    def __init__(self, store: Store, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit
        self._grants = Grants(store, clock, emit)

    async def disable(self, person: str, *, reason: str, by: str) -> Ended:
        """Ends everything of theirs, and lets them begin nothing. Raises GrantError where they are disabled already."""
        person, reason, by = one_line("person", person), one_line("reason", reason), one_line("by", by)
        key, now, columns = person_key(person), self._clock.now(), tables.people.c
        async with self._store.write() as connection:
            row = (await connection.execute(sa.select(tables.people).where(columns.key == key))).mappings().first()
            if row is not None and row["disabled_at"] is not None:
                when = clock_time(row["disabled_at"])
                raise GrantError(f"{row['person']} was disabled at {when} by {row['disabled_by']}")
            values = {"disabled_at": now, "disabled_by": by, "disable_reason": reason}
            if row is None:
                await connection.execute(tables.people.insert().values(key=key, person=person, **values))
            else:
                await connection.execute(sa.update(tables.people).where(columns.key == key).values(values))
            detail = {"person": person, "by": by, "reason": reason}
            await steps.take(connection, self._emit, now, "person.disabled", detail)
            return await self._end_all(connection, key, by=by, why=f"{person} was disabled: {reason}"[:500])

    async def enable(self, person: str, *, reason: str, by: str) -> None:
        """They may be given access again; nothing comes back by itself. Raises GrantError where they may already."""
        reason, by = one_line("reason", reason), one_line("by", by)
        columns, key = tables.people.c, person_key(person)
        mine = sa.update(tables.people).where(columns.key == key, columns.disabled_at.is_not(None))
        async with self._store.write() as connection:
            nothing = {"disabled_at": None, "disabled_by": None, "disable_reason": None}
            if not (await connection.execute(mine.values(nothing))).rowcount:
                raise GrantError(f"{person} is not disabled")
            detail = {"person": person, "by": by, "reason": reason}
            await steps.take(connection, self._emit, self._clock.now(), "person.enabled", detail)

    async def all(self) -> list[Person]:
        """Everybody who has or had a grant or was disabled, by name."""
        now, known = self._clock.now(), tables.people.c
        async with self._store.read() as connection:
            rows = (await connection.execute(sa.select(tables.people))).mappings().all()
            query = sa.select(*grant_columns()).order_by(tables.grants.c.created_at)
            grants = [grant_of(row) for row in (await connection.execute(query)).mappings()]
        marks = {row[known.key.name]: row for row in rows}
        theirs: dict[str, list[Grant]] = {key: [] for key in marks}
        for grant in grants:
            theirs.setdefault(person_key(grant.person), []).append(grant)
        found = []
        for key, mine in theirs.items():
            mark: Any = marks.get(key)
            live = sum(grant.state(now) not in {"expired", "revoked"} for grant in mine)
            name = mark["person"] if mark is not None else mine[-1].person
            rest = () if mark is None else (mark["disabled_at"], mark["disabled_by"], mark["disable_reason"])
            found.append(Person(name, live, len(mine), *rest))
        return sorted(found, key=lambda one: person_key(one.person))

    async def sweep(self) -> list[str]:
        """Ends what disabled people have nevertheless: it was given while they were disabled. The ids of the grants."""
        columns = tables.people.c
        disabled = sa.select(columns.key, columns.person, columns.disable_reason).where(
            columns.disabled_at.is_not(None)
        )
        async with self._store.read() as connection:
            rows = {row.key: row for row in await connection.execute(disabled)}
            live = await _live(connection) if rows else []
        found = []
        for key in {person_key(grant.person) for grant in live} & rows.keys():
            async with self._store.write() as connection:
                why = f"{rows[key].person} was disabled: {rows[key].disable_reason}"[:500]
                found += (await self._end_all(connection, key, by=BY, why=why)).grants
        return found

    async def _end_all(self, connection: AsyncConnection, key: str, *, by: str, why: str) -> Ended:
        ended = Ended([], [], [], [])
        for grant in await _live(connection):
            if person_key(grant.person) == key:
                await self._grants.revoke(grant.id, reason=why, by=by, why="person", connection=connection)
                ended.grants.append(grant.id)
        now, columns = self._clock.now(), tables.requests.c
        query = sa.select(columns.id, columns.person, columns.created_by).where(columns.state == "requested")
        for row in (await connection.execute(query)).all():
            if key not in {person_key(row.person), person_key(row.created_by)}:
                continue
            state = "denied" if person_key(row.person) == key else "withdrawn"
            mine = sa.update(tables.requests).where(columns.id == row.id, columns.state == "requested")
            values = {"state": state, "decided_at": now, "decided_by": by, "decided_why": why}
            if (await connection.execute(mine.values(version=columns.version + 1, **values))).rowcount:
                detail = {"request": row.id, "by": by, "person": row.person, "reason": why}
                await steps.take(connection, self._emit, now, f"request.{state}", detail)
                ended.requests.append(row.id)
        ended.approvals.extend(await self._unsay(connection, key, by=by, why=why))
        passed = tables.delegations.c
        standing = sa.select(tables.delegations).where(passed.ended_at.is_(None), passed.ends_at > now)
        for row in (await connection.execute(standing)).all():
            if key in {person_key(row.from_whom), person_key(row.to_whom)}:
                mine = sa.update(tables.delegations).where(passed.id == row.id)
                await connection.execute(mine.values(ended_at=now))
                detail = {"delegation": row.id, "by": by, "from": row.from_whom, "to": row.to_whom, "reason": why}
                await steps.take(connection, self._emit, now, "delegation.ended", detail)
                ended.delegations.append(row.id)
        return ended

    async def _unsay(self, connection: AsyncConnection, key: str, *, by: str, why: str) -> list[str]:
        """What they have approved, themselves or through a delegate or as one, no longer counts where it is undecided.

        Kept as a mark, so that it stays so when they are enabled again. The requests.
        """
        now, given, asked = self._clock.now(), tables.approvals.c, tables.requests.c
        query = (
            sa.select(given.request, given.by_key, given.by, given.for_whom, asked.person)
            .join(tables.requests, asked.id == given.request)
            .where(asked.state == "requested", given.void_at.is_(None))
            .order_by(given.request, given.at)
        )
        unsaid = []
        for row in (await connection.execute(query)).all():
            if key not in {row.by_key, person_key(row.for_whom or "")}:
                continue
            mine = sa.update(tables.approvals).where(given.request == row.request, given.by_key == row.by_key)
            await connection.execute(mine.values(void_at=now, void_why=why))
            detail = {"request": row.request, "by": by, "person": row.person, "approver": row.by, "reason": why}
            if row.for_whom is not None:
                detail["for"] = row.for_whom
            await steps.take(connection, self._emit, now, "request.unsaid", detail)
            unsaid.append(row.request)
        return unsaid


async def _live(connection: AsyncConnection) -> list[Grant]:
    """The grants that nobody has revoked and whose end is not on the record."""
    columns = tables.grants.c
    query = sa.select(*grant_columns()).where(columns.revoked_at.is_(None), columns.ended_at.is_(None))
    return [grant_of(row) for row in (await connection.execute(query)).mappings()]
