"""Requests in a real store: asked, decided by others, once, in time; bad input; ten thousand of them."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from proxy.access import tables
from proxy.access.grants import GrantError, GrantNotFound, Grants
from proxy.access.model import Terms
from proxy.access.requests import Requests
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.wishes import DAY, GROUPS, HOUR, Told, ask, wish

ANN, BOB, DAN, SAM, JO = (f"{name}@shop.example" for name in ("ann", "bob", "dan", "sam", "jo"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def requests(store: Store, clock: FakeClock, told: Told) -> Requests:
    return Requests(store, clock, told, GROUPS)


async def test_asked_approved_granted(requests: Requests, clock: FakeClock, told: Told) -> None:
    id = await ask(requests, approvals=2, approvers=("owners",), ticket="OPS-42")
    asked, grant = await requests.approve(id, by=ANN, reason="agreed")
    assert (asked.state, grant) == ("requested", None)
    clock.advance(60)
    asked, grant = await requests.approve(id, by=BOB, reason="also")
    assert grant is not None
    assert (asked.state, grant.request, grant.person) == ("approved", id, "jo@vendor.example")
    assert (grant.starts_at, grant.expires_at) == (clock.now(), clock.now() + 4 * HOUR)
    assert [voice.by for voice in await requests.voices(id)] == [ANN, BOB]
    assert told.actions() == ["request.created", "request.voice", "request.voice", "request.approved", "created"]
    assert all(detail["by"] for _, detail in told)


async def test_a_new_grant_of_a_request_has_no_token_that_opens(requests: Requests, store: Store) -> None:
    _, grant = await requests.approve(await ask(requests), by=ANN, reason="fine")
    assert grant is not None
    async with store.read() as connection:
        query = sa.select(tables.grants.c.verifier).where(tables.grants.c.id == grant.id)
        assert (await connection.execute(query)).scalar() == ""
    found, mock = await Grants(store, FakeClock()).login(grant.id)
    assert found == grant
    assert mock.iterations == 4096


async def test_the_steps_wait_in_the_outbox(requests: Requests, store: Store, told: Told) -> None:
    await requests.approve(await ask(requests), by=ANN, reason="fine")
    async with store.read() as connection:
        rows = (await connection.execute(sa.select(tables.steps).order_by(tables.steps.c.id))).all()
    assert [(row.action, json.loads(row.detail)) for row in rows] == told


async def test_what_cannot_be_recorded_does_not_happen(store: Store, clock: FakeClock) -> None:
    told = Told()
    id = await ask(Requests(store, clock, told, GROUPS))

    def full(action: str, detail: dict[str, Any]) -> None:
        raise OSError("no space left")

    broken = Requests(store, clock, full, GROUPS)
    for step in (
        broken.approve(id, by=ANN, reason="x"),
        broken.deny(id, by=ANN, reason="x"),
        broken.withdraw(id, by=SAM, reason="x"),
        broken.create(wish(), by=SAM, lapse=DAY, overlap=True),
    ):
        with pytest.raises(OSError, match="no space"):
            await step
    assert [request.state for request in await broken.all()] == ["requested"]
    assert await broken.voices(id) == []
    assert await Grants(store, clock).list() == []


async def test_approving_twice_is_refused_and_changes_nothing(requests: Requests) -> None:
    id = await ask(requests, approvals=2)
    await requests.approve(id, by=ANN, reason="fine")
    with pytest.raises(GrantError, match=r"has approved .* already"):
        await requests.approve(id, by="Ann@SHOP.example", reason="fine")
    await requests.approve(id, by=BOB, reason="fine")
    with pytest.raises(GrantError, match=f"was approved by {BOB} at 2026-01-05 09:00:00 UTC: fine"):
        await requests.approve(id, by=DAN, reason="fine")


async def test_a_no_ends_it(requests: Requests, told: Told) -> None:
    id = await ask(requests, approvals=2)
    await requests.approve(id, by=ANN, reason="fine")
    denied = await requests.deny(id, by=BOB, reason="not before the release")
    assert (denied.state, denied.decided_by) == ("denied", BOB)
    for step in (requests.approve(id, by=DAN, reason="x"), requests.deny(id, by=DAN, reason="x")):
        with pytest.raises(GrantError, match="was denied by"):
            await step
    assert told.actions()[-1] == "request.denied"


async def test_only_those_who_may_approve_may_deny(requests: Requests) -> None:
    id = await ask(requests, approvers=("owners",))
    for by in (SAM, "jo@vendor.example", DAN):
        with pytest.raises(GrantError, match="cannot decide about"):
            await requests.deny(id, by=by, reason="x")


async def test_only_who_asked_or_is_asked_for_takes_it_back(requests: Requests) -> None:
    id = await ask(requests)
    with pytest.raises(GrantError, match=r"only sam@shop\.example or jo@vendor\.example can withdraw"):
        await requests.withdraw(id, by=ANN, reason="x")
    assert (await requests.withdraw(id, by="SAM@shop.example", reason="solved")).state == "withdrawn"


async def test_second_by_second_around_the_lapse(requests: Requests, clock: FakeClock, told: Told) -> None:
    id = await ask(requests)
    clock.advance(7 * 86_400 - 1)
    assert await requests.lapse() == []
    assert (await requests.get(id)).standing(clock.now()) == "requested"
    clock.advance(1)
    assert (await requests.get(id)).standing(clock.now()) == "lapsed", "before anybody has written it down"
    assert await requests.all(pending=True) == []
    for step in (requests.approve(id, by=ANN, reason="x"), requests.deny(id, by=ANN, reason="x")):
        with pytest.raises(GrantError, match="lapsed at 2026-01-12 09:00:00 UTC: nobody answered in time; ask again"):
            await step
    assert [request.id for request in await requests.lapse()] == [id]
    assert await requests.lapse() == []
    assert told.actions() == ["request.created", "request.lapsed"]


async def test_a_window_lapses_with_its_end(requests: Requests, clock: FakeClock) -> None:
    id = await ask(requests, starts_at=clock.now() + HOUR, length=HOUR)
    assert (await requests.get(id)).lapses_at == clock.now() + 2 * HOUR


async def test_approved_within_its_window_it_ends_with_the_window(requests: Requests, clock: FakeClock) -> None:
    begin = clock.now() + HOUR
    id = await ask(requests, starts_at=begin)
    clock.advance(2 * 3600)
    _, grant = await requests.approve(id, by=ANN, reason="late")
    assert grant is not None
    assert (grant.starts_at, grant.expires_at) == (clock.now(), begin + 4 * HOUR)


async def test_approved_before_its_window_it_waits(requests: Requests, clock: FakeClock) -> None:
    begin = clock.now() + HOUR
    _, grant = await requests.approve(await ask(requests, starts_at=begin), by=ANN, reason="early")
    assert grant is not None
    assert (grant.stage, grant.starts_at, grant.expires_at) == ("waiting", begin, begin + 4 * HOUR)


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1), timedelta(days=-400)])
async def test_no_length_at_all(requests: Requests, length: timedelta) -> None:
    with pytest.raises(GrantError, match="longer than no time at all"):
        await ask(requests, length=length)


async def test_a_window_in_the_past(requests: Requests, clock: FakeClock) -> None:
    with pytest.raises(GrantError, match="that time is over: it would end at 2026-01-05 08:00:00 UTC"):
        await ask(requests, starts_at=clock.now() - 5 * HOUR)


async def test_texts_that_are_no_line(requests: Requests) -> None:
    for what in ("", "  ", "two\nlines", "\x1b[2J", "x" * 501):
        with pytest.raises(GrantError):
            await ask(requests, purpose=what)
        with pytest.raises(GrantError):
            await ask(requests, person=what)
        with pytest.raises(GrantError):
            await requests.approve(await ask(requests, overlap=True), by=ANN, reason=what)


async def test_there_is_no_such_request(requests: Requests) -> None:
    for id in ("r-00000000", "", "g-7k3m9x2q", "\x00", "\udcff", "' or 1=1 --", "x" * 5000):
        with pytest.raises(GrantNotFound, match="no request"):
            await requests.get(id)


async def test_two_grants_for_one_thing_at_one_time(requests: Requests, store: Store, clock: FakeClock) -> None:
    early = await ask(requests)
    twin = await ask(requests, person="JO@vendor.example")
    _, grant = await requests.approve(early, by=ANN, reason="fine")
    assert grant is not None
    with pytest.raises(GrantError, match=f"has the grant {grant.id} for app under reader from 2026-01-05 09:00:00"):
        await ask(requests, person="Jo@Vendor.example")
    with pytest.raises(GrantError, match=f"has the grant {grant.id}"):
        await requests.approve(twin, by=ANN, reason="fine")
    assert await requests.voices(twin) == [], "the voice that would have made it is undone too"
    await ask(requests, starts_at=grant.expires_at)  # right behind it
    with pytest.raises(GrantError):
        await ask(requests, starts_at=grant.expires_at - timedelta(seconds=1))
    await ask(requests, person="other@vendor.example")
    await ask(requests, policy="writer")
    await ask(requests, break_glass=True)
    await Grants(store, clock).revoke(grant.id, reason="done", by=ANN)
    assert (await requests.approve(twin, by=ANN, reason="fine"))[1] is not None


async def test_a_disabled_person_neither_asks_nor_decides(requests: Requests, store: Store, clock: FakeClock) -> None:
    id = await ask(requests)
    values = {"key": ANN, "person": ANN, "disabled_at": clock.now(), "disabled_by": BOB, "disable_reason": "left"}
    async with store.write() as connection:
        await connection.execute(tables.people.insert().values(values))
    with pytest.raises(GrantError, match=r"ANN@shop\.example was disabled at 2026-01-05 09:00:00 UTC: left"):
        await requests.approve(id, by="ANN@shop.example", reason="x")
    with pytest.raises(GrantError, match="was disabled"):
        await ask(requests, person="Ann@shop.example")
    with pytest.raises(GrantError, match="was disabled"):
        await requests.create(wish(), by=ANN, lapse=DAY)
    with pytest.raises(GrantError, match="was disabled"):
        await requests.deny(id, by=ANN, reason="x")


async def test_what_was_asked_for_is_what_is_granted(requests: Requests) -> None:
    terms = Terms(approvals=1, agreements=("nda",), hours="09:00-18:00", timezone="Europe/Berlin", single_use=True)
    id = await ask(requests, terms=terms, bind_ip="203.0.113.7", policy_text="name: reader # then\n")
    _, grant = await requests.approve(id, by=ANN, reason="fine")
    assert grant is not None
    assert (grant.terms, grant.bind_ip) == (terms, "203.0.113.7/32")
    assert (grant.policy_text, grant.policy_revision) == ("name: reader # then\n", "ab" * 32)
    with pytest.raises(GrantError, match="is not an address or network"):
        await ask(requests, bind_ip="everywhere", overlap=True)


async def test_the_short_way_only_where_nobody_is_asked(requests: Requests) -> None:
    with pytest.raises(GrantError, match=r"asks for 1 approval\(s\)"):
        await requests.approve_at_once(await ask(requests), by=SAM, reason="x")
    request, grant = await requests.approve_at_once(await ask(requests, approvals=0), by=SAM, reason="x")
    assert (request.state, grant.request) == ("approved", request.id)


async def test_many_decide_at_the_same_moment_and_one_decision_stands(url: str, store: Store, clock: FakeClock) -> None:
    """Each with connections of its own, as processes are."""
    told = Told()
    stores = [await Store.open(url) for _ in range(3)]
    sides = [Requests(each, clock, told, GROUPS) for each in stores]
    id = await ask(sides[0])
    answers = await asyncio.gather(
        *(sides[n % 3].approve(id, by=f"p{n}@shop.example", reason="yes") for n in range(6)),
        sides[0].deny(id, by="q@shop.example", reason="no"),
        sides[1].withdraw(id, by=SAM, reason="no"),
        return_exceptions=True,
    )
    for each in stores:
        await each.close()
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1, answers
    assert all(isinstance(answer, GrantError) for answer in answers if isinstance(answer, BaseException)), answers
    grants = await Grants(store, clock).list()
    final = (await Requests(store, clock).get(id)).state
    assert len(grants) == (1 if final == "approved" else 0)


async def test_two_last_voices_at_the_same_moment_make_one_grant(url: str, store: Store, clock: FakeClock) -> None:
    """Each sees the other's voice: neither both of them make the grant, nor none."""
    stores = [await Store.open(url) for _ in range(4)]
    sides = [Requests(each, clock, Told(), GROUPS) for each in stores]
    for count in range(2, 5):
        id = await ask(sides[0], approvals=count, overlap=True, person=f"p{count}@vendor.example")
        made = await asyncio.gather(
            *(sides[n].approve(id, by=f"p{n}@shop.example", reason="yes") for n in range(4)), return_exceptions=True
        )
        assert sum(not isinstance(each, BaseException) and each[1] is not None for each in made) == 1, made
    for each in stores:
        await each.close()
    assert len(await Grants(store, clock).list()) == 3


async def test_among_ten_thousand(requests: Requests, store: Store, clock: FakeClock) -> None:
    id = await ask(requests)
    async with store.write() as connection:
        row = dict((await connection.execute(sa.select(tables.requests))).mappings().one())
        more = [row | {"id": f"r-{n:08d}", "person": f"p{n}@v.example", "person_key": f"p{n}@v.example"}
                for n in range(10_000)]  # fmt: skip
        await connection.execute(tables.requests.insert(), more)
    began = time.perf_counter()
    assert len(await requests.all(pending=True, limit=200)) == 200
    assert await requests.count(pending=True) == 10_001
    _, grant = await requests.approve(id, by=ANN, reason="fine")
    assert grant is not None
    assert time.perf_counter() - began < 1.0
    clock.advance(8 * 86_400)
    assert await requests.all(pending=True) == []
