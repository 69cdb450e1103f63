"""The hours of the week in which a grant may be used, by the clock on the wall of a time zone.

Pure: rules and a moment go in. What the wall clock shows counts, so where it is set back an hour may come twice, and
where it is set forward one may not come at all. Hours over midnight belong to the day on which they begin. Invariants:
several rules must all allow, and between a moment and its `next_change` nothing changes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 24 * 60
HORIZON: Final = timedelta(days=35)
"""How far ahead is looked: rules repeat every week, and a clock that is set forward can take one or two weeks away."""
_SOON: Final = timedelta(days=3)
"""Where most changes are found, at a tenth of the cost."""


@dataclass(frozen=True, slots=True)
class Weekly:
    """One rule, as a policy's window has it: `mon-fri`, `09:00-18:00`, `Europe/Berlin`. None: every day, all day."""

    days: str | None = None
    hours: str | None = None
    timezone: str = "UTC"

    @property
    def always(self) -> bool:
        """Whether it allows every moment."""
        return self.days is None and self.hours is None


def inside(rules: Iterable[Weekly], now: datetime) -> bool:
    """Whether all rules allow the moment `now`."""
    return all(rule.always or _allows(rule, now) for rule in rules)


def next_change(rules: Iterable[Weekly], now: datetime) -> datetime | None:
    """When the answer of `inside` becomes another one; None where it does not within `HORIZON`."""
    bound = [rule for rule in rules if not rule.always]
    before = inside(bound, now)
    for ahead in (_SOON, HORIZON):
        # An answer of several rules changes only where that of one of them does.
        moments = sorted({moment for rule in bound for moment in _moments(rule, now, ahead)})
        for moment in moments:
            if inside(bound, moment) != before:
                return moment
    return None


def zones(rules: Iterable[Weekly]) -> list[ZoneInfo]:
    """The time zones of the rules that say anything, each once."""
    return list(dict.fromkeys(ZoneInfo(rule.timezone) for rule in rules if not rule.always))


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule read: weekdays, minutes of the day (`end` may lie beyond midnight), zone."""

    days: frozenset[int]
    begin: int
    end: int
    zone: ZoneInfo


@functools.lru_cache(maxsize=256)
def _read(rule: Weekly) -> _Rule:
    begin, end = minutes(rule.hours)
    return _Rule(weekdays(rule.days), begin, end if end > begin else end + _DAY, ZoneInfo(rule.timezone))


def weekdays(text: str | None) -> frozenset[int]:
    """`mon-fri,sun` as numbers from Monday = 0; `sat-mon` goes over the end of the week."""
    found: set[int] = set()
    for part in (text or "mon-sun").split(","):
        first, _, last = part.partition("-")
        start, end = DAYS.index(first), DAYS.index(last.rpartition("-")[2] or first)
        found |= {day % 7 for day in range(start, end + 1 + (7 if end < start else 0))}
    return frozenset(found)


def minutes(hours: str | None) -> tuple[int, int]:
    """`09:00-18:00` as minutes of the day."""
    begin, end = (60 * int(part[:2]) + int(part[3:]) for part in (hours or "00:00-24:00").split("-"))
    return begin, end


def _allows(rule: Weekly, now: datetime) -> bool:
    read = _read(rule)
    local = now.astimezone(read.zone)
    minute, day = 60 * local.hour + local.minute, local.weekday()
    if day in read.days and read.begin <= minute < read.end:
        return True
    return (day - 1) % 7 in read.days and minute + _DAY < read.end


def _moments(rule: Weekly, now: datetime, ahead: timedelta) -> Iterator[datetime]:
    """Every moment after `now` at which the answer of a rule can change, and some at which it does not."""
    read, last = _read(rule), now + ahead
    edges = {0, read.begin % _DAY, read.end % _DAY}
    first = now.astimezone(read.zone).date() - timedelta(days=1)
    for day in range(ahead.days + 3):
        for edge in edges:
            wall = datetime.combine(first + timedelta(days=day), time(edge // 60, edge % 60), read.zone)
            for fold in (0, 1):  # an hour that comes twice
                moment = wall.replace(fold=fold).astimezone(UTC)
                if now < moment <= last:
                    yield moment
    for day in range(ahead.days):
        yield from _shift(read.zone, now + timedelta(days=day), now + timedelta(days=day + 1))


def _shift(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """The moment between the two at which the clocks of `zone` are set, to the second."""
    offset = start.astimezone(zone).utcoffset()
    if end.astimezone(zone).utcoffset() == offset:
        return
    low, high = start, end
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    # Clocks are set at whole seconds.
    yield high.replace(microsecond=0)
