"""Reviews and proofs of removal in a store: who may sign, when, once; what is overdue; what held stays.

Covers proxy/access/reviews.py and proxy/access/removals.py.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from proxy.access.grants import GrantError, Grants
from proxy.access.model import Grant
from proxy.access.people import People
from proxy.access.removals import Finding, Removals
from proxy.access.reviews import Reviews, due_at
from proxy.access.stages import Stages
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.test_grants import WISH, Told


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def reviews(store: Store, clock: FakeClock, told: Told) -> Reviews:
    groups = {"auditors": ["Ann", "jo@vendor.example"], "empty": []}
    return Reviews(store, clock, told, groups, ["auditors", "empty"])


async def over(store: Store, clock: FakeClock, *, removed: bool = True, vendor: str = "Acme") -> Grant:
    grants, stages = Grants(store, clock), Stages(store, clock, lambda _action, _detail: None)
    grant, _ = await grants.create(**WISH | {"vendor": vendor})
    grant = await grants.revoke(grant.id, reason="done", by="root")
    due = due_at(clock.now(), within=3600, break_glass=None)
    assert await stages.move(grant, "ended", ended_at=clock.now(), review_due=due)
    if removed:
        assert await stages.move(await grants.get(grant.id), "removed", removed_at=clock.now())
    return await grants.get(grant.id)


async def test_signed_once_by_somebody_else(store: Store, clock: FakeClock, reviews: Reviews, told: Told) -> None:
    grant = await over(store, clock)
    review = await reviews.sign(grant.id, by="ann", verdict="fine", note="as agreed", summary={"rows": 12})
    assert await reviews.of(grant.id) == review
    after = await Grants(store, clock).get(grant.id)
    assert (after.stage, after.reviewed_at) == ("reviewed", clock.now())
    assert [action for action, _ in told] == ["review.signed", "reviewed"]
    assert told[0][1]["verdict"] == "fine"
    with pytest.raises(GrantError, match=r"was reviewed by ann at .*: fine"):
        await reviews.sign(grant.id, by="Ann", verdict="concern", note="no", summary={})


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("JO@vendor.example", "it was their own"),
        ("bob", "reviews.from asks auditors or empty"),
        ("", "by must not be empty"),
    ],
)
async def test_who_may_not(store: Store, clock: FakeClock, reviews: Reviews, told: Told, by: str, message: str) -> None:
    grant = await over(store, clock)
    with pytest.raises(GrantError, match=message):
        await reviews.sign(grant.id, by=by, verdict="fine", note="x", summary={})
    assert told == []
    assert (await Grants(store, clock).get(grant.id)).stage == "removed"


async def test_a_disabled_reviewer_signs_nothing(store: Store, clock: FakeClock, reviews: Reviews) -> None:
    grant = await over(store, clock)
    await People(store, clock, lambda _action, _detail: None).disable("ann", reason="left", by="olga")
    with pytest.raises(GrantError, match="ann was disabled"):
        await reviews.sign(grant.id, by="ann", verdict="fine", note="x", summary={})


async def test_not_before_the_removal_is_proven(store: Store, clock: FakeClock, reviews: Reviews) -> None:
    live, _ = await Grants(store, clock).create(**WISH)
    with pytest.raises(GrantError, match="is not over"):
        await reviews.sign(live.id, by="ann", verdict="fine", note="x", summary={})
    ended = await over(store, clock, removed=False)
    with pytest.raises(GrantError, match="its removal is not proven yet"):
        await reviews.sign(ended.id, by="ann", verdict="fine", note="x", summary={})
    with pytest.raises(GrantError, match="give a note"):
        await reviews.sign(ended.id, by="ann", verdict="fine", note="  ", summary={})


async def test_overdue_to_the_second(store: Store, clock: FakeClock, reviews: Reviews) -> None:
    grant = await over(store, clock)
    clock.advance(3599)
    assert await reviews.overdue() == []
    clock.advance(1)
    assert [one.id for one in await reviews.overdue()] == [grant.id]
    await reviews.sign(grant.id, by="ann", verdict="concern", note="late", summary={})
    assert await reviews.overdue() == []


def test_an_emergency_is_reviewed_sooner() -> None:
    now = FakeClock().now()
    assert due_at(now, within=7200, break_glass=None) == now + timedelta(hours=2)
    assert due_at(now, within=7200, break_glass=60) == now + timedelta(minutes=1)
    assert due_at(now, within=30, break_glass=60) == now + timedelta(seconds=30)


async def test_the_last_review_of_a_vendor(store: Store, clock: FakeClock, reviews: Reviews) -> None:
    assert await reviews.last_of_vendor("Acme") is None
    for vendor, verdict in (("Acme", "fine"), ("ACME ", "concern"), ("Other", "fine")):
        grant = await over(store, clock, vendor=vendor)
        await reviews.sign(grant.id, by="ann", verdict=verdict, note=vendor, summary={})  # type: ignore[arg-type]
        clock.advance(60)
    last = await reviews.last_of_vendor("acme")
    assert last is not None
    assert (last[0].vendor, last[1].verdict) == ("ACME", "concern")


async def test_proofs_are_kept_with_their_time_and_told_once(store: Store, clock: FakeClock, told: Told) -> None:
    removals = Removals(store, clock, told)
    grant = await over(store, clock, removed=False)
    await removals.note(grant, {"role": Finding(False, "it stands"), "token": Finding(True, "refused")})
    began = clock.now()
    clock.advance(5)
    await removals.note(grant, {"role": Finding(True, "it is gone"), "token": Finding(False, "nonsense")})
    found = await removals.of(grant.id)
    assert [(one.proof, one.ok, one.at, one.tries, one.why) for one in found] == [
        ("token", True, began, 1, "refused"),
        ("role", True, clock.now(), 2, "it is gone"),
    ]
    assert [action for action, _ in told] == ["removal.token", "removal.role"]
