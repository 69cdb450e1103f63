"""Digests: which period is due for whom, and that its digest goes out once, whatever dies between two steps.

Knows neither recordings nor how a digest reads: it takes the sums as a value. Invariant: the mark of a period, the step
and its deliveries are one transaction, and whoever comes second finds the mark moved; so no period is told twice under
two ids, none is left out, and none reaches anybody but whom it names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import tables
from proxy.access.model import rfc3339
from proxy.access.outbox import DIGEST
from proxy.access.schedule import Schedule, last_due, next_due
from proxy.access.steps import BY
from proxy.access.store import Emit, Store
from proxy.clock import Clock


@dataclass(frozen=True, slots=True)
class Period:
    """`since` ≤ time < `until`."""

    since: datetime
    until: datetime


class Digests:
    """The digests of what is recorded in one place (`place`): hosts that share a state record each for themselves."""

    def __init__(self, store: Store, clock: Clock, emit: Emit, place: str) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit
        self._place = place

    async def period(self, name: str, schedule: Schedule) -> Period:
        """The period that is the next to be told: it may not be over yet. One that was never seen begins with the one
        that runs. Raises StoreError."""
        async with self._store.read() as connection:
            mark = await self._mark(connection, name)
        if mark is None:
            async with self._store.write() as connection:
                mark = await self._mark(connection, name)
                if mark is None:
                    mark = last_due(schedule, self._clock.now())
                    values = {"name": self._fact(name), "value": rfc3339(mark)}
                    await connection.execute(tables.facts.insert().values(values))
        return Period(mark, next_due(schedule, mark))

    async def seen(self, name: str) -> datetime | None:
        """Up to when it was told; None where it was never seen."""
        async with self._store.read() as connection:
            return await self._mark(connection, name)

    async def enter(self, name: str, period: Period, to: Sequence[str], facts: dict[str, Any], document: Any) -> bool:
        """Tell the sinks `to` of a period. `facts` are recorded too, `document` (which JSON can hold) is not. False
        where another was first. Raises StoreError, and what `emit` raises."""
        now = self._clock.now()
        detail = {"by": BY, "digest": name, "since": rfc3339(period.since), "until": rfc3339(period.until)}
        detail |= {"to": [*to]} | facts
        async with self._store.write() as connection:
            if not await self._move(connection, name, period):
                return False
            self._emit(DIGEST, detail)
            text = json.dumps(detail | {"document": document}, ensure_ascii=False)
            step = await connection.execute(tables.steps.insert().values(at=now, action=DIGEST, detail=text))
            id_ = step.inserted_primary_key[0] if step.inserted_primary_key else None
            owed = [{"step": id_, "sink": sink, "tries": 0, "next_at": now} for sink in dict.fromkeys(to)]
            await connection.execute(tables.deliveries.insert(), owed)
        return True

    async def skip(self, name: str, period: Period) -> bool:
        """There is nothing to tell of a period. Raises StoreError."""
        async with self._store.write() as connection:
            return await self._move(connection, name, period)

    async def _move(self, connection: AsyncConnection, name: str, period: Period) -> bool:
        columns = tables.facts.c
        mine = sa.update(tables.facts).where(columns.name == self._fact(name), columns.value == rfc3339(period.since))
        return bool((await connection.execute(mine.values(value=rfc3339(period.until)))).rowcount)

    async def _mark(self, connection: AsyncConnection, name: str) -> datetime | None:
        query = sa.select(tables.facts.c.value).where(tables.facts.c.name == self._fact(name))
        value = (await connection.execute(query)).scalar()
        return None if value is None else datetime.fromisoformat(value)

    def _fact(self, name: str) -> str:
        return f"digest.{self._place}.{name}"
