"""The wall clock jumps both ways, second by second, and over restarts: nothing ends or comes back by it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.access.grants import GrantError, Grants
from proxy.access.model import Terms
from proxy.access.requests import Requests, Wish
from proxy.access.store import Store
from proxy.access.timekeeping import Kept, Steady, TimeFacts, boot
from proxy.clock import Clock, FakeClock

HOUR = 3600.0
AN_HOUR = timedelta(hours=1)


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, action: str, detail: dict[str, Any]) -> None:
        self.append((action, detail))


def test_it_is_a_clock_that_goes_on_as_the_wall_does() -> None:
    inner = FakeClock()
    clock: Clock = Steady(inner)
    for seconds in (1.0, 59.0, HOUR, 7 * 24 * HOUR):
        inner.advance(seconds)
        assert clock.now() == inner.now()
        assert clock.monotonic() == inner.monotonic()
        assert clock.microseconds() == inner.microseconds()
    assert len(clock.random(5)) == 5


@pytest.mark.parametrize("step", [60, -60, 59, -1])
def test_a_small_step_is_followed(step: float) -> None:
    inner = FakeClock()
    clock = Steady(inner)
    inner.step_wall(step)
    assert clock.apart() == 0
    assert clock.now() == inner.now()


@pytest.mark.parametrize("step", [61, -61, HOUR, -HOUR, 10 * 365 * 24 * HOUR, -10 * 365 * 24 * HOUR])
def test_a_large_step_is_not_followed_until_the_clock_agrees_second_by_second(step: float) -> None:
    inner = FakeClock()
    clock = Steady(inner)
    began = inner.now()
    for second in range(1, 200):
        inner.advance(1)
        if second == 50:
            inner.step_wall(step)
        if second == 150:
            inner.step_wall(-step)
        assert clock.now() == began + timedelta(seconds=second)
        assert clock.apart() == (step if 50 <= second < 150 else 0)


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
def test_an_operator_accepts(step: float) -> None:
    inner = FakeClock()
    clock = Steady(inner)
    inner.step_wall(step)
    assert clock.now() != inner.now()
    clock.accept()
    assert clock.now() == inner.now() == clock.wall()
    assert clock.apart() == 0
    inner.advance(HOUR)
    assert clock.now() == inner.now()


def test_many_small_steps_back_do_not_add_up() -> None:
    inner = FakeClock()
    clock = Steady(inner)
    highest = inner.now()
    inner.step_wall(-50)
    assert clock.apart() == 0
    inner.step_wall(-50)
    assert clock.apart() != 0
    assert clock.now() >= highest - timedelta(seconds=60)


def test_a_machine_that_starts_in_the_past_is_not_believed_until_its_clock_is_set() -> None:
    inner = FakeClock()
    kept = Kept(highest=inner.now() + timedelta(days=400), monotonic=5.0, boot="before")
    clock = Steady(inner, kept, "after")
    assert clock.now() == kept.highest
    assert clock.apart() == -400 * 24 * HOUR
    inner.advance(10)
    assert clock.now() == kept.highest + timedelta(seconds=10) if kept.highest else None
    inner.step_wall(420 * 24 * HOUR)  # it was off for three weeks, and has asked a time server now
    assert clock.apart() == 0
    assert clock.now() == inner.now()


def test_a_machine_that_was_off_is_believed_whatever_later_time_it_says() -> None:
    inner = FakeClock()
    clock = Steady(inner, Kept(highest=inner.now() - timedelta(days=30), monotonic=5e6, boot="before"), "after")
    assert clock.apart() == 0
    assert clock.now() == inner.now()
    late = Steady(inner, Kept(highest=inner.now() + timedelta(seconds=60)), "after")
    assert late.apart() == 0


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
def test_a_restart_does_not_make_a_step_believed(step: float) -> None:
    inner = FakeClock()
    kept = Kept(highest=inner.now(), monotonic=inner.monotonic(), boot="same")
    inner.advance(100)
    inner.step_wall(step)
    again = Steady(inner, kept, "same")
    assert again.apart() == step
    assert kept.highest is not None
    assert again.now() == kept.highest + timedelta(seconds=100)


async def test_the_highest_time_is_kept_and_never_an_earlier_one(store: Store) -> None:
    clock, told = FakeClock(), Told()
    facts = TimeFacts(store, clock, told)
    assert await facts.read() == Kept()
    first = clock.now()
    await facts.keep(first, 7.5, "b1")
    assert await facts.read() == Kept(highest=first, monotonic=7.5, boot="b1")
    await facts.keep(first - AN_HOUR, 8.5, "b2")
    assert await facts.read() == Kept(highest=first, monotonic=7.5, boot="b1")
    await facts.keep(first + AN_HOUR, 9.5, "b1")
    assert (await facts.read()).highest == first + AN_HOUR
    assert told == []


async def test_an_alert_is_given_once_and_taken_back_once(store: Store) -> None:
    clock, told = FakeClock(), Told()
    facts = TimeFacts(store, clock, told)
    now = clock.now()
    for _ in range(3):
        await facts.alert(now, now + AN_HOUR, HOUR)
    assert [action for action, _ in told] == ["alert.clock"]
    assert told[0][1] == {
        "by": "daypass",
        "wall": "2026-01-05T10:00:00.000000Z",
        "expected": "2026-01-05T09:00:00.000000Z",
        "seconds": 3600,
    }
    assert (await facts.read()).apart == HOUR
    for _ in range(2):
        await facts.keep(now, 1.0, "b")
    assert [action for action, _ in told] == ["alert.clock", "clock.agreed"]
    assert (await facts.read()).apart is None


async def test_accepting_makes_the_time_that_is_the_highest(store: Store) -> None:
    clock, told = FakeClock(), Told()
    facts = TimeFacts(store, clock, told)
    await facts.keep(clock.now() + AN_HOUR, 1.0, "b")
    before, now = await facts.accept(by="olga", reason="the time server is right again")
    kept = await facts.read()
    assert before.highest == clock.now() + AN_HOUR
    assert (kept.highest, kept.accepted_at, kept.apart) == (now, now, None)
    assert kept.accepted.startswith("c-")
    action, detail = told[-1]
    assert action == "clock.accepted"
    assert detail["by"] == "olga"
    assert detail["before"] == "2026-01-05T10:00:00.000000Z"
    with pytest.raises(GrantError, match="reason must not be empty"):
        await facts.accept(by="olga", reason=" ")


def wish(person: str) -> Wish:
    return Wish(
        person=person, vendor="Acme", database="app", policy="reader", policy_revision="ab", policy_text="name: r",
        terms=Terms(), purpose="ticket 42", length=AN_HOUR,
    )  # fmt: skip


async def test_nothing_is_given_while_the_clock_is_behind(store: Store) -> None:
    clock = FakeClock()
    requests = Requests(store, clock)
    made = await requests.create(wish("jo"), by="root", lapse=AN_HOUR)
    facts = TimeFacts(store, clock, Told())
    await facts.keep(clock.now() + timedelta(seconds=60), 1.0, "b")
    await requests.create(wish("ann"), by="root", lapse=AN_HOUR)
    clock.step_wall(-1)
    for attempt in (
        requests.create(wish("cy"), by="root", lapse=AN_HOUR),
        requests.approve(made.id, by="olga", reason="fine"),
        requests.approve_at_once(made.id, by="olga", reason="fine"),
    ):
        with pytest.raises(GrantError, match=r"clock says 2026-01-05 08:59:59 UTC, and it has been 2026-01-05 09:01"):
            await attempt
    await facts.accept(by="olga", reason="right")
    await requests.approve(made.id, by="olga", reason="fine")


async def test_a_step_ends_no_grant_and_revives_none(store: Store) -> None:
    inner = FakeClock()
    clock = Steady(inner)
    grants = Grants(store, clock)
    facts: dict[str, Any] = {
        "vendor": "Acme", "database": "app", "policy": "reader", "policy_revision": "ab", "policy_text": "name: r",
        "reason": "ticket", "created_by": "root",
    }  # fmt: skip
    over, _ = await grants.create(person="a", length=timedelta(minutes=10), **facts)
    open_, _ = await grants.create(person="b", length=AN_HOUR, **facts)
    inner.advance(1200)
    for step in (7200, -14_400):
        inner.step_wall(step)
        assert (over.state(clock.now()), open_.state(clock.now())) == ("expired", "active")
        assert set(await grants.live()) == {open_.id}
    clock.accept()
    assert over.state(clock.now()) == "waiting", "that is what the operator said"


def test_kept_facts_survive_their_text_and_a_later_version() -> None:
    kept = Kept(datetime.fromisoformat("2026-01-05T09:00:00+00:00"), 1.5, "b", -90.0, "c-1", None)
    assert Kept.decode(kept.encode()) == kept
    assert Kept.decode('{"monotonic": 2.0, "new": 1}') == Kept(monotonic=2.0)


def test_the_boot_of_this_machine_has_a_name() -> None:
    assert boot() == boot()
    assert not Path("/proc/sys/kernel/random/boot_id").exists() or len(boot()) == 36
