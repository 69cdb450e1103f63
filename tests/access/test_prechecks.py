"""Prechecks against a real Postgres, archive and streaming replica, and programs that print what tools print."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from proxy import catalog
from proxy.access.prechecks import NOBODY, Finding, World, encoded, look
from proxy.config_access import Precheck
from proxy.demo.postgres import PostgresServer
from tests.access.test_backups import MONDAY, backup, entry, stanza
from tests.support.postgres import read_only_role

NOW = datetime.fromtimestamp(MONDAY + 3600, UTC)


def connects(pg: PostgresServer, user: str | None = None, password: str | None = None) -> Callable[[], Awaitable[Any]]:
    return lambda: catalog.connect(
        host=pg.host, port=pg.port, dbname="postgres", user=user or pg.user, password=password or pg.password,
        tls="disable", ca=None,
    )  # fmt: skip


async def nothing() -> Any:
    raise AssertionError("no database is needed for this")


def world(connect: Callable[[], Awaitable[Any]] = nothing, **more: Any) -> World:
    return World(connect, more.pop("now", NOW), {"PATH": os.environ["PATH"], **more.pop("environment", {})}, **more)


def check(kind: str, **more: Any) -> Precheck:
    return Precheck.model_validate({"kind": kind, **more})


# SQL


@pytest.mark.parametrize(
    ("sql", "ok", "why"),
    [
        ("select true", True, "the query returned true"),
        ("select count(*) < 50 from pg_stat_activity", True, "the query returned true"),
        ("select false", False, "the query returned false"),
        ("select null::bool", False, "the query returned null"),
        ("select true where false", False, "the query returned no row"),
        ("select true from pg_description", False, "the query returned several rows"),
        ("select 1", False, "the query must return one boolean, and returns int4"),
        ("select true, true", False, "the query must return one boolean, and returns bool, bool"),
        ("create table daypass_was_here ()", False, "the query must return one boolean, and returns nothing"),
        ("select pg_sleep(20) is null", False, "no answer within 1s"),
        ("select 1/0 = 1", False, "the database refuses the question: division by zero"),
        ("select nowhere()", False, "the database refuses the question: function nowhere() does not exist"),
        (
            "with x as (delete from pg_description returning 1) select true from x",
            False,
            "the database refuses the question: cannot execute SELECT in a read-only transaction",
        ),
    ],
)
async def test_sql_must_return_one_true(pg: PostgresServer, sql: str, ok: bool, why: str) -> None:
    found = await look("calm", check("sql", sql=sql, timeout="1s"), world(connects(pg)))
    assert (found.ok, found.why) == (ok, why)
    if sql.startswith("select") and "one boolean" not in why and "refuses" not in why and "answer" not in why:
        assert found.evidence["sql"] == sql


async def test_a_database_that_is_down_does_not_hold() -> None:
    async def down() -> Any:
        raise OSError("Connect call failed ('127.0.0.1', 1)")

    for kind in ("wal_archive", "replica_lag", "sql"):
        found = await look("x", check(kind, **({"sql": "select true"} if kind == "sql" else {})), world(down))
        assert found == Finding("x", False, "the database cannot be asked: Connect call failed ('127.0.0.1', 1)")


async def test_a_check_that_the_configuration_does_not_have() -> None:
    assert await look("gone", None, world()) == Finding("gone", False, "config.yaml has no prechecks.gone")


async def test_an_archive_that_is_off_and_a_server_without_replicas(pg: PostgresServer) -> None:
    found = await look("wal", check("wal_archive"), world(connects(pg)))
    assert found.why == "archive_mode is off: no WAL is archived"
    assert found.evidence["archive_mode"] == "off"
    found = await look("lag", check("replica_lag"), world(connects(pg)))
    assert (found.ok, found.why) == (False, "no replica is connected")


# Programs


def tool(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_pgbackrest_is_called_as_it_wants_to_be(tmp_path: Path) -> None:
    out = json.dumps([stanza(backups=[backup(MONDAY), backup(MONDAY + 1800, "incr")])])
    tool(tmp_path, "pgbackrest", f"echo \"$@\" > {tmp_path}/argv\ncat <<'END'\n{out}\nEND")
    here = world(environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    found = await look("base", check("pgbackrest", stanza="app"), here)
    assert (found.ok, found.why) == (True, f"incr-{MONDAY + 1800} (incr) was finished 30m ago")
    assert found.evidence == {
        "label": f"incr-{MONDAY + 1800}",
        "type": "incr",
        "finished": "2026-01-05 08:30:00 UTC",
        "stanza": "app",
        "age_seconds": 1800,
    }
    argv = (tmp_path / "argv").read_text()
    assert argv == "--stanza=app info --output=json --log-level-console=off\n"
    old = await look("base", check("pgbackrest", stanza="app", max_age="20m"), here)
    assert (old.ok, old.why) == (False, f"the last backup, incr-{MONDAY + 1800}, is 30m old; at most 20m is allowed")
    early = await look(
        "base", check("pgbackrest", stanza="app"), world(environment=here.environment, now=NOW - timedelta(1))
    )
    assert "is from the future by 23h30m" in early.why
    other = await look("base", check("pgbackrest", stanza="hr"), here)
    assert other.why == "pgbackrest knows no stanza hr; there are: app"


async def test_walg_and_a_command_of_one_s_own(tmp_path: Path) -> None:
    out = json.dumps([entry("base_0002", time="2026-01-05T08:59:30Z", finish_time="2026-01-05T08:30:00Z")])
    tool(tmp_path, "wal-g", f"echo \"$@\" > {tmp_path}/argv\ncat <<'END'\n{out}\nEND")
    here = world(environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    found = await look("base", check("walg"), here)
    assert (found.ok, found.why) == (True, "base_0002 (full) was finished 30m ago")
    assert (tmp_path / "argv").read_text() == "backup-list --json --detail\n"
    over_ssh = tool(tmp_path, "ssh", f"echo \"$@\" > {tmp_path}/argv\necho '[]'")
    found = await look("base", check("walg", command=[over_ssh, "db", "wal-g"]), here)
    assert (found.ok, found.why) == (False, "wal-g lists no good backup")
    assert (tmp_path / "argv").read_text() == "db wal-g\n"


async def test_any_command_that_ends_with_0_and_prints_json(tmp_path: Path) -> None:
    cases = {
        "echo '{\"frozen\": false}'": (True, "tool ended with exit code 0"),
        "echo fine": (False, "tool printed no JSON"),
        "true": (False, "tool printed no JSON"),
        "echo 'a freeze until monday' >&2; exit 1": (False, "tool ended with exit code 1: a freeze until monday"),
        "sleep 60": (False, "tool took longer than 1 s"),
        "head -c 70000 /dev/zero | tr '\\0' '1'": (False, "tool printed more than 65536 bytes"),
    }
    for script, (ok, why) in cases.items():
        path = tool(tmp_path, "tool", script)
        began = time.monotonic()
        found = await look("freeze", check("command", command=[path], timeout="1s"), world())
        assert (found.ok, found.why.replace(str(tmp_path) + "/", "")) in {(ok, why), (ok, "no answer within 1s")}
        assert time.monotonic() - began < 8
    assert found.evidence == {}
    path = tool(tmp_path, "tool", "echo '{\"frozen\": false}'")
    found = await look("freeze", check("command", command=[path]), world())
    assert found.evidence == {"printed": {"frozen": False}}
    missing = await look("freeze", check("command", command=["/nowhere/tool"]), world())
    assert missing.why == "tool cannot be run: No such file or directory"


# Notes


async def test_a_rollback_note_is_by_a_human() -> None:
    one = check("rollback_note")
    found = await look("note", one, world(note="restore from base_0002; anna decides", note_by="anna"))
    assert (found.ok, found.why) == (True, "a note by anna")
    assert found.evidence == {"note": "restore from base_0002; anna decides", "by": "anna"}
    assert "the request has no rollback note" in (await look("note", one, world(note=" ", note_by="anna"))).why
    for nobody in NOBODY | {"Root"}:
        found = await look("note", one, world(note="something", note_by=nobody))
        assert not found.ok
        assert "a human gives it by name" in found.why


def test_evidence_is_kept_in_bounds() -> None:
    assert json.loads(encoded({"a": 1})) == {"a": 1}
    assert json.loads(encoded({"a": "x" * 200_000})) == {"too_long": 200_009}


# A real archive and a real replica


class Replica(PostgresServer):
    """A hot standby that streams from another server."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(primary.bindir)
        self.primary = primary
        self.password = primary.password

    def _make(self) -> None:
        assert self._home is not None
        self._programs = self.primary._programs
        subprocess.run(
            [
                self._programs / "pg_basebackup", "-D", self._home / "data", "-R", "-X", "stream", "-c", "fast",
                "-h", self.primary.host, "-p", str(self.primary.port), "-U", self.primary.user,
            ],
            check=True, capture_output=True, cwd=self._home,
            env=self._environment() | {"PGPASSWORD": self.primary.password}, **self._run_as(),  # type: ignore[call-overload]
        )  # fmt: skip


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    """Archives into its own folder, unless something there is broken."""
    settings = {
        "wal_level": "replica", "max_wal_senders": "4", "archive_mode": "on",
        "archive_command": "test ! -e ../broken && mkdir -p ../archive && cp %p ../archive/%f",
    }  # fmt: skip
    with PostgresServer(settings=settings) as server:
        yield server


