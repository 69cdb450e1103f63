"""Limits with real clients and servers: rows to the row, budgets that outlive a restart, costs asked beforehand.

Covers proxy/session/cost.py and proxy/session/about.py.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from tests.live.house import POLICY, House, until

LIMITS = "limits: {statement_timeout: 20s, transaction: 5m}"


def limited(limits: str) -> str:
    assert LIMITS in POLICY
    return POLICY.replace(LIMITS, f"limits: {{statement_timeout: 20s, {limits}}}")


def connect(house: House, login: tuple[str, str]) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(house.dsn(login), autocommit=True)


def copied(conn: psycopg.Connection[tuple[object, ...]], sql: str) -> int:
    with conn.cursor() as cursor, cursor.copy(sql) as copy:
        return sum(1 for _ in copy)


def keep_busy(conn: psycopg.Connection[tuple[object, ...]], seconds: float) -> None:
    for _ in until(seconds):
        conn.execute("select 1")


@pytest.mark.thorough
def test_a_session_goes_on_after_a_budget_ended_a_result(make_house: Callable[..., House]) -> None:
    house = make_house(policy=limited("rows_per_statement: 1000")).start()
    with connect(house, house.grant()) as conn:
        for _ in range(20):
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="1,000 rows is all that one statement"):
                conn.execute("select * from generate_series(1, 200000)")
            assert conn.execute("select 7").fetchone() == (7,)  # not hit by the cancel
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            copied(conn, "copy (select * from generate_series(1, 200000)) to stdout")
        with conn.transaction(), conn.cursor("c") as named:
            named.itersize = 500
            named.execute("select * from generate_series(1, 1500)")
            assert sum(1 for _ in named) == 1500
    rows = [line["rows"] for line in house.lines() if line["event"] == "outcome" and line["sqlstate"] == "53400"]
    assert rows == [1000] * 21


def test_a_budget_in_asyncpg(make_house: Callable[..., House]) -> None:
    house = make_house(policy=limited("rows_per_session: 50, bytes_per_grant: 1MiB")).start()
    user, token = house.grant()

    async def run() -> None:
        conn = await asyncpg.connect(
            host="127.0.0.1", port=house.port, user=user, password=token, database="shop", ssl=False
        )
        assert len(await conn.fetch("select * from generate_series(1, 30)")) == 30
        assert "30 of 50" in await conn.fetchval("show daypass.budget")
        assert await conn.fetchval("select 1") == 1
        assert "31 of 50" in await conn.fetchval("show daypass.budget")
        with pytest.raises(asyncpg.ConfigurationLimitExceededError):
            await conn.fetch("select * from generate_series(1, 30)")
        with pytest.raises(asyncpg.ConfigurationLimitExceededError):
            await conn.fetch("select 1")
        assert "50 of 50" in await conn.fetchval("show daypass.budget")
        assert "app.customers (id, name, email masked" in await conn.fetchval("show daypass.scope")
        assert "UTC, in 59m" in await conn.fetchval("show daypass.expires")
        await conn.close()

    asyncio.run(run())


def test_what_a_grant_has_spent_outlives_a_restart(make_house: Callable[..., House]) -> None:
    house = make_house(policy=limited("rows_per_grant: 100")).start()
    login = house.grant()
    with connect(house, login) as conn:
        assert len(conn.execute("select * from generate_series(1, 90)").fetchall()) == 90
    house.stop()
    house.start()
    with connect(house, login) as conn, pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="one grant"):
        conn.execute("select * from generate_series(1, 90)")


def test_a_plan_that_costs_too_much_never_runs(make_house: Callable[..., House], pg_every: PostgresServer) -> None:
    house = make_house(pg_every, policy=limited("plan_cost: 5000")).start()
    with connect(house, house.grant()) as conn:
        assert conn.execute("select count(*) from orders").fetchone()
        for dear in (
            "select count(*) from orders a, orders b, orders c",
            "declare c cursor with hold for select * from orders a, orders b, orders c",
            "copy (select * from orders a, orders b, orders c) to stdout",
            "explain analyze select * from orders a, orders b, orders c",
            "prepare p as select * from orders a, orders b, orders c where a.id = $1 or b.id > $2",
            "begin; select count(*) from orders a, orders b, orders c",
        ):
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="plan_cost"):
                conn.execute(dear)
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            conn.execute("select * from orders a, orders b, orders c where a.id > %s", [1])
        assert conn.execute("select id from orders where id = %s and %s::text = 'x'", [1, "x"]).fetchone() == (1,)
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="a cost of more than 5,000, which"):
            conn.execute("select count(*) from customers a, orders b, orders c, orders d")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            conn.execute("select nothing from orders")
        assert conn.execute("select name from customers where id = %s", [1]).fetchone()
    denied = [line for line in house.lines() if line["event"] == "statement" and line["rule"] == "limit.cost"]
    assert len(denied) == 9, "the last text of two statements is two"


@pytest.mark.thorough
def test_a_heavy_statement_holds_nobody_up(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    heavy = "select count(*) from orders where id in (" + ",".join(map(str, range(5000))) + ")"

    async def run() -> None:
        async def client() -> asyncpg.Connection[asyncpg.Record]:
            user, token = house.grant()
            return await asyncpg.connect(
                host="127.0.0.1", port=house.port, user=user, password=token, database="shop", ssl=False
            )

        one, two = await client(), await client()
        try:
            for n in range(3):
                waiting = asyncio.ensure_future(one.fetchval(f"{heavy} and {n} = {n}"))
                worst = 0.0
                while not waiting.done():
                    began = time.perf_counter()
                    assert await two.fetchval("select 1") == 1
                    worst = max(worst, time.perf_counter() - began)
                assert await waiting is not None
                assert worst < 0.2, "a loaded machine included; judging alone would take longer"
        finally:
            await one.close()
            await two.close()

    asyncio.run(run())


def test_error_texts_of_a_masked_table_tell_no_value(house: House) -> None:
    with connect(house, house.grant()) as conn:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation) as told:
            conn.execute("select name::int from customers")
        assert told.value.diag.message_primary == "invalid input syntax for type integer"
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match='"x"'):
            conn.execute("select ('x' || id)::int from orders where id = 1 and 'x' = 'x'".replace("'x' || id", "'x'"))
        with pytest.raises(psycopg.errors.UndefinedColumn, match="nmae") as told_too:
            conn.execute("select nmae from customers")
        assert told_too.value.diag.statement_position == "8"


def test_psql_shows_what_it_may_do(house: House) -> None:
    told = subprocess.run(
        ["psql", house.dsn(house.grant()), "-Atc", "SHOW daypass.scope"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "app.customers (" in told.stdout
    assert "ssn" not in told.stdout


@pytest.mark.thorough
def test_a_transaction_ends_on_servers_that_cannot_end_it(make_house: Callable[..., House]) -> None:
    house = make_house(policy=limited("transaction: 1s")).start()
    with psycopg.connect(house.dsn(house.grant())) as conn:
        began = time.monotonic()
        with pytest.raises(psycopg.Error, match=r"transaction|timeout"):
            keep_busy(conn, 8)
        assert time.monotonic() - began < 5
