"""Alerts of access: what somebody should look at, told once.

Knows what an alert is about only as a name. Invariant: an alert about one thing is a step once, whoever raises it in
whatever process and however often; the mark of that is in the same transaction as the step.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.model import rfc3339
from proxy.access.store import Emit, Store
from proxy.clock import Clock

BY: Final = "daypass"


class Alerts:
    """The alerts of an installation."""

    def __init__(self, store: Store, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit

    async def once(self, kind: str, about: str, detail: dict[str, Any]) -> bool:
        """Takes the step `alert.KIND`, unless it was taken for `about` before. False where it was."""
        name, columns = f"alert.{kind}:{about}", tables.facts.c
        known = sa.select(columns.name).where(columns.name == name)
        async with self._store.read() as connection:
            if (await connection.execute(known)).first() is not None:
                return False
        now = self._clock.now()
        async with self._store.write() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
                await connection.execute(sa.text("lock table facts in share row exclusive mode"))
            if (await connection.execute(known)).first() is not None:
                return False
            await connection.execute(tables.facts.insert().values(name=name, value=rfc3339(now)))
            await steps.take(connection, self._emit, now, f"alert.{kind}", {"by": BY} | detail)
        return True

    async def of(self, grant: str) -> list[dict[str, Any]]:
        """The alerts about a grant: `alert`, `at` and the detail of each, the oldest first."""
        columns = tables.steps.c
        query = sa.select(columns.at, columns.action, columns.detail).where(columns.action.like("alert.%"))
        async with self._store.read() as connection:
            rows = (await connection.execute(query.order_by(columns.id))).all()
        found = [(row, json.loads(row.detail)) for row in rows]
        return [
            {"alert": row.action.removeprefix("alert."), "at": rfc3339(row.at), "detail": detail}
            for row, detail in found
            if detail.get("grant") == grant
        ]

    async def over(self, kind: str, about: str) -> None:
        """What the alert was about is no more: it may be raised again."""
        async with self._store.write() as connection:
            await connection.execute(sa.delete(tables.facts).where(tables.facts.c.name == f"alert.{kind}:{about}"))
