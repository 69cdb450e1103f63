"""What a person approved who is disabled before the request is decided does not count; what was decided stays so.

Covers `access.people`, `access.requests` and `access.approvals` together, and what migration 0005 finds.
"""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from proxy.access import approvals
from proxy.access.delegations import Delegations
from proxy.access.grants import GrantError
from proxy.access.people import People
from proxy.access.requests import Requests
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.wishes import DAY, GROUPS, Told, ask

ANN, BOB, CY, DAN = "ann@shop.example", "bob@shop.example", "cy@shop.example", "dan@shop.example"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def requests(store: Store, clock: FakeClock, told: Told) -> Requests:
    return Requests(store, clock, told, GROUPS)


@pytest.fixture
def people(store: Store, clock: FakeClock, told: Told) -> People:
    return People(store, clock, told)


async def test_a_disabled_approvers_voice_no_longer_counts(requests: Requests, people: People, told: Told) -> None:
    id = await ask(requests, approvals=2, approvers=("owners",))
    await requests.approve(id, by=ANN, reason="fine")
    ended = await people.disable("ANN@shop.example ", reason="left", by="olga")
    assert (ended.approvals, ended.requests) == ([id], [])
    request, grant = await requests.approve(id, by=BOB, reason="fine")
    assert (request.state, grant) == ("requested", None)
    voices = await requests.voices(id)
    assert [(v.by, v.void_why) for v in voices] == [(ANN, "ANN@shop.example was disabled: left"), (BOB, None)]
    assert approvals.missing(request, voices) == 1
    _, grant = await requests.approve(id, by=CY, reason="fine")
    assert grant is not None
    (detail,) = [detail for action, detail in told if action == "request.unsaid"]
    assert (detail["request"], detail["approver"], detail["by"]) == (id, ANN, "olga")


async def test_enabled_again_they_must_say_it_again(requests: Requests, people: People) -> None:
    id = await ask(requests, approvals=2, approvers=("owners",))
    await requests.approve(id, by=ANN, reason="fine")
    await people.disable(ANN, reason="left", by="olga")
    await people.enable(ANN, reason="back", by="olga")
    _, grant = await requests.approve(id, by=BOB, reason="fine")
    assert grant is None
    _, grant = await requests.approve(id, by=ANN, reason="still fine")
    assert grant is not None
    found = {(v.by, v.reason, v.void_at) for v in await requests.voices(id)}
    assert found == {(ANN, "still fine", None), (BOB, "fine", None)}


@pytest.mark.parametrize("gone", [ANN, DAN])
async def test_a_voice_that_was_delegated_goes_with_either(
    store: Store, requests: Requests, people: People, clock: FakeClock, told: Told, gone: str
) -> None:
    delegations = Delegations(store, clock, told)
    await delegations.create(from_whom=ANN, to_whom=DAN, until=clock.now() + DAY, reason="leave", by=ANN)
    id = await ask(requests, approvals=2, approvers=("owners",))
    await requests.approve(id, by=DAN, reason="for her")
    assert (await people.disable(gone, reason="left", by="olga")).approvals == [id]
    request, grant = await requests.approve(id, by=BOB, reason="fine")
    assert grant is None
    assert approvals.missing(request, await requests.voices(id)) == 1
    if gone == DAN:  # her voice was never given, then
        _, grant = await requests.approve(id, by=ANN, reason="myself")
        assert grant is not None
    else:
        with pytest.raises(GrantError, match="was disabled at"):
            await requests.approve(id, by=ANN, reason="myself")


async def test_what_was_decided_stays_decided(requests: Requests, people: People) -> None:
    id = await ask(requests, approvals=1, approvers=("owners",))
    _, grant = await requests.approve(id, by=ANN, reason="fine")
    assert grant is not None
    ended = await people.disable(ANN, reason="left", by="olga")
    assert (ended.approvals, ended.grants) == ([], [])
    (voice,) = await requests.voices(id)
    assert voice.void_at is None


async def test_what_stands_from_before_the_mark_is_marked_by_the_migration(
    store: Store, url: str, requests: Requests, people: People
) -> None:
    waiting = await ask(requests, approvals=2, approvers=("owners",))
    await requests.approve(waiting, by=ANN, reason="fine")
    await requests.approve(other := await ask(requests, approvals=2, person="kim@vendor.example"), by=BOB, reason="x")
    await people.disable(ANN, reason="left", by="olga")
    async with store.write() as connection:  # as version 0004 left it
        for table in ("hosts", "agreement_links"):
            await connection.execute(sa.text(f"drop table {table}"))
        for column in ("void_at", "void_why"):
            await connection.execute(sa.text(f"alter table approvals drop column {column}"))
        await connection.execute(sa.text("update alembic_version set version_num = '0004'"))
    again = await Store.open(url)
    try:
        later = Requests(again, FakeClock(), None, GROUPS)
        (voice,) = await later.voices(waiting)
        assert voice.void_at is not None
        assert voice.void_why == f"{ANN} was disabled: left"
        (voice,) = await later.voices(other)
        assert voice.void_at is None
    finally:
        await again.close()
