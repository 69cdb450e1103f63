"""Hours of the week against a plain twin that walks minute by minute, over every kind of day that time zones have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.access.hours import DAYS, HORIZON, Weekly, inside, next_change, weekdays, zones

BERLIN = "Europe/Berlin"
MINUTE = timedelta(minutes=1)
OFFICE = Weekly("mon-fri", "09:00-18:00", BERLIN)


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def shown(moment: datetime | None, zone: str = BERLIN) -> str:
    assert moment is not None
    return f"{moment.astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M %z}"


# The twin: every minute of the week that is allowed, written down one by one; a moment is looked up by what a clock
# on the wall shows.


def allowed_minutes(rule: Weekly) -> set[str]:
    days = set()
    for part in (rule.days or ",".join(DAYS)).split(","):
        names = part.split("-")
        day = DAYS.index(names[0])
        days.add(day)
        while day != DAYS.index(names[-1]):
            day = (day + 1) % 7
            days.add(day)
    start, end = (rule.hours or "00:00-24:00").split("-")
    found = set()
    for day in days:
        hour, minute = map(int, start.split(":"))
        here = day
        while True:
            found.add(f"{DAYS[here]} {hour:02}:{minute:02}")
            minute += 1
            if minute == 60:
                hour, minute = hour + 1, 0
            if f"{hour:02}:{minute:02}" == end:
                break
            if hour == 24:
                here, hour = (here + 1) % 7, 0
                if end == "00:00":
                    break
    return found


class Twin:
    def __init__(self, *rules: Weekly) -> None:
        self.rules = [(allowed_minutes(rule), ZoneInfo(rule.timezone)) for rule in rules]

    def inside(self, now: datetime) -> bool:
        return all(f"{now.astimezone(zone):%a %H:%M}".lower() in minutes for minutes, zone in self.rules)


ZONES = [
    BERLIN,
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "Africa/Casablanca",  # around Ramadan
    "Asia/Kathmandu",  # +05:45
    "Pacific/Apia",  # left out a whole day in 2011
    "America/Sao_Paulo",  # at midnight, until 2019
    "UTC",
]
SHIFTS = [
    at("2026-03-29T01:00"), at("2026-10-25T01:00"), at("2026-03-08T07:00"), at("2026-11-01T06:00"),
    at("2026-04-04T15:00"), at("2026-10-03T15:30"), at("2026-02-15T02:00"), at("2026-03-22T02:00"),
    at("2011-12-30T10:00"), at("2018-11-04T03:00"), at("2018-02-18T02:00"), at("2026-06-15T12:00"),
]  # fmt: skip
clock_minutes = st.one_of(
    st.sampled_from(["00:00", "00:30", "01:00", "01:30", "02:00", "02:30", "03:00", "22:00", "23:59"]),
    st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59)),
)
hours = st.builds("{}-{}".format, clock_minutes, st.one_of(clock_minutes, st.just("24:00"))).filter(
    lambda text: text[:5] != text[6:]
)
days = st.lists(
    st.one_of(st.sampled_from(DAYS), st.builds("{}-{}".format, st.sampled_from(DAYS), st.sampled_from(DAYS))),
    min_size=1,
    max_size=3,
).map(",".join)
rules = st.builds(Weekly, st.none() | days, st.none() | hours, st.sampled_from(ZONES))
moments = st.builds(
    lambda shift, minutes, seconds: shift + timedelta(minutes=minutes, seconds=seconds),
    st.sampled_from(SHIFTS),
    st.integers(-36 * 60, 36 * 60),
    st.integers(0, 59),
)


@given(rules, moments)
@settings(max_examples=300, deadline=None)
@example(Weekly(None, "02:00-03:00", BERLIN), at("2026-03-29T00:30"))
@example(Weekly(None, "02:00-02:30", BERLIN), at("2026-10-25T00:10"))
@example(Weekly("sun", "22:00-06:00", "America/Sao_Paulo"), at("2018-11-04T02:59"))
@pytest.mark.thorough
def test_a_moment_is_inside_where_the_wall_clock_says_so(rule: Weekly, now: datetime) -> None:
    assert inside([rule], now) == Twin(rule).inside(now)


@given(st.lists(rules, min_size=1, max_size=2), moments)
@settings(max_examples=40, deadline=None)
@example([Weekly(None, "02:00-03:00", BERLIN)], at("2026-03-28T12:00"))
@example([Weekly(None, "02:00-02:30", BERLIN)], at("2026-10-25T00:10"))
@example([Weekly("fri", None, "Pacific/Apia")], at("2011-12-29T12:00"))
@example([Weekly(None, "00:00-24:00", "America/Sao_Paulo"), OFFICE], at("2018-11-03T12:00"))
def test_nothing_changes_before_the_next_change_and_then_it_does(several: list[Weekly], now: datetime) -> None:
    twin = Twin(*several)
    found = next_change(several, now)
    minute = now.replace(second=0) + MINUTE
    last = found if found is not None else now + timedelta(days=4)
    last = min(last, now + timedelta(days=4))
    before = twin.inside(now)
    while minute < last:
        assert twin.inside(minute) == before, f"{minute} is another, and {found} was said"
        minute += MINUTE
    if found is not None:
        assert found > now
        assert twin.inside(found) != before


def test_office_hours() -> None:
    friday = at("2026-01-09T17:59", BERLIN)
    assert inside([OFFICE], friday)
    assert shown(next_change([OFFICE], friday)) == "Fri 2026-01-09 18:00 +0100"
    assert not inside([OFFICE], friday + MINUTE)
    assert shown(next_change([OFFICE], friday + MINUTE)) == "Mon 2026-01-12 09:00 +0100"


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    night = Weekly("fri", "22:00-06:00", BERLIN)
    assert not inside([night], at("2026-01-09T05:00", BERLIN)), "that is Thursday's night"
    assert inside([night], at("2026-01-10T05:59", BERLIN))
    assert not inside([night], at("2026-01-10T06:00", BERLIN))
    assert shown(next_change([night], at("2026-01-09T23:00", BERLIN))) == "Sat 2026-01-10 06:00 +0100"


def test_a_night_is_shorter_and_longer_by_what_the_clock_is_set() -> None:
    night = Weekly(None, "22:00-06:00", BERLIN)
    for day, length in (("2026-03-28", 7), ("2026-10-24", 9), ("2026-06-01", 8)):
        begins = at(f"{day}T22:00", BERLIN)
        ends = next_change([night], begins)
        assert ends is not None
        assert ends - begins == timedelta(hours=length)


def test_an_hour_that_does_not_come_is_waited_for_until_the_next_day() -> None:
    rule = Weekly(None, "02:00-03:00", BERLIN)
    assert shown(next_change([rule], at("2026-03-28T12:00", BERLIN))) == "Mon 2026-03-30 02:00 +0200"
    weekly = Weekly("sun", "02:00-03:00", BERLIN)
    assert shown(next_change([weekly], at("2026-03-23T12:00", BERLIN))) == "Sun 2026-04-05 02:00 +0200"


def test_an_hour_that_comes_twice_opens_twice() -> None:
    rule = Weekly(None, "02:00-02:30", BERLIN)
    first = at("2026-10-25T02:00", BERLIN)
    again = at("2026-10-25T02:00", BERLIN, fold=1)
    assert again - first == timedelta(hours=1)
    for begins in (first, again):
        assert inside([rule], begins)
        assert next_change([rule], begins) == begins + 30 * MINUTE
    assert next_change([rule], first + 30 * MINUTE) == again


def test_what_is_always_or_never_so_has_no_next_change() -> None:
    now = at("2026-01-09T12:00")
    assert inside([Weekly()], now)
    assert inside([], now)
    assert next_change([Weekly()], now) is None
    assert next_change([Weekly("mon-sun", "00:00-24:00")], now) is None
    never = [Weekly("mon", None), Weekly("tue", None)]
    assert not inside(never, now)
    assert next_change(never, now) is None
    assert timedelta(days=21) < HORIZON


@pytest.mark.parametrize(
    ("text", "numbers"), [("mon-fri", range(5)), ("sat-mon", (5, 6, 0)), ("mon,wed", (0, 2)), (None, range(7))]
)
def test_weekdays(text: str | None, numbers: range) -> None:
    assert weekdays(text) == frozenset(numbers)


def test_the_zones_of_rules_are_named_once() -> None:
    assert [zone.key for zone in zones([OFFICE, OFFICE, Weekly(), Weekly("mon", None, "UTC")])] == [BERLIN, "UTC"]
