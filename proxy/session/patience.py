"""Guessing is slow: how long the answer to a proof waits, by what failed before from this address and for this name.

Knows addresses and names as text, and neither grants nor tokens: what it does for a name that exists it does for one
that does not. Invariants: nobody is locked out, a right proof waits a second at most, and not at all for what others
did to its name; memory is bounded; every wait ends before the login's time is over.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from proxy.clock import Clock

log = structlog.get_logger()

FREE_TOGETHER: Final = 3.0
"""Failures from one address for one name that cost nothing: people mistype."""
FREE_ALONE: Final = 10.0
"""Failures from one address, or for one name: behind one address there may be many people."""
FIRST: Final = 0.25
"""Seconds of the first wait; each further failure doubles it."""
LONGEST: Final = 5.0
"""Seconds that a wrong proof waits at most."""
LONGEST_RIGHT: Final = 1.0
"""Seconds that a right one waits: it must wait too, or no answer would be an answer."""
HALF_LIFE: Final = 60.0
"""Seconds in which half of the failures are forgotten."""
REMEMBERED: Final = 10_000
"""Entries in each memory; what failed least recently is forgotten first."""

Key = tuple[str, ...]


class Patience:
    """One process's memory of failed proofs. `room`: how many answers may wait at once; more are given at once."""

    def __init__(
        self,
        clock: Clock,
        *,
        room: int = 500,
        most: float = LONGEST,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._room = room
        self._most = most
        self._sleep = sleep
        self._together = _Memory(clock)
        self._addresses = _Memory(clock)
        self._names = _Memory(clock)
        self.waiting = 0
        self.slowed = 0
        """How many answers have waited so far."""

    async def answer(self, address: str, name: str, *, right: bool) -> None:
        """A proof was looked at: wait until it may be answered."""
        seconds = self.weigh(address, name, right=right)
        if seconds <= 0:
            return
        if self.waiting >= self._room:
            # Slow answers must not take the place of logins.
            log.warning("login_not_slowed", address=address, waiting=self.waiting)
            return
        self.slowed += 1
        self.waiting += 1
        try:
            await self._sleep(seconds)
        finally:
            self.waiting -= 1

    def weigh(self, address: str, name: str, *, right: bool) -> float:
        """Seconds until this proof may be answered; a wrong one counts from now on."""
        near = neighbourhood(address)
        if right:
            waits = (
                _wait(self._together.score((near, name)) - FREE_TOGETHER),
                _wait(self._addresses.score((near,)) - FREE_ALONE),
            )
            self._together.forget((near, name))
            return min(max(waits), LONGEST_RIGHT, self._most)
        waits_wrong = (
            _wait(self._together.add((near, name)) - FREE_TOGETHER),
            _wait(self._addresses.add((near,)) - FREE_ALONE),
            _wait(self._names.add((name,)) - FREE_ALONE),
        )
        return min(max(waits_wrong), self._most)

    def __len__(self) -> int:
        return max(len(self._together), len(self._addresses), len(self._names))


class _Memory:
    """How much failed, by key, halved again and again; the keys that failed last are at the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: OrderedDict[Key, tuple[float, float]] = OrderedDict()

    def score(self, key: Key) -> float:
        """What is remembered at this moment."""
        score, since = self._entries.get(key, (0.0, 0.0))
        return float(score * 0.5 ** ((self._clock.monotonic() - since) / HALF_LIFE)) if score else 0.0

    def add(self, key: Key) -> float:
        """One more; the score with it."""
        score = self.score(key) + 1
        self._entries[key] = (score, self._clock.monotonic())
        self._entries.move_to_end(key)
        if len(self._entries) > REMEMBERED:
            self._entries.popitem(last=False)
        return score

    def forget(self, key: Key) -> None:
        """It was right."""
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)


def _wait(above: float) -> float:
    """Seconds for so many failures above those that are free."""
    return float(FIRST * 2 ** min(above - 1, 16)) if above > 0 else 0.0


def neighbourhood(address: str) -> str:
    """Who shares an address's fate: an IPv4 address itself, the /64 of an IPv6 one, which one customer has whole."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
