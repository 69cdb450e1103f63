"""A state with live grants, made by the daypass of before the requests (version 0003), is brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest_asyncio
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from proxy.access import migrations, tables
from proxy.access.grants import Grants
from proxy.access.model import Terms
from proxy.access.store import Store, _engine
from proxy.clock import SystemClock
from tests.access.test_grants import opens

OLD = Path(__file__).with_name("state_0003.sql")
"""As `iterdump` printed it; four grants: live, to come, expired, revoked. Only years were moved far away."""
TOKEN = "dp_2rdh325ucxmumps5npvs6inja7p5lcbw"
LIVE, TO_COME, OVER, REVOKED = "g-340z6dht", "g-bzgzchpc", "g-3mq0782r", "g-9cbqcpva"


@pytest_asyncio.fixture
async def old(url: str, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of that state: the file itself, or its rows in tables of that version in Postgres."""
    path = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else str(tmp_path / "old.db")
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD.read_text())
    if not url.startswith("sqlite:///"):
        connection.row_factory = sqlite3.Row
        rows = {t: [dict(row) for row in connection.execute(f"select * from {t}")] for t in ("installation", "grants")}
        await _put(url, rows)
    connection.close()
    yield url


async def _put(url: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    engine, _, _ = _engine(url)

    def make(connection: sa.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        there = sa.MetaData()
        there.reflect(connection, only=list(rows))
        for name, found in rows.items():
            for row in found:
                typed = {k: datetime.fromisoformat(v).replace(tzinfo=UTC) if v and k.endswith("_at") else v
                         for k, v in row.items()}  # fmt: skip
                connection.execute(there.tables[name].insert().values(typed))

    async with engine.begin() as connection:
        await connection.run_sync(make)
    await engine.dispose()


async def test_what_lives_lives_on_and_what_is_over_is_over(old: str) -> None:
    store = await Store.open(old)
    try:
        clock = SystemClock()
        grants = Grants(store, clock)
        found = {grant.id: grant for grant in await grants.list()}
        assert {id: grant.stage for id, grant in found.items()} == {
            LIVE: "active", TO_COME: "waiting", OVER: "removed", REVOKED: "removed",
        }  # fmt: skip
        assert {id: grant.state(clock.now()) for id, grant in found.items()} == {
            LIVE: "active", TO_COME: "waiting", OVER: "expired", REVOKED: "revoked",
        }  # fmt: skip
        assert (found[OVER].ended_why, found[OVER].ended_at) == ("expired", found[OVER].expires_at)
        assert (found[REVOKED].ended_why, found[REVOKED].ended_at) == ("revoked", found[REVOKED].revoked_at)
        assert all(grant.terms == Terms() for grant in found.values())
        _, verifier = await grants.login(LIVE)
        assert opens(TOKEN, verifier), "the token that the vendor has"
        assert await grants.spent(LIVE) == (17, 4096)
        assert set(await grants.live()) == {LIVE, TO_COME}
        assert (await store.identity())[0] == "2daae22c"
        async with store.read() as connection:
            assert (await connection.execute(sa.select(tables.steps))).all() == [], (
                "nobody is told of what is long over"
            )
    finally:
        await store.close()


async def test_it_goes_on_from_there(old: str) -> None:
    store = await Store.open(old)
    try:
        grants = Grants(store, SystemClock())
        new = await grants.rotate(LIVE, by="op")
        _, verifier = await grants.login(LIVE)
        assert opens(new, verifier)
        assert (await grants.revoke(LIVE, reason="done", by="op")).state(SystemClock().now()) == "revoked"
    finally:
        await store.close()
