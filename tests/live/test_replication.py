"""Replication connections in observe mode: COPY both ways at once, recorded and passed; refused under a policy.

Covers proxy/session/results.py and proxy/session/gate.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.wire import build
from tests.live.house import House, until
from tests.live.raw import Raw, fatal
from tests.support.postgres import default_first

XLOG_DATA, KEEPALIVE = b"w", b"k"


@pytest.fixture(scope="module", params=default_first(), ids=lambda bindir: bindir.parent.name)
def primary(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server that can be replicated."""
    settings = {"wal_level": "logical", "max_wal_senders": "4", "max_replication_slots": "4"}
    with PostgresServer(request.param, settings=settings) as server:
        yield server


@pytest.fixture
def house(primary: PostgresServer, tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, primary)
    with psycopg.connect(primary.dsn(), autocommit=True) as owner:
        owner.execute("alter role vendor_ro replication")
    house.start()
    yield house
    house.hurry()


def query(raw: Raw, sql: str) -> list[list[str]]:
    """The rows of a command that a walsender answers."""
    raw.send(build.query(sql.encode()))
    found = raw.until("Z", "E")
    assert found[-1][0] == "Z", fatal(found)
    return [cells(body) for kind, body in found if kind == "D"]


def cells(body: bytes) -> list[str]:
    words, pos = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        size = int.from_bytes(body[pos : pos + 4], "big", signed=True)
        words.append(body[pos + 4 : pos + 4 + max(size, 0)].decode())
        pos += 4 + max(size, 0)
    return words


def status(raw: Raw, position: int) -> None:
    """A standby status update that asks for an answer."""
    where = position.to_bytes(8, "big")
    raw.send(build.message(b"d", b"r" + where * 3 + bytes(8) + b"\1"))


def until_data(raw: Raw, kind: bytes) -> bytes:
    """The next CopyData of this kind."""
    while True:
        letter, body = raw.message()
        assert letter == "d", (letter, body)
        if body.startswith(kind):
            return body


def test_a_physical_replication_is_passed_both_ways(house: House) -> None:
    with Raw(house.port, timeout=10) as raw:
        raw.login(house.grant(policy="watcher"), replication="true")
        ((_, timeline, position, _),) = query(raw, "IDENTIFY_SYSTEM")
        high, low = (int(word, 16) for word in position.split("/"))
        begin = (high << 32 | low) & ~0xFFFFFF
        raw.send(
            build.query(
                f"START_REPLICATION PHYSICAL {begin >> 32:X}/{begin & 0xFFFFFFFF:X} TIMELINE {timeline}".encode()
            )
        )
        assert raw.message()[0] == "W"
        data = until_data(raw, XLOG_DATA)
        assert int.from_bytes(data[1:9], "big") == begin
        with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
            owner.execute("select pg_logical_emit_message(false, 'daypass', repeat('x', 200000))")
        seen = b""
        while b"x" * 1000 not in seen:
            seen = seen[-2000:] + until_data(raw, XLOG_DATA)[25:]
        # What the client says inside of COPY reaches the server: it answers.
        status(raw, begin)
        until_data(raw, KEEPALIVE)
        raw.send(build.message(b"c", b""))
        found = raw.until("Z")
        # One CommandComplete for COPY, one for START_REPLICATION.
        assert [kind for kind, _ in found if kind != "d"] == ["c", "C", "C", "Z"]
        assert query(raw, "SHOW wal_level") == [["logical"]]
    sent = [line["sql"].split()[0] for line in house.lines() if line["event"] == "statement"]
    assert sent == ["IDENTIFY_SYSTEM", "START_REPLICATION", "SHOW"]
    outcomes: list[dict[str, Any]] = []
    for _ in until(5):
        outcomes = [line for line in house.lines() if line["event"] == "outcome"]
        if len(outcomes) == 3:
            break
    assert [line["sqlstate"] for line in outcomes] == [None, None, None]
    assert outcomes[1]["bytes"] > 200_000


def test_a_replication_that_the_server_ends_leaves_a_session(house: House) -> None:
    with Raw(house.port, timeout=10) as raw:
        raw.login(house.grant(policy="watcher"), replication="database")
        raw.send(build.query(b"START_REPLICATION PHYSICAL FFFF/0"))
        found = raw.until("Z")
        assert [kind for kind, _ in found] == ["W", "E", "Z"]
        # With `replication=database` SQL works beside the commands of replication.
        assert query(raw, "select 40 + 2") == [["42"]]


def test_under_a_policy_there_is_no_replication(house: House) -> None:
    for value in ("true", "database", "on", "1"):
        with Raw(house.port) as raw:
            login = house.grant()
            raw.start(login[0], replication=value)
            assert fatal(raw.prove(login[1]))[0] == "42501"


def test_pg_recvlogical_works_through_daypass(house: House) -> None:
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        try:
            owner.execute("select pg_create_logical_replication_slot('probe', 'test_decoding')")
        except psycopg.errors.UndefinedFile:
            pytest.skip("this server has no test_decoding")
        owner.execute("select pg_drop_replication_slot('probe')")
        dsn = house.dsn(house.grant(policy="watcher"))
        program = [str(house.pg.bindir / "pg_recvlogical"), "-d", dsn, "-S", "daypass"]

        def run(*arguments: str) -> str:
            done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False, timeout=30)
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("--create-slot", "-P", "test_decoding")
        owner.execute("create table heard (word text)")
        try:
            owner.execute("insert into heard values ('the rain in Spain')")
            row = owner.execute("select pg_current_wal_insert_lsn()").fetchone()
            assert row is not None
            assert "'the rain in Spain'" in run("--start", "--endpos", str(row[0]), "-f", "-")
        finally:
            owner.execute("drop table heard")
            run("--drop-slot")
