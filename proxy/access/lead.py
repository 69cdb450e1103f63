"""Who leads among the hosts that share a state: the one that holds a lock in it, and has just heard that it does.

With SQLite there is one host, and nothing to ask. With Postgres the lock is a session's: the server lets go of it when
the holder dies, and when the holder has said nothing for SILENT seconds (stopped, or cut off). Invariant: whoever has
not asked within FRESH seconds does not lead, so at no moment two do; a step that a late one tries is refused by the
versions of rows.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import asyncpg

from proxy.access.store import Store
from proxy.clock import Clock

FRESH: Final = 5.0
SILENT: Final = 10
"""Seconds; more than FRESH and the time of an answer, so that the old leader knows first."""
ANSWER: Final = 2.0
_LOCK: Final = 0x6C656164  # "lead"; another one than that of who writes
TROUBLE: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Lead:
    """One process's claim. `hold` again and again, every second; `holds` tells."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._connect = store.alone
        self._clock = clock
        self._connection: asyncpg.Connection[Any] | None = None
        self._heard = float("-inf")

    def holds(self) -> bool:
        """Whether this process leads, by what it has last heard."""
        return self._connect is None or self._clock.monotonic() - self._heard < FRESH

    async def hold(self) -> bool:
        """Ask for the lock, or whether it is still ours. Never raises for what a network may do."""
        if self._connect is None:
            return True
        asked = self._clock.monotonic()
        try:
            async with asyncio.timeout(ANSWER):
                if self._connection is None or self._connection.is_closed():
                    self._heard = float("-inf")
                    self._connection = await self._connect({"idle_session_timeout": f"{SILENT}s"})
                if self._heard == float("-inf"):
                    mine = await self._connection.fetchval("select pg_try_advisory_lock($1)", _LOCK)
                else:
                    mine = await self._connection.fetchval("select true")
        except TROUBLE:
            await self.let_go()
            return False
        self._heard = asked if mine else float("-inf")
        return self.holds()

    async def let_go(self) -> None:
        """Another one may lead. Never raises."""
        self._heard = float("-inf")
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(*TROUBLE):
                # Said first: a backend that only sees its client leave may keep the lock for another moment.
                await connection.execute("select pg_advisory_unlock_all()", timeout=1)
            with contextlib.suppress(*TROUBLE):
                connection.terminate()
