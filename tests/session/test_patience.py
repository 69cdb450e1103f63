"""Guessing gets slow, on a clock that a test moves; nobody is locked out, and no name is told from another."""

from __future__ import annotations

import asyncio

import pytest

from proxy.clock import FakeClock
from proxy.session import patience
from proxy.session.patience import Patience, neighbourhood

HERE, THERE = "203.0.113.7", "198.51.100.9"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def wrong(guarded: Patience, address: str = HERE, name: str = "g-00000001") -> float:
    return guarded.weigh(address, name, right=False)


def right(guarded: Patience, address: str = HERE, name: str = "g-00000001") -> float:
    return guarded.weigh(address, name, right=True)


def test_mistyping_costs_nothing_and_guessing_more_and_more(clock: FakeClock) -> None:
    guarded = Patience(clock)
    assert [wrong(guarded) for _ in range(9)] == [0, 0, 0, 0.25, 0.5, 1, 2, 4, 5]
    assert [wrong(guarded) for _ in range(1000)][-1] == patience.LONGEST


def test_the_owner_gets_in_from_elsewhere_at_once_and_from_there_within_a_second(clock: FakeClock) -> None:
    guarded = Patience(clock)
    for _ in range(500):
        wrong(guarded)
    assert right(guarded, THERE) == 0
    assert right(guarded) == patience.LONGEST_RIGHT
    assert wrong(guarded, THERE) == patience.LONGEST, "the name's failures count for wrong proofs from anywhere"


def test_many_addresses_on_one_name_do_not_slow_its_owner(clock: FakeClock) -> None:
    guarded = Patience(clock)
    waits = [wrong(guarded, f"192.0.2.{n}") for n in range(200)]
    assert waits[:10] == [0] * 10
    assert waits[-1] == patience.LONGEST
    assert right(guarded, THERE) == 0


def test_one_address_on_many_names_is_slow_and_its_neighbours_are_not_kept_out(clock: FakeClock) -> None:
    guarded = Patience(clock)
    waits = [wrong(guarded, name=f"g-{n:08}") for n in range(30)]
    assert waits[:10] == [0] * 10
    assert waits[-1] == patience.LONGEST
    assert right(guarded, name="g-zzzzzzzz") <= patience.LONGEST_RIGHT


def test_it_is_forgotten(clock: FakeClock) -> None:
    guarded = Patience(clock)
    for _ in range(6):
        wrong(guarded)
    clock.advance(patience.HALF_LIFE)
    assert wrong(guarded) == 0.25, "half of six, and one more"
    clock.advance(3600)
    assert wrong(guarded) == 0


def test_a_right_proof_clears_what_was_mistyped(clock: FakeClock) -> None:
    guarded = Patience(clock)
    for _ in range(5):
        wrong(guarded)
    assert right(guarded) == 0.5
    assert right(guarded) == 0
    assert wrong(guarded) == 0


def test_memory_is_bounded_by_names_and_by_addresses(clock: FakeClock) -> None:
    guarded = Patience(clock)
    for n in range(patience.REMEMBERED + 500):
        wrong(guarded, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", f"name {n}")
    assert len(guarded) == patience.REMEMBERED


async def test_only_so_many_wait_at_once(clock: FakeClock) -> None:
    gate, slept = asyncio.Event(), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await gate.wait()

    guarded = Patience(clock, room=2, sleep=sleep)
    for _ in range(5):
        wrong(guarded)
    answers = [asyncio.ensure_future(guarded.answer(HERE, "g-00000001", right=False)) for _ in range(3)]
    await asyncio.sleep(0)
    assert (guarded.waiting, slept) == (2, [1, 2])
    assert answers[2].done()
    gate.set()
    await asyncio.gather(*answers)
    assert (guarded.waiting, guarded.slowed) == (0, 2)


def test_a_wait_is_shorter_than_the_login_may_take(clock: FakeClock) -> None:
    guarded = Patience(clock, most=0.7)
    assert max(wrong(guarded) for _ in range(50)) == 0.7
    assert right(guarded) == 0.7


@pytest.mark.parametrize(
    ("address", "shared"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
        ("", ""),
    ],
)
def test_who_shares_an_address(address: str, shared: str) -> None:
    assert neighbourhood(address) == shared
