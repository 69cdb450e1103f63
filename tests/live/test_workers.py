"""Several workers as one server: whatever process a client lands on, it finds the same daypass.

Covers proxy/server/supervisor.py, proxy/server/link.py, proxy/server/post.py, proxy/server/front.py and
proxy/server/logs.py, and `daypass session kill`.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import psycopg
import pytest

from proxy.wire import build
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw
from tests.live.test_clients import cancel_again_and_again
from tests.support.postgres import Servers, bindirs

Conn = psycopg.Connection[tuple[Any, ...]]
COPY = "copy (select * from generate_series(1, 90000)) to stdout"
LONG = "select count(*) from generate_series(1, 50000) r, generate_series(1, 50000) s"


def daypass(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    return house.run(*words)


def sessions(house: House) -> list[dict[str, Any]]:
    """`session list`."""
    found: list[dict[str, Any]] = json.loads(daypass(house, "session", "list", "-o", "json").stdout)
    return found


def connect(house: House, login: tuple[str, str]) -> Conn:
    return psycopg.connect(house.dsn(login), autocommit=True)


def session_of(house: House, conn: Conn) -> str:
    """The id of an open connection's session."""
    for _ in until(5):
        for line in house.lines():
            if line["event"] == "session.start" and line["upstream_pid"] == conn.info.backend_pid:
                return str(line["session"])
    raise AssertionError("it is not recorded")


def worker_of(house: House, session: str) -> int:
    worker: int = house.wait_log("session_start", session=session)["worker"]
    return worker


def on_both(house: House, login: tuple[str, str], stack: ExitStack, each: int = 1) -> dict[int, list[Conn]]:
    """Open connections until each of two workers has `each`; they are in `stack`."""
    found: dict[int, list[Conn]] = {1: [], 2: []}
    for _ in range(60):
        conn = stack.enter_context(connect(house, login))
        found[worker_of(house, session_of(house, conn))].append(conn)
        if min(map(len, found.values())) >= each:
            return found
    raise AssertionError(f"they all land on one worker: {found}")


def seconds_until_taken(house: House, session: str) -> float:
    """From the moment in which a kill stood in the state."""
    with contextlib.closing(sqlite3.connect(house.folder / "state.db")) as state:
        row = state.execute("select asked_at, taken_at from kills where session = ?", [session]).fetchone()
    asked, taken = (datetime.fromisoformat(text) for text in row)
    return (taken - asked).total_seconds()


def policy(name: str, limits: str) -> str:
    text = POLICY.replace("name: reader", f"name: {name}")
    return text.replace("limits: {", f"limits: {{{limits}, ")


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory, pg_servers: Servers) -> Iterator[House]:
    """Two workers, and policies with limits."""
    house = House(tmp_path_factory.mktemp("house"), pg_servers.get(bindirs()[0]), workers=2)
    house.write_policy("three", policy("three", "sessions: 3"))
    house.write_policy("rows", policy("rows", "rows_per_grant: 100000"))
    house.write_policy("rate", policy("rate", "statements_per_minute: 40"))
    house.start()
    yield house
    house.hurry()


def value(house: House, metric: str) -> float:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", house.http("/metrics")[1], re.MULTILINE)
    assert found, metric
    return float(found[1])


def test_two_workers_are_one_server(crew: House) -> None:
    ready = crew.wait_log("ready")
    assert (ready["workers"], ready["databases"]) == (2, {"shop": True})
    assert len([line for line in crew.log() if line["event"] == "ready"]) == 1
    assert crew.http("/readyz") == (200, "ready\n")
    assert crew.http("/healthz") == (200, "ok\n")
    assert value(crew, "daypass_workers") == 2
    before = value(crew, "daypass_statements_total")
    with ExitStack() as stack:
        conns = [conn for conns in on_both(crew, crew.grant(), stack).values() for conn in conns]
        for conn in conns:
            conn.execute("select 1")
        assert value(crew, "daypass_statements_total") == before + len(conns)
        assert value(crew, "daypass_sessions") == len(conns)
        open_now = {session_of(crew, conn) for conn in conns}
        assert {one["session"] for one in sessions(crew) if one["state"] == "open"} == open_now
        verified = daypass(crew, "recording", "verify", "-o", "json")
        assert verified.returncode == 0, verified.stdout
        found = {one["id"] for one in json.loads(verified.stdout)["recordings"] if one["state"] == "open"}
        assert found - {"installation", "node"} == open_now
    second = daypass(crew, "serve")
    assert second.returncode == 3
    assert "in use" in second.stdout


