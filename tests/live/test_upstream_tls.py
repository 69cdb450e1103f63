"""TLS towards the database: verified, bound to the password exchange, never silently given up."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.clock import SystemClock
from proxy.config import Credential, Database
from proxy.demo.postgres import PostgresServer, system_bindirs
from proxy.server.dial import Dialler
from proxy.session.upstream import UpstreamRefused, log_in
from proxy.wire import build
from tests.faults.test_peers import scripted
from tests.live.certificate import write_certificate
from tests.live.house import House
from tests.live.raw import Raw, fatal

pytestmark = pytest.mark.skipif(not system_bindirs(), reason="only the distribution's servers speak TLS")


@pytest.fixture(scope="module")
def tls_pg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with a certificate for localhost and 127.0.0.1; `.certificate` is its file."""
    cert, key = write_certificate(tmp_path_factory.mktemp("upstream"))
    server = PostgresServer(system_bindirs()[0], tls=(cert.read_bytes(), key.read_bytes()), log_statements=True)
    server.start()
    yield server
    server.close()


@pytest.fixture
def ca(tls_pg: PostgresServer, tmp_path: Path) -> Path:
    """The server's certificate, as the authority to trust."""
    path = tmp_path / "ca.pem"
    with Raw(tls_pg.port) as raw:
        assert raw.ask_tls() == b"S"
        raw.tls()
        path.write_text(ssl.DER_cert_to_PEM_cert(raw.sock.getpeercert(binary_form=True)))
    return path


def configured(house: House, mode: str, ca: Path | None, host: str = "127.0.0.1") -> House:
    database = {
        "host": host,
        "port": house.pg.port,
        "dbname": house.dbname,
        "tls": mode,
        "credential": {"mode": "shared", "user": house.role, "password_env": "SHOP_PASSWORD"},
        **({"ca": str(ca)} if ca else {}),
    }
    house.configure(databases={"shop": database})
    return house


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
def test_the_upstream_is_reached_inside_tls(
    make_house: Callable[..., House], tls_pg: PostgresServer, ca: Path, mode: str
) -> None:
    house = configured(make_house(tls_pg), mode, ca if mode != "require" else None).start()
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as conn:
        assert conn.execute("select count(*) from orders").fetchone() == (200,)
        with psycopg.connect(tls_pg.dsn("postgres")) as owner:
            row = owner.execute("select ssl from pg_stat_ssl where pid = %s", [conn.info.backend_pid]).fetchone()
        assert row == (True,)
        conn.cancel_safe(timeout=5)


def test_a_certificate_that_is_not_trusted_is_refused(
    make_house: Callable[..., House], tls_pg: PostgresServer, tmp_path: Path
) -> None:
    other, _ = write_certificate(tmp_path / "other")
    house = configured(make_house(tls_pg), "verify-full", other).start()
    assert house.http("/readyz")[0] == 503
    login = house.grant()
    with Raw(house.port) as raw:
        raw.start(login[0])
        assert fatal(raw.prove(login[1]))[0] == "57P03"


async def test_a_certificate_for_another_name_is_refused_by_verify_full_only(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path / "named", host="db.internal", address="192.0.2.1")
    server = PostgresServer(system_bindirs()[0], tls=(cert.read_bytes(), key.read_bytes()))
    server.start()
    try:
        for mode, good in (("verify-full", False), ("verify-ca", True), ("require", True)):
            database = Database.model_validate(
                {
                    "host": "127.0.0.1",
                    "port": server.port,
                    "dbname": "d",
                    "tls": mode,
                    "ca": str(cert),
                    "credential": {"mode": "shared", "user": "u"},
                }
            )
            if good:
                (await Dialler().dial(database)).close()
            else:
                with pytest.raises(UpstreamRefused, match="certificate"):
                    await Dialler().dial(database)
    finally:
        server.close()


async def test_an_old_server_may_ask_for_md5() -> None:
    heard: list[bytes] = []

    def script(peer: socket.socket) -> None:
        peer.recv(10_000)
        peer.sendall(build.message(b"R", b"\0\0\0\5salt"))
        heard.append(peer.recv(10_000))
        peer.sendall(build.AUTHENTICATION_OK + build.key_data(7, b"abcd") + build.ready(ord("I")))
        peer.recv(1)

    with scripted(script) as port:
        database = Database(
            host="127.0.0.1", port=port, dbname="d", tls="disable", credential=Credential(mode="shared", user="u")
        )
        channel = await Dialler().dial(database)
        ready = await log_in(channel, {"user": "u", "database": "d"}, "secret", SystemClock())
        channel.close()
    assert (ready.pid, ready.secret) == (7, b"abcd")
    inner = hashlib.md5(b"secretu").hexdigest().encode()
    assert heard == [build.password(b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode())]
