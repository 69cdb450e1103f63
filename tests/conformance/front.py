"""A server and a daypass in front of it that observes; the places where a suite can connect.

The suites need a role that may do everything, so the shared credential is the superuser's. A grant is for one
database, so each database has its own grant, and the user name of a place depends on the database.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import yaml

from proxy.demo.postgres import PostgresServer
from proxy.demo.served import Served, initialised
from tests.conformance.suites import Place, Suite

SETTINGS = {"max_connections": "200", "max_prepared_transactions": "20", "wal_level": "logical"}


class Front:
    """One server, one daypass."""

    def __init__(self, server: PostgresServer, served: Served, places: dict[str, Place]) -> None:
        self.server = server
        self.served = served
        self.places = places

    def renew(self, suite: Suite) -> None:
        """Fresh databases for a run, made directly: the next run must not find what the one before left."""
        for database in suite.databases:
            _create(self.server, database)
            with psycopg.connect(self.server.dsn(database), autocommit=True) as conn:
                for statement in suite.prepare:
                    with contextlib.suppress(psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
                        conn.execute(statement.encode())


@contextmanager
def front(bindir: Path, suites: Sequence[Suite]) -> Iterator[Front]:
    """Start both; on leaving, the recording of everything that ran must be whole."""
    databases = sorted({database for suite in suites for database in suite.databases})
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(bindir, settings=SETTINGS))
        for database in databases:
            _create(server, database)
        home = Path(tempfile.mkdtemp(prefix="daypass-conformance-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        served = _serve(server, home, databases)
        stack.callback(served.close)
        served.start()
        logins = {}
        for database in databases:
            made = served.grant(
                person="conformance@example.com",
                vendor="conformance",
                database=database,
                policy="observer",
                length="24h",
                reason="conformance",
            )
            logins[database] = (made["user"], made["token"])
        direct = dict.fromkeys(databases, (server.user, server.password))
        contrib = _has_contrib(server)
        yield Front(
            server,
            served,
            {
                "direct": Place("direct", server.host, server.port, False, direct, contrib),
                "plain": Place("plain", "127.0.0.1", served.port, False, logins, contrib),
                "tls": Place("tls", "127.0.0.1", served.port, True, logins, contrib),
            },
        )
        served.run("recording", "verify")


def _serve(server: PostgresServer, home: Path, databases: Sequence[str]) -> Served:
    folder = home / "daypass"
    initialised(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["listen"] = {**config["listen"], "host": "127.0.0.1", "port": 0}
    config["listen"]["tls"] = {**config["listen"]["tls"], "mode": "allow"}
    config["metrics"] = {"host": "127.0.0.1", "port": 0}
    config["databases"] = {
        database: {
            "host": server.host,
            "port": server.port,
            "tls": "disable",
            "credential": {"mode": "shared", "user": server.user, "password_env": "SUITE_PASSWORD"},
        }
        for database in databases
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for example in (folder / "policies").glob("*.yaml"):
        example.unlink()
    policy = {"name": "observer", "mode": "observe", "databases": list(databases)}
    (folder / "policies" / "observer.yaml").write_text(yaml.safe_dump(policy))
    return Served(folder, home, {"SUITE_PASSWORD": server.password})


def _create(server: PostgresServer, database: str) -> None:
    # From template1: asyncpg's tests want the database `postgres` itself.
    with psycopg.connect(server.dsn("template1"), autocommit=True) as conn:
        conn.execute(f'drop database if exists "{database}" with (force)'.encode())
        conn.execute(f'create database "{database}"'.encode())


def _has_contrib(server: PostgresServer) -> bool:
    with psycopg.connect(server.dsn()) as conn:
        return conn.execute("select from pg_available_extensions where name = 'bloom'").fetchone() is not None
