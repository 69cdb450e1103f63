"""Steps on their way to those who are told of them: what is due for which sink, what was delivered, what was given up.

Knows no network and no form of a message. A sink is a name with globs of actions. Invariants: a step is entered for a
sink once, in the order in which steps happened, and stays due until it was delivered or is a day old; nothing here
waits for a sink.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import tables
from proxy.access.quiet import Quiet
from proxy.access.store import Store
from proxy.clock import Clock

DIGEST: Final = "digest.made"
"""The step of a digest. It names the sinks that it is for, and no glob of another one's fits it."""
GIVE_UP: Final = timedelta(days=1)
KEEP: Final = timedelta(days=30)
LONGEST_WAIT: Final = 300.0
"""Seconds between two tries: a sink that comes back hears of all within five minutes."""
_ENTERED_AT_ONCE: Final = 500
_LONGEST_ERROR: Final = 300


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it was recorded. `action` is the full name: a grant's own begin with `grant.`."""

    id: int
    at: datetime
    action: str
    detail: dict[str, Any]
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a sink stands: when something was last delivered, how much waits, how much was given up, the last error."""

    last: datetime | None
    backlog: int
    given_up: int
    error: str | None


def full_name(action: str) -> str:
    """`revoked` → `grant.revoked`; an action with a dot is full already."""
    return action if "." in action else f"grant.{action}"


def wanted(globs: Sequence[str], action: str) -> bool:
    """Whether a sink with these globs is told of `action`, by its full name or as the record has it."""
    return action != DIGEST and any(fnmatchcase(full_name(action), glob) or fnmatchcase(action, glob) for glob in globs)


def wait_after(tries: int) -> float:
    """Seconds until the next try, after so many."""
    return min(LONGEST_WAIT, 2.0 ** min(tries - 1, 20))


class Outbox:
    """The outbox of a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def quiet(self) -> Quiet:
        """For a round over these that is left out while nobody writes."""
        return Quiet(self._store, self._clock)

    async def due(self, sink: str, globs: Sequence[str], limit: int = 50) -> list[Step]:
        """The next steps for `sink`, the oldest first. A sink that was never seen begins with what happens from now on.

        Raises StoreError.
        """
        fact, steps, deliveries = f"notify.{sink}", tables.steps, tables.deliveries
        async with self._store.read() as connection:
            entered = await _fact(connection, fact)
            newest = await _newest(connection)
        if entered is None or newest > entered:
            await self._enter(sink, fact, globs)
        columns = deliveries.c
        query = (
            sa.select(steps.c.id, steps.c.at, steps.c.action, steps.c.detail, columns.tries)
            .join(deliveries, columns.step == steps.c.id)
            .where(columns.sink == sink, columns.done_at.is_(None), columns.next_at <= self._clock.now())
            .order_by(steps.c.id)
            .limit(limit)
        )
        async with self._store.read() as connection:
            rows = (await connection.execute(query)).all()
        return [Step(row.id, row.at, full_name(row.action), json.loads(row.detail), row.tries) for row in rows]

    async def _enter(self, sink: str, fact: str, globs: Sequence[str]) -> None:
        """Steps are committed in the order of their ids (`Store.write`), so none comes later below the mark."""
        now, steps = self._clock.now(), tables.steps
        async with self._store.write() as connection:
            entered = await _fact(connection, fact)
            if entered is None:
                values = {"name": fact, "value": str(await _newest(connection))}
                await connection.execute(tables.facts.insert().values(values))
                return
            query = sa.select(steps.c.id, steps.c.action).where(steps.c.id > entered).order_by(steps.c.id)
            rows = (await connection.execute(query.limit(_ENTERED_AT_ONCE))).all()
            if not rows:
                return
            new = [{"step": row.id, "sink": sink, "tries": 0, "next_at": now} for row in rows if wanted(globs, row[1])]
            if new:
                await connection.execute(tables.deliveries.insert(), new)
            facts = tables.facts
            await connection.execute(sa.update(facts).where(facts.c.name == fact).values(value=str(rows[-1].id)))

    async def delivered(self, step: Step, sink: str) -> None:
        """It has arrived. Raises StoreError: it is then delivered again, under the same id."""
        await self._set(step, sink, tries=step.tries + 1, done_at=self._clock.now(), error=None)

    async def failed(self, step: Step, sink: str, error: str) -> bool:
        """It has not arrived: it is due again later. True where it is given up: it is a day old."""
        now, tries = self._clock.now(), step.tries + 1
        given_up = now - step.at >= GIVE_UP
        next_at = now + timedelta(seconds=wait_after(tries))
        values: dict[str, Any] = {"tries": tries, "next_at": next_at, "error": error[:_LONGEST_ERROR]}
        await self._set(step, sink, **values | ({"done_at": now} if given_up else {}))
        return given_up

    async def give_up(self, sink: str, error: str) -> int:
        """The sink cannot be reached at all: what waits for it and is a day old is given up. How many."""
        now, columns, steps = self._clock.now(), tables.deliveries.c, tables.steps.c
        old = sa.select(steps.id).where(steps.at <= now - GIVE_UP)
        query = sa.update(tables.deliveries).where(
            columns.sink == sink, columns.done_at.is_(None), columns.step.in_(old)
        )
        async with self._store.write() as connection:
            return (await connection.execute(query.values(done_at=now, error=error[:_LONGEST_ERROR]))).rowcount

    async def _set(self, step: Step, sink: str, **values: Any) -> None:
        columns = tables.deliveries.c
        query = sa.update(tables.deliveries).where(columns.step == step.id, columns.sink == sink)
        async with self._store.write() as connection:
            await connection.execute(query.values(values))

    async def standing(self, sink: str) -> Standing:
        """How `sink` stands."""
        columns = tables.deliveries.c
        waits = columns.done_at.is_(None)
        query = sa.select(
            sa.func.max(sa.case((columns.error.is_(None), columns.done_at))),
            sa.func.count().filter(waits),
            sa.func.count().filter(columns.error.is_not(None), ~waits),
        ).where(columns.sink == sink)
        failed = sa.select(columns.error).where(columns.sink == sink, columns.error.is_not(None), waits)
        async with self._store.read() as connection:
            last, backlog, given_up = (await connection.execute(query)).one()
            error = (await connection.execute(failed.order_by(columns.next_at.desc()).limit(1))).scalar()
        return Standing(last, backlog, given_up, error)

    async def prune(self, sinks: Sequence[str]) -> int:
        """Removes steps older than 30 days that wait for none of these sinks. How many.

        The newest one stays: the next is numbered after it, and a number is never given twice.
        """
        steps, columns = tables.steps.c, tables.deliveries.c
        waiting = sa.select(columns.step).where(columns.done_at.is_(None), columns.sink.in_(sinks))
        async with self._store.write() as connection:
            entered = [mark for sink in sinks if (mark := await _fact(connection, f"notify.{sink}")) is not None]
            bound = min([await _newest(connection) - 1, *entered])
            old = [steps.at <= self._clock.now() - KEEP, steps.id <= bound, steps.id.not_in(waiting)]
            gone = sa.select(steps.id).where(*old)
            await connection.execute(sa.delete(tables.deliveries).where(columns.step.in_(gone)))
            return (await connection.execute(sa.delete(tables.steps).where(*old))).rowcount


async def _fact(connection: AsyncConnection, name: str) -> int | None:
    query = sa.select(tables.facts.c.value).where(tables.facts.c.name == name)
    value = (await connection.execute(query)).scalar()
    return None if value is None else int(value)


async def _newest(connection: AsyncConnection) -> int:
    return int((await connection.execute(sa.select(sa.func.coalesce(sa.func.max(tables.steps.c.id), 0)))).scalar_one())
