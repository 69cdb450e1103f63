"""Makes the digests of what was recorded here, each when its period is over.

Counts in another process, enters what it found, and lets the notifier carry it. Knows no senders. Invariant: whoever
gets a digest of one vendor gets sums of that vendor's sessions and of nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
import structlog

from proxy.access.digests import Digests, Period
from proxy.access.schedule import Schedule, next_due
from proxy.clock import Clock
from proxy.config_notify import Digest
from proxy.server import aside
from proxy.server.aside import NotAnswered
from recorder.aside import Sums
from recorder.summary import Summary

log = structlog.get_logger()

EVERY: Final = 10.0
SETTLE: Final = timedelta(minutes=1)
"""From the end of a period until its last results are surely in the files."""
AGAIN: Final = 300.0
"""Seconds until what could not be counted is counted again."""


def schedule(digest: Digest) -> Schedule:
    """When a digest is due."""
    day = (digest.day or "mon") if digest.every == "week" else None
    return Schedule(digest.at, digest.timezone, day)


def request(digest: Digest, folder: Path, period: Period) -> Sums:
    """What is to be counted for it."""
    return Sums(str(folder), period.since, period.until, digest.vendor, tuple(digest.databases))


class Digester:
    """The rounds over all digests."""

    def __init__(self, wanted: Mapping[str, Digest], folder: Path, digests: Digests, clock: Clock) -> None:
        self._wanted = wanted
        self._folder = folder
        self._digests = digests
        self._clock = clock
        self._periods: dict[str, Period] = {}
        self._resume: dict[str, float] = {}

    async def round(self) -> None:
        """Make what is due. Raises StoreError, RecordError: the next round tries again."""
        for name, digest in self._wanted.items():
            while await self._one(name, digest):
                pass

    async def _one(self, name: str, digest: Digest) -> bool:
        """Whether there may be another period that is over."""
        period = self._periods.get(name) or await self._digests.period(name, schedule(digest))
        self._periods[name] = period
        now = self._clock.now()
        if now < period.until + SETTLE or self._clock.monotonic() < self._resume.get(name, 0.0):
            return False
        try:
            total = msgspec.json.decode(await aside.ask(request(digest, self._folder, period)), type=Summary)
        except (NotAnswered, msgspec.DecodeError) as problem:
            log.error("digest_failed", digest=name, reason=str(problem), again_in=AGAIN)
            self._resume[name] = self._clock.monotonic() + AGAIN
            return False
        # Where daypass was away for long, nothing happened for long: that is told once, for the newest period.
        newest = next_due(schedule(digest), period.until) > now
        if something(total) or (digest.empty and newest):
            facts = (
                {"vendor": digest.vendor, "databases": digest.databases} if digest.vendor or digest.databases else {}
            )
            facts |= {key: getattr(total, key) for key in ("sessions", "statements", "refused", "rows")}
            document = msgspec.to_builtins(total)
            if await self._digests.enter(name, period, digest.to, facts, document):
                log.info("digest_made", digest=name, since=str(period.since), until=str(period.until))
        elif await self._digests.skip(name, period):
            log.info("digest_empty", digest=name, since=str(period.since), until=str(period.until))
        self._periods.pop(name)
        return True


def something(total: Summary) -> bool:
    """Whether there is anything to tell."""
    return bool(total.sessions or total.logins_refused)
