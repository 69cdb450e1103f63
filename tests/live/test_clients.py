"""Real clients doing what they do: pipelines, cursors, COPY, cancel, pools."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import pq

from proxy.wire import build
from tests.live.house import House, until
from tests.live.raw import Raw
from tests.live.test_protocol import cancel

PSQL = "/usr/bin/psql"


def connect(house: House, **more: Any) -> psycopg.Connection[tuple[Any, ...]]:
    policy = more.pop("policy", "reader")
    return psycopg.connect(house.dsn(house.grant(policy=policy)), **more)


async def connect_asyncpg(house: House) -> Any:
    user, token = house.grant()
    return await asyncpg.connect(host="127.0.0.1", port=house.port, user=user, password=token, database="shop")


def recorded(house: House, sql: str) -> list[dict[str, Any]]:
    """The recorded statements with this text; waits for the record's tick."""
    return [line for line in house.lines() if line["event"] == "statement" and line["sql"] == sql]


def outcome(house: House, sql: str) -> dict[str, Any]:
    """The outcome of the last statement with this text."""
    for _ in until(3):
        for path in reversed(house.recordings()):
            lines = house.lines(path.name.split(".")[0])
            for line in reversed(lines):
                if line["event"] == "statement" and line["sql"] == sql:
                    for other in lines:
                        if other["event"] == "outcome" and other["n"] == line["n"]:
                            return other
    raise AssertionError(f"no outcome of {sql}")


