"""Holds in a real store: decided once, by somebody else, in time."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.access.grants import GrantError, GrantNotFound
from proxy.access.holds import Hold, Holds
from proxy.access.store import Store
from proxy.clock import FakeClock

GROUPS = {"owners": ["Olga", "otto"], "empty": []}


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, action: str, detail: dict[str, Any]) -> None:
        self.append((action, detail))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def holds(store: Store, clock: FakeClock, told: Told) -> Holds:
    return Holds(store, clock, told, GROUPS)


async def ask(holds: Holds, approvers: tuple[str, ...] = ("owners",)) -> Hold:
    return await holds.ask(
        session="s-1",
        grant="g-1",
        person="jo@vendor.example",
        database="app",
        sql="select 1",
        rule="hold",
        reason="app.salaries",
        approvers=approvers,
        seconds=600,
    )


async def test_it_waits_and_is_decided(holds: Holds, told: Told) -> None:
    hold = await ask(holds)
    assert [one.id for one in await holds.all()] == [hold.id]
    assert await holds.decided([hold.id]) == {}
    done = await holds.decide(hold.id, approved=True, by="OLGA", reason="agreed")
    assert done == (await holds.decided([hold.id]))[hold.id] == await holds.get(hold.id)
    assert (done.state, done.decided_by, done.decided_why) == ("approved", "OLGA", "agreed")
    assert await holds.all() == []
    assert [action for action, _ in told] == ["hold.asked", "hold.approved"]
    assert all("select 1" not in str(detail) for _, detail in told)


@pytest.mark.parametrize(
    ("by", "approvers", "why"),
    [
        ("Jo@Vendor.example", (), "own session"),
        ("jo@vendor.example", ("owners",), "own session"),
        ("mallory", ("owners",), "asks owners"),
        ("mallory", ("empty",), "asks empty"),
        ("mallory", ("unknown",), "asks unknown"),
    ],
)
async def test_who_may_not_decide(holds: Holds, by: str, approvers: tuple[str, ...], why: str) -> None:
    hold = await ask(holds, approvers)
    for approved in (True, False):
        with pytest.raises(GrantError, match=why):
            await holds.decide(hold.id, approved=approved, by=by, reason="because")
    assert (await holds.get(hold.id)).state == "waiting"


async def test_it_leaves_waiting_once(holds: Holds, clock: FakeClock) -> None:
    first, second, third = await ask(holds), await ask(holds), await ask(holds)
    await holds.decide(first.id, approved=False, by="otto", reason="no")
    with pytest.raises(GrantError, match="no longer waits: denied"):
        await holds.decide(first.id, approved=True, by="Olga", reason="yes")
    assert not await holds.give_up(first.id, "cancelled", "gone")
    assert await holds.give_up(second.id, "cancelled", "gone")
    with pytest.raises(GrantError, match="no longer waits: cancelled"):
        await holds.decide(second.id, approved=True, by="Olga", reason="yes")
    clock.advance(600)
    with pytest.raises(GrantError, match="too late"):
        await holds.decide(third.id, approved=True, by="Olga", reason="yes")
    assert await holds.all() == []
    assert {one.state for one in await holds.all(waiting=False)} == {"denied", "cancelled", "waiting"}


async def test_an_unknown_hold(holds: Holds) -> None:
    for id in ("h-nothing0", "", "h-\x00"):
        with pytest.raises(GrantNotFound):
            await holds.decide(id, approved=True, by="Olga", reason="yes")


async def test_a_decision_that_cannot_be_recorded_is_none(store: Store, clock: FakeClock) -> None:
    def broken(action: str, detail: dict[str, Any]) -> None:
        if action != "hold.asked":
            raise OSError("no space")

    holds = Holds(store, clock, broken, GROUPS)
    hold = await ask(holds)
    with pytest.raises(OSError, match="no space"):
        await holds.decide(hold.id, approved=True, by="Olga", reason="yes")
    assert (await holds.get(hold.id)).state == "waiting"
