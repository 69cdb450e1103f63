"""Looks at the prechecks of grants that are about to start, in the background, again every minute until they hold.

Brings together the configuration (what is asked), the databases and programs (who answers) and the findings.
Invariants: a grant is looked at by one task at a time; a look that hangs delays no other grant and no round.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg
import structlog

from proxy import catalog
from proxy.access import prechecks
from proxy.access.findings import Findings
from proxy.access.model import Grant
from proxy.access.prechecks import Finding, World
from proxy.access.privileges import Connection
from proxy.access.store import StoreError
from proxy.clock import Clock
from proxy.config import Config, ConfigError
from proxy.tasks import spawn
from recorder.journal import RecordError

log = structlog.get_logger()

AHEAD: Final = timedelta(seconds=30)
"""How long before its start a grant is looked at: what was found may be so old, and no older, when it starts."""
RETRY: Final = 60.0
"""Seconds between two looks at a grant whose prechecks do not hold."""
AT_ONCE: Final = 8
"""Grants that are looked at at the same time."""


async def findings(
    config: Config, database: str, names: Sequence[str], clock: Clock, *, note: str | None = None, note_by: str = ""
) -> list[Finding]:
    """What each of these prechecks says of a database now, in their order. Never raises."""
    entry = config.databases.get(database)

    async def connect() -> Connection:
        if entry is None:
            raise OSError(f"config.yaml has no database {database}")
        try:
            return await catalog.connect_to(entry)
        except ConfigError as error:
            raise OSError(str(error)) from None
        except asyncpg.PostgresError as error:
            raise OSError(str(error)) from None

    world = World(connect, clock.now(), environment(config), note, note_by)
    return list(await asyncio.gather(*(prechecks.look(name, config.prechecks.get(name), world) for name in names)))


def environment(config: Config) -> dict[str, str]:
    """What programs of the owner's get: daypass's own environment without the secrets that config.yaml refers to."""
    secrets = set(_references(config.model_dump(by_alias=True)))
    return {key: value for key, value in os.environ.items() if key not in secrets}


def _references(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(key, str) and key.endswith("_env") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(data, list):
        for value in data:
            yield from _references(value)


class Checking:
    """The looks of one process."""

    def __init__(self, config: Config, clock: Clock, findings: Findings) -> None:
        self._config = config
        self._clock = clock
        self._findings = findings
        self._running: dict[str, asyncio.Task[None]] = {}
        self._next: dict[str, float] = {}

    def consider(self, grant: Grant) -> None:
        """Begin to look at a grant's prechecks, where it is time to."""
        now = self._clock.now()
        if not grant.unchecked or grant.starts_at - AHEAD > now or grant.state(now) != "waiting":
            self._next.pop(grant.id, None)
            return
        soon = self._next.get(grant.id, 0.0)
        if grant.id not in self._running and len(self._running) < AT_ONCE and self._clock.monotonic() >= soon:
            task = spawn(self._look(grant), name=f"prechecks {grant.id}")
            self._running[grant.id] = task
            task.add_done_callback(lambda _: self._running.pop(grant.id, None))

    async def idle(self) -> None:
        """Wait until nothing is looked at."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def close(self) -> None:
        """Look no more."""
        for task in self._running.values():
            task.cancel()
        await self.idle()

    async def _look(self, grant: Grant) -> None:
        try:
            note, by = await self._findings.note(grant)
            names = grant.terms.prechecks
            found = await findings(self._config, grant.database, names, self._clock, note=note, note_by=by)
            self._next[grant.id] = self._clock.monotonic() + RETRY
            if await self._findings.keep(grant, found):
                log.info("prechecks_passed", grant=grant.id)
            else:
                why = {finding.name: finding.why for finding in found if not finding.ok}
                log.warning("prechecks_failing", grant=grant.id, **{"why": why})
        except (StoreError, RecordError) as problem:
            log.error("prechecks_not_kept", grant=grant.id, reason=str(problem))
