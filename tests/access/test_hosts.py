"""What hosts tell each other in a shared state, and when one of them counts as free of a grant.

Covers proxy/access/hosts.py, and `elsewhere` of proxy/session/proofs.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.access import tables
from proxy.access.hosts import LEASE, Hosts, host_name
from proxy.access.removals import Finding
from proxy.access.store import Store
from proxy.session.proofs import elsewhere


async def test_with_a_file_there_are_no_others(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    try:
        here, there = Hosts(store, "a"), Hosts(store, "b")
        await there.tell(["g-1"])
        assert await here.others() == []
        assert await here.free_of("g-1") == (True, "")
    finally:
        await store.close()


@pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
class TestShared:
    async def test_a_host_is_free_once_it_has_said_so_after_it_was_asked(self, store: Store) -> None:
        here, there = Hosts(store, "a"), Hosts(store, "b")
        await here.tell([])
        assert await here.free_of("g-1") == (True, ""), "nobody else is known"
        await there.tell(["g-2"])
        assert await here.free_of("g-1") == (False, "b has not said yet")
        await there.tell([])
        assert not (await here.free_of("g-1"))[0], "that may have been looked up before"
        await there.tell([])
        assert await here.free_of("g-1") == (True, "b says none")

    async def test_sessions_there_are_waited_for(self, store: Store) -> None:
        here, there = Hosts(store, "a"), Hosts(store, "b")
        for _ in range(4):
            await there.tell(["g-1", "g-3"])
            free, said = await here.free_of("g-1")
            assert not free
            assert "b has open sessions of it" in said
        await there.tell(["g-3"])
        assert (await here.free_of("g-1"))[0]

    async def test_a_silent_host_is_waited_for_as_long_as_its_lease(self, store: Store) -> None:
        here, there = Hosts(store, "a"), Hosts(store, "b")
        await there.tell(["g-1"])
        for age, free in ((LEASE - 5, False), (LEASE + 5, True)):
            past = sa.func.clock_timestamp() - sa.text(f"interval '{age} s'")
            async with store.write() as connection:
                await connection.execute(sa.update(tables.hosts).values(at=past))
            assert (await here.free_of("g-1"))[0] is free
        (host,) = await here.others()
        assert (host.name, host.grants) == ("b", frozenset({"g-1"}))


def test_the_finding_says_what_the_others_say() -> None:
    here = Finding(True, "0 sessions")
    assert elsewhere(here, True, "") == here
    assert elsewhere(here, False, "b has not said yet") == Finding(False, "0 sessions; other hosts: b has not said yet")


def test_two_folders_are_two_hosts() -> None:
    assert host_name(Path("/a")) != host_name(Path("/b"))
    assert host_name(Path("/a")) == host_name(Path("/a"))