def test_what_is_denied_is_an_error_and_the_session_goes_on(house: House) -> None:
    with connect(house, autocommit=True) as conn:
        for sql in (
            "delete from orders",
            "select * from hr.salaries",
            "listen ch",
            "copy orders from stdin",
            "do $$$$",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
                conn.execute(sql)
            assert caught.value.diag.message_detail is not None
            assert "policy reader" in caught.value.diag.message_detail
        assert conn.execute("select count(*) from orders").fetchone() == (200,)


def test_the_backends_own_process_id_is_given_out(house: House) -> None:
    with connect(house) as conn:
        row = conn.execute("select pg_backend_pid()").fetchone()
        assert row == (conn.info.backend_pid,)


def test_a_transaction_survives_a_denial_and_not_an_error(house: House) -> None:
    with connect(house) as conn:
        conn.execute("select 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("delete from orders")
        assert conn.info.transaction_status.name == "INTRANS"
        assert conn.execute("select 2").fetchone() == (2,)
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("select 1/0")
        assert conn.info.transaction_status.name == "INERROR"
        conn.rollback()
        assert conn.execute("select 3").fetchone() == (3,)


def test_pipelines_with_denials_in_them(house: House) -> None:
    # libpq itself: psycopg's own pipeline raises wherever it happens to read the refusal.
    with connect(house, autocommit=True) as conn:
        line = conn.pgconn
        line.enter_pipeline_mode()
        sent = ("select 1", None, "delete from orders", "select 2", None, "select 3", None)
        for sql in sent:
            if sql is None:
                line.pipeline_sync()
            else:
                line.send_query_params(sql.encode(), [])
        seen: list[tuple[pq.ExecStatus, bytes | None]] = []
        while len(seen) < len(sent):
            while (result := line.get_result()) is not None:
                status = pq.ExecStatus(result.status)
                seen.append((status, result.get_value(0, 0) if result.ntuples else None))
                if status is pq.ExecStatus.FATAL_ERROR:
                    assert result.error_field(pq.DiagnosticField.SQLSTATE) == b"42501"
        tuples, sync = pq.ExecStatus.TUPLES_OK, (pq.ExecStatus.PIPELINE_SYNC, None)
        assert seen == [
            (tuples, b"1"),
            sync,
            (pq.ExecStatus.FATAL_ERROR, None),
            (pq.ExecStatus.PIPELINE_ABORTED, None),
            sync,
            (tuples, b"3"),
            sync,
        ]
        line.exit_pipeline_mode()
        assert conn.execute("select 4").fetchone() == (4,)


def test_prepared_statements_cursors_and_large_results(house: House) -> None:
    with connect(house) as conn:
        for number in range(8):
            assert conn.execute("select %s::int * 2", [number], prepare=True).fetchone() == (number * 2,)
        with conn.cursor("named") as cursor:
            cursor.itersize = 50
            cursor.execute("select id from orders order by id")
            assert [row[0] for row in cursor] == list(range(1, 201))
        row = conn.execute(
            "select count(*), sum(length(x)) from (select repeat('y', 1000) x from generate_series(1, 50000)) t"
        )
        assert row.fetchone() == (50_000, 50_000_000)
        sql = (
            "select (select string_agg(md5(x::text), '') from generate_series(1, 6250) x) from generate_series(1, 20) g"
        )
        big = conn.execute(sql).fetchall()
        assert [len(text) for (text,) in big] == [200_000] * 20


def test_copy_out_is_counted(house: House) -> None:
    sql = "copy (select id, status from orders) to stdout"
    with connect(house) as conn, conn.cursor() as cursor, cursor.copy(sql) as copy:
        assert len(list(copy.rows())) == 200
    found = outcome(house, sql)
    assert (found["rows"], found["tag"], found["sqlstate"]) == (200, "COPY 200", None)


def test_values_are_recorded(house: House) -> None:
    sql = "select status from orders where id = $1 and status <> $2"
    with connect(house) as conn:
        conn.execute("select status from orders where id = %s and status <> %s", [7, "lost"])
    lines = recorded(house, sql)
    assert [str(value) for value in lines[-1]["params"]] == ["7", "lost"]
    assert outcome(house, sql)["rows"] == 1


async def test_asyncpg_statements_cursors_and_resets(house: House) -> None:
    conn = await connect_asyncpg(house)
    statement = await conn.prepare("select name from products where id = $1")
    assert await statement.fetchval(3) == "Product 3"
    async with conn.transaction():
        seen = [record["id"] async for record in conn.cursor("select id from orders order by id", prefetch=30)]
    assert seen == list(range(1, 201))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await conn.execute("update orders set status = 'x'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await conn.fetch("select * from hr.salaries where amount > $1", 1)
    await conn.reset()
    assert await conn.fetchval("select 1") == 1
    await conn.close()
    values = [line["params"] for line in recorded(house, "select name from products where id = $1") if line["params"]]
    assert values[-1] == [3], "binary values are decoded with the types that the server told"


def test_several_statements_in_one_message(house: House) -> None:
    done = subprocess.run(
        [PSQL, "-XAt", house.dsn(house.grant()), "-c", "select 1; select 2; select 1/0; select 3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["1", "2"]
    assert "division by zero" in done.stderr


def test_psql_describes(house: House) -> None:
    login = house.grant()
    # Not \\l: psql 15 asks a newer server for a column that it no longer has.
    for command in ("\\d", "\\dt", "\\d orders", "\\dn", "\\df", "\\du", "\\x", "\\conninfo"):
        done = subprocess.run(
            [PSQL, "-X", house.dsn(login), "-c", command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)


def test_cancel_stops_the_right_session_and_no_other(house: House) -> None:
    with connect(house, autocommit=True) as one, connect(house, autocommit=True) as two:
        caught: list[BaseException] = []

        def slow(conn: psycopg.Connection[Any]) -> None:
            try:
                conn.execute("select count(*) from generate_series(1, 40000) a, generate_series(1, 40000) b")
            except psycopg.Error as error:
                caught.append(error)

        threads = [threading.Thread(target=slow, args=[conn]) for conn in (one, two)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        one.cancel_safe(timeout=5)
        threads[0].join(5)
        assert not threads[0].is_alive()
        assert threads[1].is_alive()
        assert [type(error) for error in caught] == [psycopg.errors.QueryCanceled]
        with Raw(house.port) as raw:
            raw.send(build.cancel(two.info.backend_pid, b"\0\0\0\0"))
            assert raw.rest() == b""
        time.sleep(0.2)
        assert threads[1].is_alive(), "a wrong secret cancels nothing"
        two.cancel()
        threads[1].join(5)
        assert not threads[1].is_alive()
        assert one.execute("select 1").fetchone() == (1,)
    assert [line for line in house.lines() if line["event"] == "cancel"]


def cancel_again_and_again(house: House) -> None:
    """When a cancel's connection is closed, the next statement is not the one that is hit."""
    with Raw(house.port) as raw:
        raw.login(house.grant())
        for _ in range(20):
            raw.send(build.query(b"select count(*) from generate_series(1, 20000)"))
            cancel(house.port, raw.pid, raw.secret)
            raw.until("Z")
            raw.send(build.query(b"select 1"))
            assert "E" not in [kind for kind, _ in raw.until("Z")]


def test_a_cancel_whose_connection_is_closed_hits_no_later_statement(house: House) -> None:
    cancel_again_and_again(house)


def test_a_client_that_leaves_in_the_middle_frees_its_backend(house: House) -> None:
    with Raw(house.port) as raw:
        raw.login(house.grant())
        raw.send(
            build.query(b"select count(*) from generate_series(1, 40000) a, generate_series(1, 40000) b, orders o")
        )
        time.sleep(0.2)
    with psycopg.connect(house.pg.dsn("postgres"), autocommit=True) as conn:
        for _ in until(5):
            row = conn.execute(
                "select count(*) from pg_stat_activity where query like '%b, orders o' and state = 'active' "
                "and pid <> pg_backend_pid()"
            ).fetchone()
            if row == (0,):
                break
        assert row == (0,)


def test_a_query_pipelined_without_waiting_byte_by_byte(house: House) -> None:
    with Raw(house.port) as raw:
        raw.login(house.grant())
        talk = build.query(b"select 1") + build.query(b"drop table app.orders") + build.query(b"select 2")
        for byte in talk:
            raw.send(bytes((byte,)))
        kinds = "".join(kind for _ in range(3) for kind, _ in raw.until("Z"))
        assert kinds == "TDCZEZTDCZ"


def test_parse_flush_waits_for_no_sync(house: House) -> None:
    with Raw(house.port) as raw:
        raw.login(house.grant())
        raw.send(build.parse(b"", b"select 1"), build.parse(b"x", b"delete from orders"))
        assert [kind for kind, _ in raw.until("E")] == ["1", "E"], "the refusal comes although nobody sent Sync"
        raw.send(build.SYNC)
        assert raw.message()[0] == "Z"


async def test_many_sessions_at_once(house: House) -> None:
    login = house.grant()

    async def one(number: int) -> int:
        conn = await asyncpg.connect(
            host="127.0.0.1", port=house.port, user=login[0], password=login[1], database="shop"
        )
        try:
            total = 0
            for step in range(20):
                total += await conn.fetchval("select $1::int + $2::int", number, step)
            return total
        finally:
            await conn.close()

    totals = await asyncio.gather(*[one(number) for number in range(30)])
    assert totals == [20 * number + 190 for number in range(30)]


def test_observe_mode_changes_nothing_and_records_all(house: House) -> None:
    done = subprocess.run(
        [PSQL, "-XAt", house.dsn(house.grant(policy="watcher"), options="-c search_path=app -c work_mem=5MB")],
        input="show work_mem; select count(*) from orders; select amount > 0 from hr.salaries limit 1; "
        "show transaction_read_only;",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["5MB", "200", "t", "off"], done.stderr
    assert done.stderr == ""
    (line,) = recorded(house, "select amount > 0 from hr.salaries limit 1")
    assert (line["verdict"], line["rule"]) == ("allow", "observe.table")
