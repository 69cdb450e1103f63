"""When something is due that comes every day or every week at an hour of a wall clock.

Pure. Where the clocks are set forward over the hour it is due as much later, where they are set back the first time
that they show it. Invariant: moments only grow, and the next one of any moment lies behind it: no period overlaps
another, none is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from proxy.access.hours import DAYS

_AHEAD: Final = 16
"""Days that are looked at: a zone may leave out a day, and a week has seven."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`at` is `08:00`; `day` one of `mon` … `sun`, or None for every day."""

    at: str
    timezone: str = "UTC"
    day: str | None = None


def next_due(schedule: Schedule, after: datetime) -> datetime:
    """The first moment after `after`."""
    first = after.astimezone(ZoneInfo(schedule.timezone)).date() - timedelta(days=1)
    return next(moment for moment in _moments(schedule, first) if moment > after)


def last_due(schedule: Schedule, now: datetime) -> datetime:
    """The last moment that is not after `now`."""
    first = now.astimezone(ZoneInfo(schedule.timezone)).date() - timedelta(days=_AHEAD - 2)
    return [moment for moment in _moments(schedule, first) if moment <= now][-1]


def _moments(schedule: Schedule, first: date) -> list[datetime]:
    hour, minute = map(int, schedule.at.split(":"))
    zone = ZoneInfo(schedule.timezone)
    return [
        datetime.combine(day, time(hour, minute), zone).astimezone(UTC)
        for day in (first + timedelta(days=ahead) for ahead in range(_AHEAD))
        if schedule.day is None or day.weekday() == DAYS.index(schedule.day)
    ]
