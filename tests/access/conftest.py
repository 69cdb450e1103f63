"""A state for each test: SQLite and a real Postgres in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.access.store import Store
from tests.support.postgres import Servers, bindirs, fresh_database


# Each test runs on both; on Postgres in `make test-slow`, which CI runs too.
@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path, pg_servers: Servers) -> str:
    """The URL of an empty state."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    pg = pg_servers.get(bindirs()[0])
    return f"postgresql://{pg.user}:{pg.password}@{pg.host}:{pg.port}/{fresh_database(pg)}"


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await Store.open(url)
    yield opened
    await opened.close()
