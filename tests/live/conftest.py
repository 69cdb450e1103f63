"""Fixtures for tests against a whole daypass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.postgres import PostgresServer
from tests.live.house import House
from tests.live.signing import signing_house
from tests.support.postgres import Servers, bindirs, drop_roles


@pytest.fixture
def make_house(tmp_path: Path, pg: PostgresServer, pg_servers: Servers) -> Iterator[Callable[..., House]]:
    """Makes a House with settings of its own, not started; all are ended after the test."""
    made: list[House] = []

    def make(server: PostgresServer = pg, **settings: Any) -> House:
        folder = tmp_path / f"house{len(made)}"
        folder.mkdir()
        made.append(House(folder, server, **settings))
        return made[-1]

    yield make
    for house in made:
        house.hurry()
    for bindir in {house.pg.bindir for house in made}:
        drop_roles(pg_servers.get(bindir))


@pytest.fixture(scope="module")
def house_of_module(tmp_path_factory: pytest.TempPathFactory, pg_servers: Any) -> Iterator[House]:
    """One running House for all tests of a module, for those that leave it as they found it."""
    house = House(tmp_path_factory.mktemp("house"), pg_servers.get(bindirs()[0]))
    house.start()
    yield house
    house.hurry()


@pytest.fixture
def house(house_of_module: House) -> House:
    """The running House of this module."""
    return house_of_module


@pytest.fixture(scope="module")
def house_of_signing(tmp_path_factory: pytest.TempPathFactory, pg_servers: Any) -> Iterator[House]:
    """One running House whose policies ask for agreements, for all tests of a module."""
    house = signing_house(tmp_path_factory.mktemp("house"), pg_servers.get(bindirs()[0]))
    house.start()
    yield house
    house.hurry()
