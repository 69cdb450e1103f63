"""Observe mode with real drivers: what only a proxy that is in the way would break."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg
import psycopg
import psycopg2  # type: ignore[import-untyped]
import pytest
from psycopg2 import extras

from proxy.demo.postgres import PostgresServer
from tests.live.house import House, until

ROWS = [(f"row {n}", n, datetime(2026, 1, 1, tzinfo=UTC)) for n in range(1_000)]
LARGE = 20 << 20
LONG = 3 << 19
"""Half as long again as `limits.statement_bytes`."""


def last_statement(house: House, rule: str) -> dict[str, object]:
    for _ in until(5):
        found = [line for line in house.lines() if line["event"] == "statement" and line["rule"] == rule]
        if found:
            last: dict[str, object] = found[-1]
            return last
    raise AssertionError(f"nothing was recorded under {rule}")


async def test_asyncpg_copies_in_before_it_is_asked_to(house: House) -> None:
    user, token = house.grant(policy="watcher")
    conn = await asyncpg.connect(host="127.0.0.1", port=house.port, user=user, password=token, database="shop")
    await conn.execute("create temp table copied (a text, b int, c timestamptz)")
    assert await conn.copy_records_to_table("copied", records=ROWS) == "COPY 1000"
    assert await conn.fetchval("select sum(b) from copied") == sum(range(1_000))
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await conn.copy_to_table("copied", source=io.BytesIO(b"a,no number,\n"), format="csv")
    assert await conn.fetchval("select 1") == 1
    await conn.close()


def test_psycopg2_writes_a_large_object(house: House) -> None:
    conn = psycopg2.connect(house.dsn(house.grant(policy="watcher")))
    try:
        large = conn.lobject(mode="wb")
        large.write(b"x" * (2 << 20))
        large.close()
        assert conn.lobject(large.oid, "rb").read() == b"x" * (2 << 20)
        conn.rollback()
    finally:
        conn.close()


def test_a_text_above_statement_bytes_passes_and_leaves_its_hash(house: House) -> None:
    sql = b"select length('" + b"y" * LONG + b"')"
    conn = psycopg2.connect(house.dsn(house.grant(policy="watcher")))
    try:
        cursor = conn.cursor()
        conn.autocommit = True
        cursor.execute(sql)
        assert cursor.fetchone() == (LONG,)
        cursor.execute("select 2")
        assert cursor.fetchone() == (2,)
    finally:
        conn.close()
    message = b"Q" + (len(sql) + 5).to_bytes(4, "big") + sql + b"\0"
    recorded = last_statement(house, "observe.limit.statement")
    assert recorded["sql"] == ""
    assert hashlib.sha256(message).hexdigest() in str(recorded["reason"])
    assert str(len(message)) in str(recorded["reason"])


@pytest.mark.slow  # a server of its own, so that the values do not stand in the log that other tests read
def test_values_above_16_mib_pass_and_leave_their_hash(make_house: Callable[..., House]) -> None:
    with PostgresServer() as pg:
        house = make_house(pg).start()
        with psycopg.connect(house.dsn(house.grant(policy="watcher")), autocommit=True) as conn:
            found = conn.execute("select length(%b::bytea), %b::int + 1", [b"z" * LARGE, 4]).fetchone()
            assert found == (LARGE, 5)
            assert conn.execute("select 3").fetchone() == (3,)
        house.stop()
    recorded = [line for line in house.lines() if "length($1::bytea)" in str(line.get("sql"))][-1]
    assert recorded["params"] is None
    assert "its SHA-256 is" in recorded["reason"]


@pytest.mark.slow  # a server of its own
def test_a_replication_stream_flows_both_ways(make_house: Callable[..., House]) -> None:
    with PostgresServer(settings={"wal_level": "replica", "max_wal_senders": "4"}) as pg:
        house = make_house(pg)
        with psycopg.connect(pg.dsn(), autocommit=True) as admin:
            admin.execute(f"alter role {house.role} replication".encode())
            start = admin.execute("select pg_current_wal_lsn()").fetchone()
            assert start is not None
            house.start()
            conn = psycopg2.connect(
                house.dsn(house.grant(policy="watcher")), connection_factory=extras.LogicalReplicationConnection
            )
            cursor = conn.cursor()
            cursor.start_replication_expert(f"START_REPLICATION PHYSICAL {start[0]}")
            admin.execute("create table written as select generate_series(1, 1000)")
            message = next(filter(None, (cursor.read_message() for _ in until(10))))
            assert len(message.payload) > 0
            cursor.send_feedback(flush_lsn=message.data_start, force=True)
            heard = "select reply_time from pg_stat_replication where flush_lsn is not null"
            assert next(filter(None, (admin.execute(heard).fetchone() for _ in until(10))))
            conn.close()
            house.stop()
    assert any(line.get("sql", "").startswith("START_REPLICATION") for line in house.lines())


def test_another_client_encoding_works_and_its_bytes_are_recorded(house: House) -> None:
    conn = psycopg2.connect(house.dsn(house.grant(policy="watcher"), client_encoding="latin1"))
    try:
        cursor = conn.cursor()
        cursor.execute("select 'é' as accented")
        assert cursor.fetchone() == ("é",)
        with pytest.raises(psycopg2.errors.UndefinedColumn, match="é"):
            cursor.execute("select é")
    finally:
        conn.close()
    assert r"select '\xe9' as accented" in house.statements()
