"""Time and chance as arguments.

Whoever needs the hour, a duration or a secret random number takes a `Clock`; nobody asks the machine itself. It knows
nothing of grants or sessions. The invariant: `now()` may step (an operator sets the wall clock), `monotonic()` never
goes back, and the two are never mixed: the wall decides whether a grant may begin, the monotonic clock ends what runs.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the house may ask about time and chance."""

    def now(self) -> datetime:
        """The wall clock: aware, in UTC."""
        ...

    def microseconds(self) -> int:
        """The wall clock in microseconds since 1970, for those who ask often."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point; only differences mean something."""
        ...

    def random(self, n: int) -> bytes:
        """`n` bytes that nobody can guess."""
        ...


class SystemClock:
    """The machine's own time and the operating system's randomness."""

    __slots__ = ()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def microseconds(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def random(self, n: int) -> bytes:
        return secrets.token_bytes(n)


class FakeClock:
    """A clock that moves when a test says so; its randomness repeats from run to run."""

    __slots__ = ("_drawn", "_monotonic", "_now")

    def __init__(self, start: datetime = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock's time is aware: give a timezone")
        self._now = start.astimezone(UTC)
        self._monotonic = 1000.0
        self._drawn = 0

    def now(self) -> datetime:
        return self._now

    def microseconds(self) -> int:
        return (self._now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def monotonic(self) -> float:
        return self._monotonic

    def random(self, n: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_256(b"fake clock %d" % self._drawn).digest(n)

    def advance(self, seconds: float) -> None:
        """Time passes: both clocks move on."""
        if seconds < 0:
            raise ValueError("time does not run backwards; step_wall() sets the wall clock")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def step_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock, forwards or backwards; no time passes."""
        self._now += timedelta(seconds=seconds)
