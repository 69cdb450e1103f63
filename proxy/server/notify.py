"""Tells every sink of every step that it wants to hear of, in order, until it has arrived or is a day old.

One round for each sink, so that none waits for another, and nothing of access waits for any. Only the leader tells;
a step that two leaders told has one id. Invariant: what was not told is said loudly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from proxy.access.outbox import Outbox, Standing, wait_after
from proxy.clock import Clock
from proxy.config_notify import Notify
from proxy.server.metrics import NoticeCounts
from proxy.server.notice import notice
from proxy.server.senders import NotDelivered, deliver

log = structlog.get_logger()

PRUNE_EVERY: Final = 3600.0


class Notifier:
    """The rounds over all sinks of an installation."""

    def __init__(
        self,
        sinks: Mapping[str, Notify],
        outbox: Outbox,
        clock: Clock,
        installation: str,
        counts: NoticeCounts,
    ) -> None:
        self.sinks = sinks
        self._outbox = outbox
        self._clock = clock
        self._installation = installation
        self._counts = counts
        self._quiet = {name: outbox.quiet() for name in sinks}
        self._silent: dict[str, int] = {}
        """How often in a row a sink could not be reached at all."""
        self._resume: dict[str, float] = {}
        self._pruned = float("-inf")

    async def round(self, name: str) -> None:
        """Tell one sink what is due for it. Raises StoreError: the next round tries again."""
        if self._clock.monotonic() < self._resume.get(name, 0.0):
            return
        quiet = self._quiet[name]
        if quiet.holds():
            return
        sink = self.sinks[name]
        for step in await self._outbox.due(name, sink.events):
            try:
                await deliver(sink, notice(step, self._installation), self._clock.now)
            except NotDelivered as problem:
                self._counts.failed[name] = self._counts.failed.get(name, 0) + 1
                log.warning("notice_failed", sink=name, step=step.id, action=step.action, reason=str(problem))
                if await self._outbox.failed(step, name, str(problem)):
                    self._say_lost(name, 1, str(problem))
                if not problem.lasting:
                    self._silent[name] = self._silent.get(name, 0) + 1
                    self._resume[name] = self._clock.monotonic() + wait_after(self._silent[name])
                    self._say_lost(name, await self._outbox.give_up(name, str(problem)), str(problem))
                    break
            else:
                self._silent.pop(name, None)
                self._counts.delivered[name] = self._counts.delivered.get(name, 0) + 1
                await self._outbox.delivered(step, name)
        standing: Standing = await self._outbox.standing(name)
        self._counts.backlog[name] = standing.backlog
        if not standing.backlog:
            quiet.rest()

    def _say_lost(self, name: str, count: int, reason: str) -> None:
        if count:
            self._counts.given_up[name] = self._counts.given_up.get(name, 0) + count
            log.error(
                "notice_given_up", sink=name, count=count, reason=reason, message="nobody was told of these steps"
            )

    async def prune(self) -> None:
        """Forget what is old and was told, now and then. Raises StoreError."""
        now = self._clock.monotonic()
        if now - self._pruned >= PRUNE_EVERY:
            if gone := await self._outbox.prune(list(self.sinks)):
                log.info("steps_pruned", count=gone)
            self._pruned = now
