"""Every way in which a real Postgres may ask for daypass's password, and what is never answered.

Covers proxy/session/upstream.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from proxy.clock import SystemClock
from proxy.config import Credential, Database
from proxy.demo.postgres import PostgresServer, system_bindirs
from proxy.server.channel import close_gently
from proxy.server.dial import Dialler
from proxy.session.upstream import UpstreamRefused, log_in
from proxy.wire import build
from tests.live.certificate import write_certificate
from tests.live.house import until
from tests.support.postgres import bindirs

METHODS = ("md5", "password", "scram-sha-256", "trust")
STORED = ("md5", "scram-sha-256")
PASSWORD = "pass-wörd"


def role(method: str, stored: str) -> str:
    return f"{method}_{stored}".replace("-", "_")


@pytest.fixture(scope="module", params=bindirs(), ids=lambda bindir: bindir.parent.name)
def asking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with a role for each method of pg_hba.conf and each kind of stored password."""
    bindir: Path = request.param
    tls = None
    if bindir in system_bindirs():
        cert, key = write_certificate(tmp_path_factory.mktemp("asking"))
        tls = cert.read_bytes(), key.read_bytes()
    server = PostgresServer(bindir, tls=tls)
    server.start()
    try:
        with psycopg.connect(server.dsn(), autocommit=True) as owner:
            lines = []
            for method in METHODS:
                for stored in STORED:
                    owner.execute(sql.SQL("set password_encryption = {}").format(sql.Literal(stored)))
                    owner.execute(
                        sql.SQL("create role {} login password {}").format(
                            sql.Identifier(role(method, stored)), sql.Literal(PASSWORD)
                        )
                    )
                    lines.append(f"host all {role(method, stored)} 127.0.0.1/32 {method}\n")
            hba = server.data / "pg_hba.conf"
            hba.write_text("".join(lines) + hba.read_text())
            owner.execute("select pg_reload_conf()")
        for _ in until(5):
            try:
                psycopg.connect(server.dsn(user=role("trust", "md5"), password="none")).close()
                break
            except psycopg.OperationalError:
                continue
        yield server
    finally:
        server.close()


async def logged_in(server: PostgresServer, user: str, password: str, *, tls: bool) -> int:
    """Log in; returns the process id of the backend."""
    database = Database(
        host=server.host,
        port=server.port,
        dbname="postgres",
        tls="require" if tls else "disable",
        credential=Credential(mode="shared", user=user),
    )
    channel = await Dialler().dial(database)
    try:
        assert (channel.tls is not None) == tls
        return (await log_in(channel, {"user": user, "database": "postgres"}, password, SystemClock())).pid
    finally:
        # The server closes at this word, also where it still waits for a password.
        channel.write(build.TERMINATE)
        await close_gently(channel, 1)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("method", METHODS)
async def test_each_method_of_pg_hba(asking: PostgresServer, method: str, stored: str, tls: bool) -> None:
    if tls and asking.bindir not in system_bindirs():
        pytest.skip("this server was built without OpenSSL")
    user = role(method, stored)
    if method == "scram-sha-256" and stored == "md5":
        with pytest.raises(UpstreamRefused, match="28P01"):
            await logged_in(asking, user, PASSWORD, tls=tls)
    elif method == "password" and not tls:
        with pytest.raises(UpstreamRefused, match="clear text outside of TLS"):
            await logged_in(asking, user, PASSWORD, tls=tls)
    else:
        assert await logged_in(asking, user, PASSWORD, tls=tls)
        if method != "trust":
            with pytest.raises(UpstreamRefused, match="28P01"):
                await logged_in(asking, user, "wrong", tls=tls)
            with pytest.raises(UpstreamRefused, match="configured to send none"):
                await logged_in(asking, user, "", tls=tls)
