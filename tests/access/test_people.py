"""Disabling a person ends everything of theirs, in one step, and lets them begin nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from proxy.access import tables
from proxy.access.grants import GrantError, Grants
from proxy.access.model import Terms
from proxy.access.people import People
from proxy.access.requests import Requests, Wish
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.test_grants import WISH, Told

DAY = timedelta(days=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


def a_wish(**change: Any) -> Wish:
    values: dict[str, Any] = {
        "person": "jo@vendor.example", "vendor": "Acme", "database": "app", "policy": "reader",
        "policy_revision": "ab" * 32, "policy_text": "name: reader\n", "terms": Terms(approvals=1), "purpose": "test",
        "length": timedelta(hours=4),
    }  # fmt: skip
    return Wish(**values | change)


async def test_everything_of_theirs_ends(store: Store, clock: FakeClock, told: Told) -> None:
    grants, requests = Grants(store, clock), Requests(store, clock)
    mine, _ = await grants.create(**WISH)
    later, _ = await grants.create(**WISH | {"person": " JO@vendor.example"}, starts_at=clock.now() + DAY)
    other, _ = await grants.create(**WISH | {"person": "kim@vendor.example"})
    for_them = await requests.create(a_wish(policy="second"), by="ann", lapse=DAY)
    by_them = await requests.create(
        a_wish(person="kim@vendor.example", policy="third"), by="Jo@Vendor.example", lapse=DAY
    )
    others = await requests.create(a_wish(person="lee@vendor.example"), by="ann", lapse=DAY)
    async with store.write() as connection:
        values: dict[str, Any] = {"id": "d-1", "from_whom": "ann", "to_whom": "jo@vendor.example", "reason": "leave"}
        values |= {"starts_at": clock.now(), "ends_at": clock.now() + DAY}
        await connection.execute(tables.delegations.insert().values(values))

    ended = await People(store, clock, told).disable("jo@vendor.example", reason="left Acme", by="olga")
    assert set(ended.grants) == {mine.id, later.id}
    assert set(ended.requests) == {for_them.id, by_them.id}
    assert ended.delegations == ["d-1"]
    assert set(await grants.live()) == {other.id}
    over = await grants.get(mine.id)
    assert (over.state(clock.now()), over.ended_why) == ("revoked", "person")
    assert over.revoke_reason == "jo@vendor.example was disabled: left Acme"
    states = {one.id: one.state for one in await requests.all()}
    assert states == {for_them.id: "denied", by_them.id: "withdrawn", others.id: "requested"}
    assert sorted(action for action, _ in told) == [
        "delegation.ended", "person.disabled", "request.denied", "request.withdrawn", "revoked", "revoked",
    ]  # fmt: skip


async def test_they_can_begin_nothing(store: Store, clock: FakeClock, told: Told) -> None:
    requests, people = Requests(store, clock), People(store, clock, told)
    await people.disable("Jo@Vendor.Example", reason="left", by="olga")
    for wish, by in ((a_wish(), "ann"), (a_wish(person="kim@vendor.example"), "jo@vendor.example")):
        with pytest.raises(GrantError, match="was disabled at"):
            await requests.create(wish, by=by, lapse=DAY)
    asked = await requests.create(a_wish(person="kim@vendor.example"), by="ann", lapse=DAY)
    with pytest.raises(GrantError, match="was disabled at"):
        await requests.approve(asked.id, by="jo@vendor.example", reason="fine")
    await people.enable("jo@vendor.example", reason="back", by="olga")
    await requests.create(a_wish(), by="ann", lapse=DAY)
    assert [action for action, _ in told] == ["person.disabled", "person.enabled"]


async def test_twice_makes_no_sense(store: Store, clock: FakeClock, told: Told) -> None:
    people = People(store, clock, told)
    with pytest.raises(GrantError, match="is not disabled"):
        await people.enable("jo", reason="x", by="olga")
    await people.disable("jo", reason="x", by="olga")
    with pytest.raises(GrantError, match=r"jo was disabled at .* by olga"):
        await people.disable("JO", reason="y", by="pat")
    with pytest.raises(GrantError, match="reason must not be empty"):
        await people.disable("kim", reason=" ", by="pat")
    await people.enable("jo", reason="x", by="olga")
    await people.disable("jo", reason="again", by="olga")


async def test_a_grant_that_slipped_through_ends_in_the_next_round(store: Store, clock: FakeClock, told: Told) -> None:
    people, grants = People(store, clock, told), Grants(store, clock)
    assert await people.sweep() == []
    await people.disable("jo@vendor.example", reason="left", by="olga")
    late, _ = await grants.create(**WISH)
    assert await people.sweep() == [late.id]
    assert await people.sweep() == []
    assert (await grants.get(late.id)).ended_why == "person"


async def test_what_cannot_be_recorded_does_not_happen(store: Store, clock: FakeClock) -> None:
    grants = Grants(store, clock)
    grant, _ = await grants.create(**WISH)

    def broken(action: str, _detail: dict[str, Any]) -> None:
        if action == "revoked":
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        await People(store, clock, broken).disable("jo@vendor.example", reason="left", by="olga")
    assert set(await grants.live()) == {grant.id}
    async with store.read() as connection:
        assert (await connection.execute(sa.select(tables.people))).first() is None


async def test_the_list(store: Store, clock: FakeClock, told: Told) -> None:
    people, grants = People(store, clock, told), Grants(store, clock)
    await grants.create(**WISH | {"person": "kim"})
    await grants.create(**WISH | {"person": "Kim"})
    await people.disable("jo", reason="left", by="olga")
    found = await people.all()
    assert [(one.person, one.live, one.grants, one.disabled_by) for one in found] == [
        ("jo", 0, 0, "olga"),
        ("Kim", 2, 2, None),
    ]
