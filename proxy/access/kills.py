"""An operator ends a session: asked for in the state, where whatever process of whatever host has it looks.

Knows no sessions, only their ids. Invariant: a kill is either taken, once, by the process that has the session, or
taken back; so whoever asked knows whether it happened.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from proxy.access.grants import one_line
from proxy.access.store import Store
from proxy.access.tables import kills
from proxy.clock import Clock

KEPT: Final = timedelta(days=1)
"""How long a kill stays in the state; what happened is in the recordings."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill that nobody has taken yet."""

    id: str
    session: str
    reason: str
    by: str


class Kills:
    """The kills in a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def ask(self, session: str, *, reason: str, by: str) -> str:
        """Ask for a session's end; the kill's id. Raises GrantError on a text that makes no sense."""
        now = self._clock.now()
        kill = {"id": secrets.token_hex(8), "session": session, "asked_at": now}
        kill |= {"reason": one_line("reason", reason), "asked_by": one_line("by", by)}
        async with self._store.write() as connection:
            await connection.execute(sa.delete(kills).where(kills.c.asked_at < now - KEPT))
            await connection.execute(kills.insert().values(kill))
        return str(kill["id"])

    async def take(self, sessions: Collection[str]) -> list[Kill]:
        """The kills that mean one of these sessions; they are taken now."""
        columns = kills.c
        async with self._store.read() as connection:
            query = sa.select(columns.id, columns.session, columns.reason, columns.asked_by).where(
                columns.taken_at.is_(None)
            )
            found = [Kill(*row) for row in await connection.execute(query) if row.session in sessions]
        taken = []
        for kill in found:
            async with self._store.write() as connection:
                mine = sa.update(kills).where(columns.id == kill.id, columns.taken_at.is_(None))
                if (await connection.execute(mine.values(taken_at=self._clock.now()))).rowcount:
                    taken.append(kill)
        return taken

    async def taken(self, id: str) -> bool:
        """Whether some process has taken it."""
        async with self._store.read() as connection:
            query = sa.select(kills.c.taken_at).where(kills.c.id == id)
            return (await connection.execute(query)).scalar() is not None

    async def take_back(self, id: str) -> bool:
        """Whether it is undone: false when it has been taken."""
        async with self._store.write() as connection:
            undo = sa.delete(kills).where(kills.c.id == id, kills.c.taken_at.is_(None))
            return bool((await connection.execute(undo)).rowcount)
