"""The stage of a grant: the last state that is on the record, moved by one step of the table at a time.

What counts at the door is `Grant.state`, which follows from facts and the time; this is its record. Invariants: a
stage moves along `model.STEPS` only, in one transaction with its record, once, whoever tries at the same moment.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.grants import grant_columns, grant_of
from proxy.access.model import Grant, Stage, Terms, check_step
from proxy.access.quiet import Quiet
from proxy.access.store import Emit, Store
from proxy.clock import Clock

BY: Final = steps.BY


class Stages:
    """The stages of the grants in a store."""

    def __init__(self, store: Store, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit

    def quiet(self) -> Quiet:
        """For a round over these that is left out while nobody writes."""
        return Quiet(self._store, self._clock)

    async def at(self, *stages: Stage) -> list[Grant]:
        """The grants that are in one of these stages, the oldest first."""
        columns = tables.grants.c
        query = sa.select(*grant_columns()).where(columns.stage.in_(stages)).order_by(columns.created_at)
        async with self._store.read() as connection:
            return [grant_of(row) for row in (await connection.execute(query)).mappings()]

    async def move(
        self, grant: Grant, after: Stage, *, by: str = BY, detail: dict[str, Any] | None = None, **values: Any
    ) -> bool:
        """Moves `grant` from the stage that it is known in to `after`, and sets `values` of its row.

        False where another process has changed the grant since. Raises IllegalStep, StoreError, and what `emit` raises.
        """
        check_step(grant.stage, after)
        columns = tables.grants.c
        mine = sa.update(tables.grants).where(columns.id == grant.id, columns.version == grant.version)
        async with self._store.write() as connection:
            moved = await connection.execute(mine.values(stage=after, version=grant.version + 1, **values))
            if not moved.rowcount:
                return False
            told = {"grant": grant.id, "by": by, "person": grant.person, "before": grant.stage} | (detail or {})
            await steps.take(connection, self._emit, self._clock.now(), after, told)
        return True


def due(grant: Grant, now: datetime, file: Terms | None = None) -> Stage | None:
    """The next stage that time and facts have made of a grant, up to its end; None where it stands as it should."""
    state = grant.state(now, file)
    if grant.stage in {"ended", "removed", "reviewed"}:
        return None
    if state in {"expired", "revoked"}:
        return "ended"
    # A paused grant that must wait again does not exist: its window only begins once.
    if state != grant.stage and state in {"active", "paused"}:
        return "active" if grant.stage == "waiting" else "paused" if state == "paused" else "active"
    return None
