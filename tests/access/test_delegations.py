"""Delegations: one's own voice, for a while, never in one's own cause, never given on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from proxy.access import tables
from proxy.access.delegations import Delegations
from proxy.access.grants import GrantError
from proxy.access.requests import Requests
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.wishes import DAY, GROUPS, HOUR, Told, ask, wish

ANN, BOB, DAN, EVE, SAM = (f"{name}@shop.example" for name in ("ann", "bob", "dan", "eve", "sam"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def delegations(store: Store, clock: FakeClock, told: Told) -> Delegations:
    return Delegations(store, clock, told)


@pytest.fixture
def requests(store: Store, clock: FakeClock, told: Told) -> Requests:
    return Requests(store, clock, told, GROUPS)


async def test_second_by_second_over_its_time(
    delegations: Delegations, requests: Requests, clock: FakeClock, told: Told
) -> None:
    begin = clock.now() + timedelta(seconds=2)
    await delegations.create(from_whom=ANN, to_whom=DAN, starts_at=begin, until=begin + timedelta(seconds=2),
                             reason="holiday", by="Ann@shop.example")  # fmt: skip
    may = []
    for second in range(6):
        id = await ask(requests, approvers=("owners",), person=f"p{second}@vendor.example")
        try:
            await requests.approve(id, by="DAN@shop.example", reason="for her")
            may.append(True)
            (voice,) = await requests.voices(id)
            assert (voice.by, voice.for_whom) == ("DAN@shop.example", ANN)
        except GrantError:
            may.append(False)
        clock.advance(1)
    assert may == [False, False, True, True, False, False]
    assert told.actions()[0] == "delegation.created"
    assert next(detail["for"] for action, detail in told if action == "request.voice") == ANN


async def test_taken_back_it_is_over(
    delegations: Delegations, requests: Requests, clock: FakeClock, told: Told
) -> None:
    made = await delegations.create(from_whom=ANN, to_whom=DAN, until=clock.now() + DAY, reason="x", by=ANN)
    with pytest.raises(GrantError, match="only ann@"):
        await delegations.end(made.id, by=BOB, reason="x")
    await delegations.end(made.id, by=DAN, reason="back")
    with pytest.raises(GrantError, match="has ended at"):
        await delegations.end(made.id, by=ANN, reason="x")
    with pytest.raises(GrantError, match="asks owners"):
        await requests.approve(await ask(requests, approvers=("owners",)), by=DAN, reason="x")
    assert [each.stands(clock.now()) for each in await delegations.all()] == [False]
    assert told.actions()[:2] == ["delegation.created", "delegation.ended"]


async def test_it_is_never_given_on(delegations: Delegations, requests: Requests, clock: FakeClock) -> None:
    until = clock.now() + DAY
    await delegations.create(from_whom=ANN, to_whom=DAN, until=until, reason="x", by=ANN)
    await delegations.create(from_whom=DAN, to_whom=EVE, until=until, reason="x", by=DAN)
    with pytest.raises(GrantError, match="asks owners"):
        await requests.approve(await ask(requests, approvers=("owners",)), by=EVE, reason="x")


async def test_never_in_the_cause_of_either(delegations: Delegations, requests: Requests, clock: FakeClock) -> None:
    until = clock.now() + DAY
    await delegations.create(from_whom=ANN, to_whom=SAM, until=until, reason="x", by=ANN)
    await delegations.create(from_whom=BOB, to_whom=DAN, until=until, reason="x", by=BOB)
    with pytest.raises(GrantError, match="it was asked for by"):  # sam asked
        await requests.approve(await ask(requests, approvers=("owners",)), by=SAM, reason="x")
    own = await requests.create(wish(person="other", approvers=("owners",)), by=BOB, lapse=DAY)
    with pytest.raises(GrantError, match="asks owners"):  # bob asked; dan would speak with his voice
        await requests.approve(own.id, by=DAN, reason="x")


async def test_one_voice_is_one_voice(delegations: Delegations, requests: Requests, clock: FakeClock) -> None:
    await delegations.create(from_whom=ANN, to_whom=DAN, until=clock.now() + DAY, reason="x", by=ANN)
    id = await ask(requests, approvals=2, approvers=("owners",))
    await requests.approve(id, by=DAN, reason="x")
    with pytest.raises(GrantError, match=r"ann@shop\.example has approved"):
        await requests.approve(id, by=ANN, reason="x")
    with pytest.raises(GrantError, match="has approved"):
        await requests.approve(id, by=DAN, reason="x")


async def test_a_disabled_person_has_no_voice_to_give(
    delegations: Delegations, requests: Requests, store: Store, clock: FakeClock
) -> None:
    await delegations.create(from_whom=ANN, to_whom=DAN, until=clock.now() + DAY, reason="x", by=ANN)
    values = {"key": ANN, "person": ANN, "disabled_at": clock.now(), "disabled_by": BOB, "disable_reason": "left"}
    async with store.write() as connection:
        await connection.execute(tables.people.insert().values(values))
    with pytest.raises(GrantError, match="asks owners"):
        await requests.approve(await ask(requests, approvers=("owners",)), by=DAN, reason="x")
    with pytest.raises(GrantError, match="was disabled"):
        await delegations.create(from_whom=ANN, to_whom=EVE, until=clock.now() + DAY, reason="x", by=ANN)
    with pytest.raises(GrantError, match="was disabled"):
        await delegations.create(from_whom=BOB, to_whom=ANN, until=clock.now() + DAY, reason="x", by=BOB)


async def test_what_makes_no_sense(delegations: Delegations, clock: FakeClock, told: Told) -> None:
    now = clock.now()
    cases: dict[str, dict[str, Any]] = {
        "speaks for himself": {"from_whom": ANN, "to_whom": "ANN@Shop.example", "until": now + HOUR, "by": ANN},
        "only ann@shop.example can give": {"from_whom": ANN, "to_whom": DAN, "until": now + HOUR, "by": BOB},
        "that time is over": {"from_whom": ANN, "to_whom": DAN, "until": now, "by": ANN},
        "to must not be empty": {"from_whom": ANN, "to_whom": " ", "until": now + HOUR, "by": ANN},
    }
    for message, words in cases.items():
        with pytest.raises(GrantError, match=message):
            await delegations.create(**words, reason="x")
    for id in ("d-00000000", "", "\x00", "\udcff"):
        with pytest.raises(GrantError, match="there is no delegation"):
            await delegations.end(id, by=ANN, reason="x")
    assert told == []
