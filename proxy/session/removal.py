"""After a grant is over: its access is proven to be gone, one proof after another, by itself, until all hold.

Knows what is to be proven and not how (`proofs` does). Only the leading process does it. Invariants: a round that is
cut off anywhere is gone on with by the next, in whatever process; nothing waits for a human; what cannot be proven in
time is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from proxy.access.alerts import Alerts
from proxy.access.model import Grant
from proxy.access.removals import PROOFS, Finding, Removals
from proxy.access.stages import Stages
from proxy.clock import Clock

log = structlog.get_logger()

ALERT_AFTER: Final = 300.0
"""Seconds after the end of a grant in which its removal should be proven."""
ALERT_UNREACHABLE: Final = 30.0
"""Seconds in which a database may be away before that is told."""
BRISK: Final = 60.0
"""Seconds in which every round tries; later only each `SLOWLY` seconds."""
SLOWLY: Final = 10.0


class Looks(Protocol):
    """How the proofs are found."""

    async def look(self, grant: Grant, wanted: tuple[str, ...]) -> Mapping[str, Finding]:
        """What is found for each of the proofs in `wanted`. Raises StoreError."""


class Removal:
    """The rounds over all grants that are over and not yet proven to be gone."""

    def __init__(
        self,
        stages: Stages,
        removals: Removals,
        alerts: Alerts,
        looks: Looks,
        clock: Clock,
        counted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stages = stages
        self._removals = removals
        self._alerts = alerts
        self._looks = looks
        self._clock = clock
        self._quiet = stages.quiet()
        self._counted = counted
        self._first: dict[str, float] = {}
        """When a grant was looked at first, here."""
        self._next: dict[str, float] = {}
        self._away: dict[str, float] = {}
        """Since when the database of a grant could not be looked at."""
        self.pending = 0
        """Grants that are over and not yet proven to be gone."""

    async def round(self) -> None:
        """Look after each of them once. Raises StoreError, RecordError: the next round tries again."""
        if self._quiet.holds():
            return
        ended = await self._stages.at("ended")
        self.pending = len(ended)
        if not ended:
            self._quiet.rest()
        for memory in (self._first, self._next, self._away):
            for gone in memory.keys() - {grant.id for grant in ended}:
                del memory[gone]
        for grant in ended:
            now = self._clock.monotonic()
            if now >= self._next.get(grant.id, now):
                await self._look_at(grant, now)

    async def _look_at(self, grant: Grant, now: float) -> None:
        first = self._first.setdefault(grant.id, now)
        self._next[grant.id] = now + (SLOWLY if now - first > BRISK else 0)
        held = {proof.proof for proof in await self._removals.of(grant.id) if proof.ok}
        wanted = tuple(proof for proof in PROOFS if proof not in held)
        if wanted:
            found = await self._looks.look(grant, wanted)
            await self._removals.note(grant, found)
            missing = {proof: found[proof].why for proof in wanted if not found[proof].ok}
            if missing:
                away = any(found[proof].unreachable for proof in missing)
                await self._still_there(grant, missing, now, away=away)
                return
        detail = {proof.proof: proof.at for proof in await self._removals.of(grant.id)}
        if await self._stages.move(grant, "removed", detail=detail, removed_at=self._clock.now()):
            self.pending -= 1
            log.info("grant_removed", grant=grant.id)

    async def _still_there(self, grant: Grant, missing: dict[str, str], now: float, *, away: bool) -> None:
        if away:
            self._away.setdefault(grant.id, now)
        else:
            self._away.pop(grant.id, None)
        since = (self._clock.now() - (grant.ended_at or self._clock.now())).total_seconds()
        if since < ALERT_AFTER and now - self._away.get(grant.id, now) < ALERT_UNREACHABLE:
            return
        detail = {"grant": grant.id, "person": grant.person, "database": grant.database, "missing": missing}
        if await self._alerts.once("removal", grant.id, detail):
            self._counted("removal")
            log.error("removal_not_proven", **detail)
