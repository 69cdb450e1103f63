"""Looks after the time that grants live by: keeps it, says when the wall clock is not believed, learns of acceptances.

Each process looks at its own clock; the leading one keeps and alerts. Brings together the clock, what the state knows
and the sessions. Invariant: while the wall clock is not believed no session begins, and what is open goes on.
"""

from __future__ import annotations

import math
from typing import Final

import structlog

from proxy.access.timekeeping import STEP, Steady, TimeFacts
from proxy.session.registry import Registry

log = structlog.get_logger()

KEEP_EVERY: Final = 60.0
"""Seconds between two times that are kept: what a crash may lose of the highest one."""


class Timekeeper:
    """The rounds over one process's clock."""

    def __init__(self, clock: Steady, facts: TimeFacts, registry: Registry, boot: str, accepted: str = "") -> None:
        self._clock = clock
        self._facts = facts
        self._registry = registry
        self._boot = boot
        self._accepted = accepted
        """The last acceptance that is known."""
        self._told = False
        self._kept = -math.inf

    async def round(self) -> None:
        """Look once. Raises StoreError, RecordError: the next round tries again."""
        apart = self._clock.apart()
        if not apart:
            if self._told:
                self._told, self._kept = False, -math.inf
                log.warning("clock_agrees", message="the wall clock is believed again; sessions may begin")
            await self._keep()
            return
        if not self._told:
            self._told = True
            log.error(
                "clock_stepped",
                seconds=round(apart),
                wall=self._clock.wall().isoformat(),
                expected=self._clock.now().isoformat(),
                message="no session may begin until the clock agrees again, or `daypass clock accept`",
            )
        kept = await self._facts.read()
        if kept.accepted != self._accepted and kept.accepted_at is not None:
            self._accepted = kept.accepted
            if abs(self._clock.wall() - kept.accepted_at) <= STEP:
                self._accept()
                return
        if self._registry.commons.leads():
            await self._facts.alert(self._clock.now(), self._clock.wall(), apart)

    def _accept(self) -> None:
        self._clock.accept()
        self._told, self._kept = False, -math.inf
        log.warning("clock_accepted", wall=self._clock.wall().isoformat())
        for session in self._registry:
            self._registry.follow(session, session.file)

    async def _keep(self) -> None:
        now = self._clock.monotonic()
        if now - self._kept < KEEP_EVERY:
            return
        if self._registry.commons.leads():
            await self._facts.keep(self._clock.now(), now, self._boot)
        self._accepted = (await self._facts.read()).accepted  # what was accepted before a step is not for it
        self._kept = now
