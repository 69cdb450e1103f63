"""What is due every day or week by a wall clock: over the days on which clocks are set, and with no gap between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.access.schedule import Schedule, last_due, next_due

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        (Schedule("08:00", "Europe/Berlin"), "2026-01-05T06:59:59", "2026-01-05T07:00"),
        (Schedule("08:00", "Europe/Berlin"), "2026-01-05T07:00:00", "2026-01-06T07:00"),
        (Schedule("08:00", "Europe/Berlin", "mon"), "2026-01-05T07:00:00", "2026-01-12T07:00"),
        (Schedule("08:00", "Europe/Berlin"), "2026-03-28T07:00:00", "2026-03-29T06:00"),  # 23 hours
        (Schedule("08:00", "Europe/Berlin"), "2026-10-24T06:00:00", "2026-10-25T07:00"),  # 25 hours
        (Schedule("02:30", "Europe/Berlin"), "2026-03-28T12:00:00", "2026-03-29T01:30"),  # 02:30 is not: 03:30
        (Schedule("02:30", "Europe/Berlin"), "2026-10-24T12:00:00", "2026-10-25T00:30"),  # 02:30 comes twice
        (Schedule("02:30", "Europe/Berlin"), "2026-10-25T00:30:00", "2026-10-26T01:30"),  # and counts once
        (Schedule("08:00", "Pacific/Apia"), "2011-12-29T18:00:00", "2011-12-30T18:00"),  # a day that never was
        (Schedule("08:00", "Pacific/Apia", "fri"), "2011-12-25T00:00:00", "2011-12-30T18:00"),
    ],
)
def test_due(schedule: Schedule, after: str, due: str) -> None:
    assert next_due(schedule, at(after)) == at(due)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 40 * 366 * 86_400),
    st.sampled_from(ZONES),
    st.sampled_from([None, "mon", "sun", "fri"]),
    st.integers(0, 23),
    st.integers(0, 59),
)
def test_periods_lie_one_after_another(second: int, zone: str, day: str | None, hour: int, minute: int) -> None:
    schedule = Schedule(f"{hour:02d}:{minute:02d}", zone, day)
    now = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    begin = last_due(schedule, now)
    assert begin <= now
    for _ in range(3):
        end = next_due(schedule, begin)
        assert begin < end <= begin + timedelta(days=15 if day else 2.1)
        assert last_due(schedule, end) == end
        assert last_due(schedule, end - timedelta(microseconds=1)) == begin
        shown = end.astimezone(ZoneInfo(zone))
        assert abs(60 * shown.hour + shown.minute - 60 * hour - minute) % (24 * 60) <= 60
        begin = end
    assert next_due(schedule, last_due(schedule, now)) > now