@pytest.mark.thorough
def test_a_cancel_reaches_its_session_by_any_door(crew: House) -> None:
    with connect(crew, crew.grant()) as conn, connect(crew, crew.grant()) as other, ThreadPoolExecutor() as pool:
        unharmed = pool.submit(
            other.execute, "select count(*) from generate_series(1, 4000) r, generate_series(1, 5000)"
        )
        with Raw(crew.port) as wrong:
            wrong.send(build.cancel(other.info.backend_pid, b"none"))
            assert wrong.rest() == b""
        for _ in range(10):  # the door is chosen by chance: all ten by the right one happens once in a thousand runs
            running = pool.submit(conn.execute, LONG)
            for _ in until(5):
                conn.cancel()
                if running.done():
                    break
                time.sleep(0.05)
            with pytest.raises(psycopg.errors.QueryCanceled):
                running.result(5)
        assert unharmed.result(30).fetchone() == (20_000_000,)
        assert other.execute("select 1").fetchone() == (1,)
        ours, others = session_of(crew, conn), session_of(crew, other)
    assert len([line for line in crew.lines(ours) if line["event"] == "cancel"]) >= 10
    assert not [line for line in crew.lines(others) if line["event"] == "cancel"]


def test_a_cancel_by_another_door_hits_no_later_statement(crew: House) -> None:
    cancel_again_and_again(crew)


def test_seats_hold_across_workers(crew: House) -> None:
    login = crew.grant(policy="three")
    for _ in range(3):
        with ExitStack() as stack, ThreadPoolExecutor(12) as pool:
            tried = [pool.submit(connect, crew, login) for _ in range(12)]
            opened, refused = [], 0
            for one in tried:
                problem = one.exception(20)
                if problem is None:
                    opened.append(stack.enter_context(one.result()))
                else:
                    refused += "already has 3 open sessions" in str(problem)
            assert (len(opened), refused) == (3, 9)
        for _ in until(5):
            if value(crew, "daypass_sessions") == 0:
                break


def test_a_budget_of_rows_holds_across_workers(crew: House) -> None:
    login = crew.grant(policy="rows")

    def take(conn: Conn, start: threading.Barrier) -> int:
        start.wait()
        got = 0
        try:
            with (
                conn.cursor() as cursor,
                cursor.copy(COPY) as rows,
            ):
                for row in rows:
                    got += bytes(row).count(b"\n")
        except psycopg.errors.ConfigurationLimitExceeded:
            pass
        return got

    with ExitStack() as stack:
        conns = [conn for conns in on_both(crew, login, stack, each=2).values() for conn in conns]
        start = threading.Barrier(len(conns))
        with ThreadPoolExecutor(len(conns)) as pool:
            taken = sum(pool.map(lambda conn: take(conn, start), conns))
        # Two processes may pass on a chunk each in the same moment.
        assert 99_000 < taken <= 100_000 + 20_000
        for conn in conns:
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
                conn.execute("select 1")


def test_a_rate_holds_across_workers(crew: House) -> None:
    login = crew.grant(policy="rate")

    def ask(conn: Conn) -> int:
        ran = 0
        for _ in range(40):
            try:
                conn.execute("select 1")
                ran += 1
            except psycopg.errors.ConfigurationLimitExceeded:
                break
        return ran

    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        conns = [group[0] for group in on_both(crew, login, stack).values()]
        assert 40 <= sum(pool.map(ask, conns)) <= 44, "40, and what a few seconds give back"


def test_a_session_is_killed_with_a_reason(crew: House) -> None:
    with ExitStack() as stack:
        both = on_both(crew, crew.grant(), stack)
        for conns in both.values():
            victim, id_ = conns[0], session_of(crew, conns[0])
            done = daypass(crew, "session", "kill", id_, "--reason", "wrong table", "--by", "olga", "-o", "json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == {"session": id_, "killed": True}
            with pytest.raises(psycopg.OperationalError, match="ended by an operator: wrong table"):
                victim.execute("select 1")
            assert seconds_until_taken(crew, id_) < 1
            (ended,) = [line for line in crew.lines(id_) if line["event"] == "session.end"]
            assert (ended["reason"], ended["detail"]) == ("killed", "ended by olga: wrong table")
            again = daypass(crew, "session", "kill", id_, "--reason", "wrong table")
            assert again.returncode == 1
            assert "no open session" in again.stderr
    assert daypass(crew, "session", "kill", "s-2", "--reason", "x").returncode == 1
    with Raw(crew.port).login(crew.grant()) as idle, ThreadPoolExecutor() as pool:
        (id_,) = [one["session"] for one in sessions(crew) if one["state"] == "open"]
        killing = pool.submit(daypass, crew, "session", "kill", id_[:-3], "--reason", "idle too long")
        said = idle.until("E")[-1][1]
        assert b"57P01" in said
        assert b"idle too long" in said
        assert killing.result(10).returncode == 0


def test_a_revocation_ends_many_sessions_of_all_workers_within_a_second(crew: House) -> None:
    login = crew.grant()
    with ExitStack() as stack, ThreadPoolExecutor(40) as pool:
        opened = [stack.enter_context(Raw(crew.port).login(login)) for _ in range(40)]

        def end(raw: Raw) -> float:
            assert b"was revoked" in raw.until("E")[-1][1]
            return time.monotonic()

        waiting = [pool.submit(end, raw) for raw in opened]
        crew.revoke(login[0])
        began = time.monotonic()
        seconds = sorted(one.result(10) - began for one in waiting)
    assert seconds[-1] < 1.0, seconds