async def until_found(one: Precheck, here: World, wanted: str) -> Finding:
    for _ in range(150):
        found = await look("x", one, here)
        if wanted in found.why:
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"not {wanted!r} but {found}")


@pytest.mark.slow
async def test_the_age_of_the_last_archived_wal(primary: PostgresServer) -> None:
    broken = primary.data.parent / "broken"
    here = world(connects(primary))
    assert (await look("wal", check("wal_archive"), here)).why.startswith("no WAL has been archived")
    with psycopg.connect(primary.dsn(), autocommit=True) as owner:
        owner.execute("create table t as select 1; select pg_switch_wal()")
        found = await until_found(check("wal_archive"), here, "was archived")
        assert found.ok
        assert found.evidence["archived_count"] >= 1
        assert found.evidence["age_seconds"] <= 60
        await asyncio.sleep(1.2)
        old = await look("wal", check("wal_archive", max_age="1s"), here)
        assert not old.ok
        assert "the last archived WAL is" in old.why
        broken.touch()
        owner.execute("insert into t values (2); select pg_switch_wal()")
        failing = await until_found(check("wal_archive"), here, "failed at")
        assert not failing.ok
        assert "and nothing since" in failing.why
        broken.unlink()
        await until_found(check("wal_archive"), here, "was archived")


