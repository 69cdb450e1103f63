"""Who leads among hosts with one state: one at a time, and another soon after it died, was cut off, or fell silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from proxy.access import lead
from proxy.access.lead import FRESH, Lead
from proxy.access.store import Store
from proxy.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def pair(url: str, store: Store, clock: FakeClock) -> AsyncIterator[tuple[Lead, Lead]]:
    other = await Store.open(url)
    both = Lead(store, clock), Lead(other, clock)
    yield both
    for each in both:
        await each.let_go()
    await other.close()


def is_file(url: str) -> bool:
    return url.startswith("sqlite")


async def test_one_of_two(url: str, pair: tuple[Lead, Lead]) -> None:
    one, other = pair
    if is_file(url):  # a file is one host's, whose processes settle it by a lock of their own
        assert (one.holds(), await other.hold(), other.holds()) == (True, True, True)
        return
    assert (one.holds(), other.holds()) == (False, False)
    assert await one.hold()
    assert not await other.hold()
    assert await one.hold()
    assert (one.holds(), other.holds()) == (True, False)
    await one.let_go()
    assert await other.hold()
    assert not await one.hold()


async def test_who_has_not_asked_for_a_while_does_not_lead(url: str, pair: tuple[Lead, Lead], clock: FakeClock) -> None:
    if is_file(url):
        return
    one, _ = pair
    await one.hold()
    clock.advance(FRESH - 0.001)
    assert one.holds()
    clock.advance(0.001)
    assert not one.holds()
    assert await one.hold()


async def test_a_lost_connection_is_a_lost_lead(url: str, store: Store, pair: tuple[Lead, Lead]) -> None:
    if is_file(url):
        return
    one, other = pair
    await one.hold()
    admin = await asyncpg.connect(url)
    locks = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objid = $1"
    assert await admin.fetchval(locks, lead._LOCK)
    await admin.close()
    for _ in range(100):
        if await other.hold():
            break
        await asyncio.sleep(0.02)
    assert other.holds()
    assert not await one.hold()
    assert not one.holds()


async def test_who_falls_silent_is_let_go_of_by_the_server(
    url: str, pair: tuple[Lead, Lead], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process keeps its connection: nothing but its silence tells."""
    if is_file(url):
        return
    monkeypatch.setattr(lead, "SILENT", 1)
    one, other = pair
    await one.hold()
    for _ in range(200):
        if await other.hold():
            break
        await asyncio.sleep(0.02)
    assert other.holds()
    clock.advance(FRESH)
    assert not one.holds(), "and it knows by itself when it goes on"


async def test_a_state_that_is_not_there_leads_nobody(url: str, store: Store, clock: FakeClock) -> None:
    if is_file(url):
        return

    async def gone(_settings: dict[str, str]) -> asyncpg.Connection[asyncpg.Record]:
        raise OSError("no route to host")

    store.alone = gone
    alone = Lead(store, clock)
    assert not await alone.hold()
    assert not alone.holds()


def test_the_old_leader_knows_before_the_new_one_is_made() -> None:
    assert lead.SILENT > lead.FRESH + lead.ANSWER
