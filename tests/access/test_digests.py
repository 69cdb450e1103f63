"""Digests: once for each period, to whom it names and nobody else, whatever fails or comes at the same time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from proxy.access.digests import Digests, Period
from proxy.access.outbox import DIGEST, Outbox, wanted
from proxy.access.schedule import Schedule, next_due
from proxy.access.store import Store
from proxy.clock import FakeClock

DAILY = Schedule("08:00", "Europe/Berlin")


class Told:
    """The record of steps; it can break."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, dict[str, Any]]] = []
        self.broken = False

    def __call__(self, action: str, detail: dict[str, Any]) -> None:
        if self.broken:
            raise OSError("the disk is full")
        self.steps.append((action, detail))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def digests(store: Store, clock: FakeClock, told: Told) -> Digests:
    return Digests(store, clock, told, "ab12")


async def test_it_begins_with_the_period_that_runs(digests: Digests, clock: FakeClock) -> None:
    assert await digests.seen("owners") is None
    period = await digests.period("owners", DAILY)
    assert period.since <= clock.now() < period.until
    assert period.until - period.since == timedelta(days=1)
    clock.advance(5 * 86_400)
    assert await digests.period("owners", DAILY) == period, "it is told, however late"
    assert await digests.seen("owners") == period.since


async def test_a_period_is_told_once(store: Store, digests: Digests, clock: FakeClock, told: Told) -> None:
    outbox = Outbox(store, clock)
    await outbox.due("other", ["*"])
    period = await digests.period("owners", DAILY)
    clock.advance(86_400)
    both = [digests, Digests(store, clock, told, "ab12")]
    entered = await asyncio.gather(
        *(each.enter("owners", period, ["mail", "hook", "mail"], {"rows": 3}, {"x": "[1]"}) for each in both)
    )
    assert sorted(entered) == [False, True]
    assert told.steps == [
        (
            DIGEST,
            {
                "by": "daypass",
                "digest": "owners",
                "since": "2026-01-05T07:00:00.000000Z",
                "until": "2026-01-06T07:00:00.000000Z",
                "to": ["mail", "hook", "mail"],
                "rows": 3,
            },
        )
    ]
    for sink in ("mail", "hook"):
        (step,) = await outbox.due(sink, [])
        assert (step.action, step.detail["document"]) == (DIGEST, {"x": "[1]"})
        await outbox.delivered(step, sink)
        assert await outbox.due(sink, ["*"]) == []
    assert await outbox.due("other", ["*", "digest.*", DIGEST]) == []
    after = await digests.period("owners", DAILY)
    assert after == Period(period.until, next_due(DAILY, period.until))


async def test_what_cannot_be_recorded_is_not_marked(store: Store, digests: Digests, told: Told) -> None:
    period = await digests.period("owners", DAILY)
    told.broken = True
    with pytest.raises(OSError, match="full"):
        await digests.enter("owners", period, ["mail"], {}, None)
    told.broken = False
    assert await digests.period("owners", DAILY) == period
    assert await Outbox(store, FakeClock()).due("mail", ["*"]) == []
    assert await digests.enter("owners", period, ["mail"], {}, None)


async def test_nothing_to_tell(digests: Digests, told: Told) -> None:
    period = await digests.period("owners", DAILY)
    assert await digests.skip("owners", period)
    assert not await digests.skip("owners", period)
    assert not await digests.enter("owners", period, ["mail"], {}, None)
    assert told.steps == []


async def test_each_place_and_each_name_for_itself(store: Store, digests: Digests, clock: FakeClock) -> None:
    period = await digests.period("owners", DAILY)
    elsewhere = Digests(store, clock, Told(), "cd34")
    assert await elsewhere.period("owners", DAILY) == period
    assert await elsewhere.period("acme", DAILY) == period
    assert await elsewhere.enter("owners", period, ["mail"], {}, None)
    assert await digests.enter("owners", period, ["mail"], {}, None)
    assert await elsewhere.skip("acme", period)


async def test_another_schedule_leaves_no_gap(digests: Digests, clock: FakeClock) -> None:
    period = await digests.period("owners", DAILY)
    weekly = await digests.period("owners", Schedule("09:00", "UTC", "fri"))
    assert weekly.since == period.since
    assert f"{weekly.until:%a %H:%M}" == "Fri 09:00"


def test_no_glob_fits_it() -> None:
    assert not any(wanted([glob], DIGEST) for glob in ("*", "digest.*", DIGEST))