@pytest.mark.slow
async def test_the_lag_of_a_streaming_replica_from_both_sides(primary: PostgresServer) -> None:
    with Replica(primary) as replica:
        both = (world(connects(primary)), world(connects(replica)))
        found = await until_found(check("replica_lag"), both[0], "1 replica, at most")
        assert found.ok
        assert found.evidence["replicas"][0]["state"] == "streaming"
        assert (await until_found(check("replica_lag"), both[1], "1 replica, at most")).ok
        role = read_only_role(primary, "postgres", "looker", "looker-secret")
        hidden = await look("lag", check("replica_lag"), world(connects(primary, role, "looker-secret")))
        assert not hidden.ok
        assert f"is hidden from {role}: GRANT pg_monitor TO it" in hidden.why
        with psycopg.connect(primary.dsn(), autocommit=True) as owner:
            owner.execute("create table before_the_pause ()")
        with psycopg.connect(replica.dsn(), autocommit=True) as owner:
            for _ in range(100):
                if owner.execute("select pg_last_xact_replay_timestamp() is not null").fetchone() == (True,):
                    break
                await asyncio.sleep(0.1)
            owner.execute("select pg_wal_replay_pause()")
        with psycopg.connect(primary.dsn(), autocommit=True) as owner:
            for n in range(15):
                owner.execute(f"create table if not exists lag (n int); insert into lag values ({n})".encode())
                await asyncio.sleep(0.2)
        for here in both:
            late = await until_found(check("replica_lag", max_lag="1s"), here, "behind; at most 1s")
            assert not late.ok
        with psycopg.connect(replica.dsn(), autocommit=True) as owner:
            owner.execute("select pg_wal_replay_resume()")
        for here in both:
            assert (await until_found(check("replica_lag", max_lag="1s"), here, "1 replica, at most")).ok
    gone = await until_found(check("replica_lag"), world(connects(primary)), "no replica is connected")
    assert not gone.ok


async def test_connections_are_given_back(pg: PostgresServer) -> None:
    opened: list[asyncpg.Connection[Any]] = []

    async def connect() -> Any:
        opened.append(await connects(pg)())
        return opened[-1]

    for kind in ("wal_archive", "replica_lag", "sql"):
        await look("x", check(kind, **({"sql": "select 1/0 = 1"} if kind == "sql" else {})), world(connect))
    assert len(opened) == 3
    assert all(connection.is_closed() for connection in opened)
