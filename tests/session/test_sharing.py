"""Signs of sharing: told once for each pair, over two processes, and not for one program's many connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio

from proxy.access.alerts import Alerts
from proxy.access.model import Grant
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.session.channel import Tls
from proxy.session.commons import Commons
from proxy.session.sharing import Peer, Sharing, peer_of
from tests.session.playbook import Playbook
from tests.session.test_registry import a_grant

TLS = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", b"")
PSQL = {"user": "g-1", "database": "shop", "application_name": "psql", "client_encoding": "UTF8"}
JDBC = {"user": "g-1", "database": "shop", "DateStyle": "ISO", "TimeZone": "UTC", "extra_float_digits": "2"}


@dataclass
class Two:
    """Two processes of one installation, and what was told."""

    first: Sharing
    second: Sharing
    places: tuple[Commons, Commons]
    told: list[dict[str, Any]]
    counted: list[str]
    grant: Grant

    async def settled(self) -> list[dict[str, Any]]:
        for _ in range(50):
            await asyncio.sleep(0.01)
        return self.told


@pytest_asyncio.fixture
async def two(tmp_path: Path, play: Playbook) -> AsyncIterator[Two]:
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    told: list[dict[str, Any]] = []
    counted: list[str] = []

    def emit(action: str, detail: dict[str, Any]) -> None:
        assert action == "alert.sharing"
        told.append(detail)

    alerts = Alerts(store, FakeClock(), emit)
    places = Commons(tmp_path / "run"), Commons(tmp_path / "run")
    made = [Sharing(place, alerts, counted.append) for place in places]
    yield Two(made[0], made[1], places, told, counted, a_grant(play))
    places[0].close()
    await store.close()


async def test_a_second_address_at_once_is_told_once(two: Two) -> None:
    here, there = peer_of("203.0.113.7", PSQL, TLS), peer_of("198.51.100.9", PSQL, TLS)
    two.first.opened(two.grant, here)
    assert await two.settled() == []
    two.second.opened(two.grant, there)
    (alert,) = await two.settled()
    assert (alert["grant"], alert["what"], alert["by"]) == ("g-1", "address", "daypass")
    assert {alert["first"]["address"], alert["second"]["address"]} == {"203.0.113.7", "198.51.100.9"}
    two.second.closed(two.grant, there)
    two.first.opened(two.grant, there)
    two.second.opened(two.grant, here)
    assert len(await two.settled()) == 1
    assert two.counted == ["sharing"]


async def test_a_second_program_at_once_is_told(two: Two) -> None:
    two.first.opened(two.grant, peer_of("203.0.113.7", PSQL, TLS))
    two.first.opened(two.grant, peer_of("203.0.113.7", JDBC, TLS))
    (alert,) = await two.settled()
    assert alert["what"] == "client"


async def test_one_after_the_other_is_nothing(two: Two) -> None:
    here, there = peer_of("203.0.113.7", PSQL, TLS), peer_of("198.51.100.9", JDBC, None)
    for sharing in (two.first, two.second):
        for peer in (here, there):
            sharing.opened(two.grant, peer)
            sharing.closed(two.grant, peer)
    assert await two.settled() == []
    assert list(two.places[0].folder.glob("*.peers.*")) == []


async def test_a_dead_process_has_no_sessions(two: Two) -> None:
    two.second.opened(two.grant, peer_of("198.51.100.9", PSQL, TLS))
    two.places[1].close()  # the kernel lets go of its place
    two.first.opened(two.grant, peer_of("203.0.113.7", PSQL, TLS))
    assert await two.settled() == []


def test_one_program_is_one_client_whatever_its_windows_are_called() -> None:
    windows = [JDBC | {"application_name": f"DBeaver 24.1 - {name}"} for name in ("Main", "Metadata", "SQLEditor <a>")]
    assert len({peer_of("203.0.113.7", window, TLS) for window in windows}) == 1
    assert peer_of("a", PSQL, TLS) != peer_of("a", PSQL, None)
    assert peer_of("a", PSQL, TLS) != peer_of("a", PSQL | {"application_name": "pg_dump"}, TLS)


def test_a_hostile_name_is_short_and_printable() -> None:
    peer = peer_of("a", {"application_name": "\x1b[2J" + "x" * 5000 + "\udcff"}, None)
    assert isinstance(peer, Peer)
    assert len(peer.client) < 80
    assert peer.client.isprintable()
