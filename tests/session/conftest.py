"""Fixtures for session tests: a real judge on the real catalog of the shop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy import catalog
from proxy.catalog import Catalog
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from tests.session.playbook import Playbook
from tests.support.postgres import Servers, bindirs, load_shop

READER = """
name: reader
databases: [shop]
search_path: [app]
tables: {app.customers: {deny: [ssn]}, app.orders: {}, app.products: {}}
"""
NARROW = READER.replace(", app.orders: {}", "").replace("app.orders: {}, ", "")
OTHER_COLUMNS = READER.replace("deny: [ssn]", "deny: [ssn, phone]")
WATCHER = "name: watcher\nmode: observe\ndatabases: [shop]\n"


@pytest.fixture(scope="session")
def shop_catalog(pg_servers: Servers) -> Catalog:
    """A snapshot of the shop."""
    pg = pg_servers.get(bindirs()[0])
    name = load_shop(pg)
    return asyncio.run(
        catalog.snapshot(host=pg.host, port=pg.port, dbname=name, user=pg.user, password=pg.password, tls="disable")
    )


@pytest.fixture(scope="session")
def make_judge(shop_catalog: Catalog) -> Callable[[str], Judge]:
    """A judge for a policy's text."""
    return lambda text: Judge(parse(text, "test"), shop_catalog)


@pytest.fixture
def make_play(tmp_path: Path, make_judge: Callable[[str], Judge]) -> Iterator[Callable[..., Playbook]]:
    """A session under a policy; the plain reader's when none is given."""
    made: list[Playbook] = []

    def make(policy: str = READER, **settings: Any) -> Playbook:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Playbook(folder, make_judge(policy), **settings))
        return made[-1]

    yield make
    for play in made:
        play.recorder.close()


@pytest.fixture
def play(make_play: Callable[..., Playbook]) -> Playbook:
    """A session under the plain reader's policy."""
    return make_play()
