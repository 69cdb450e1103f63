"""Protocol versions and cancel keys: what is negotiated is what Postgres 18 would, long keys for those who speak 3.2.

Covers proxy/wire/startup.py, proxy/session/opening.py and proxy/session/registry.py.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading

import psycopg
import pytest

from proxy.clock import SystemClock
from proxy.config import Credential, Database
from proxy.server.dial import Dialler
from proxy.session.upstream import UpstreamRefused, log_in
from proxy.wire import build, framing, upstream
from proxy.wire.startup import GSSENC_REQUEST
from tests.faults.test_peers import scripted
from tests.live.house import House, until
from tests.live.raw import Raw, fatal

GREASE = 9999
GSS_PACKET = (8).to_bytes(4, "big") + GSSENC_REQUEST.to_bytes(4, "big")


def packet(major: int, minor: int, options: bytes, user: bytes = b"postgres") -> bytes:
    body = b"user\0" + user + b"\0" + options + b"\0"
    return (len(body) + 8).to_bytes(4, "big") + (major << 16 | minor).to_bytes(4, "big") + body


def heard(port: int, first: bytes) -> list[tuple[str, bytes]]:
    """What the server says to a start-up packet, up to its first question or last word; of that only the kind."""
    with Raw(port) as raw:
        raw.send(first)
        found = raw.until("R", "E")
    kind, body = found[-1]
    said = upstream.report(body) if kind == "E" else None
    return [*found[:-1], (kind, f"{said.severity} {said.sqlstate} {said.text}".encode() if said else b"")]


@pytest.mark.parametrize("options", [b"", b"_pq_.a\0001\0", b"_pq_.a\0001\0_pq_.test_protocol_negotiation\0\0"])
@pytest.mark.parametrize("version", [(3, 0), (3, 1), (3, 2), (3, 3), (3, GREASE), (3, 65535), (4, 0), (9, 9)])
def test_versions_are_negotiated_as_postgres_18_does_it(house: House, version: tuple[int, int], options: bytes) -> None:
    if house.pg.version < 18:
        pytest.skip("needs a Postgres that speaks 3.2")
    first = packet(*version, options)
    assert heard(house.port, first) == heard(house.pg.port, first)


@pytest.mark.parametrize(("minor", "length"), [(0, 4), (1, 4), (2, 32), (3, 32), (GREASE, 32)])
def test_a_session_has_a_cancel_key_as_long_as_its_protocol_allows(house: House, minor: int, length: int) -> None:
    with Raw(house.port, minor=minor) as raw:
        raw.start((login := house.grant())[0])
        if minor > 2:
            assert raw.message()[0] == "v"
        found = raw.prove(login[1])
    assert [len(body) - 4 for kind, body in found if kind == "K"] == [length]


@pytest.mark.parametrize("minor", [0, 2])
def test_only_the_whole_key_cancels(house: House, minor: int) -> None:
    with Raw(house.port, minor=minor) as raw, Raw(house.port, minor=minor) as other:
        raw.login(house.grant())
        other.login(house.grant())
        wrong = [
            raw.secret[:-1] + bytes((raw.secret[-1] ^ 1,)),
            raw.secret + b"\0",
            raw.secret[:4] if minor else raw.secret * 8,
            b"\0" * 256,
            other.secret,
        ]
        for secret in wrong:
            cancel(house.port, raw.pid, secret)
        cancel(house.port, other.pid, raw.secret)
        raw.send(build.query(b"select count(*) from generate_series(1, 1000000)"))
        assert [kind for kind, _ in raw.until("Z")] == ["T", "D", "C", "Z"]
        raw.send(build.query(b"select count(*) from generate_series(1, 100000000000)"))
        until_active(house, raw.pid)
        cancel(house.port, raw.pid, raw.secret)
        assert fatal(raw.until("E"))[0] == "57014"


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="needs the libpq of Postgres 18")
@pytest.mark.parametrize("sslmode", ["disable", "require"])
async def test_libpq_18_cancels_with_a_long_key(house: House, sslmode: str) -> None:
    dsn = house.dsn(house.grant(), sslmode=sslmode, min_protocol_version="3.2", max_protocol_version="latest")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        assert conn.pgconn.full_protocol_version == 30002
        running = asyncio.gather(conn.execute("select count(*) from generate_series(1, 100000000000)"))
        await asyncio.to_thread(until_active, house, conn.info.backend_pid)
        await conn.cancel_safe(timeout=5)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
        await conn.execute("select 1")


def until_active(house: House, pid: int) -> None:
    with psycopg.connect(house.pg.dsn(), autocommit=True) as owner:
        for _ in until(5):
            if owner.execute("select 1 from pg_stat_activity where pid = %s and state = 'active'", [pid]).fetchone():
                return
    raise AssertionError("the statement did not reach the server")


def cancel(port: int, pid: int, secret: bytes) -> None:
    """Send a CancelRequest and wait until daypass has closed: it says nothing, right or wrong."""
    with Raw(port) as raw:
        raw.send(build.cancel(pid, secret))
        assert raw.rest() == b""


@pytest.mark.parametrize("key", [b"abcde", b"k" * 32, b"k" * 300, b"abc"])
async def test_an_upstream_may_send_no_key_that_was_not_asked_for(key: bytes) -> None:
    """3.0 is asked for, and its keys have four bytes."""
    with pytest.raises(UpstreamRefused, match="no sense"):
        await log_in_with(build.AUTHENTICATION_OK + build.key_data(7, key) + build.ready(ord("I")))


async def test_an_upstream_has_nothing_to_negotiate() -> None:
    with pytest.raises(UpstreamRefused, match="no sense"):
        await log_in_with(build.negotiate(2, []) + build.AUTHENTICATION_OK)


async def log_in_with(answer: bytes) -> None:
    """A login at a server that says this; checks that daypass asked for 3.0."""
    asked: list[bytes] = []
    done = threading.Event()

    def script(peer: socket.socket) -> None:
        asked.append(peer.recv(10_000))
        peer.sendall(answer)
        done.wait(5)

    with scripted(script) as port:
        database = Database(
            host="127.0.0.1", port=port, dbname="d", tls="disable", credential=Credential(mode="shared", user="u")
        )
        channel = await Dialler().dial(database)
        try:
            await log_in(channel, {"user": "u", "database": "d"}, "secret", SystemClock())
        finally:
            channel.close()
            done.set()
            assert framing.LENGTH(asked[0], 4) == (3 << 16,), "3.0 is what is asked for"


ORDERS = ["".join(steps) for length in range(4) for steps in itertools.product("SG", repeat=length)]


@pytest.mark.parametrize("last", ["start-up", "cancel"])
@pytest.mark.parametrize("steps", ORDERS)
def test_encryption_requests_in_every_order(house: House, steps: str, last: str) -> None:
    """Each comes once, ahead of TLS; what comes again, or inside, ends the connection."""
    inside = False
    with Raw(house.port) as raw:
        for at, step in enumerate(steps):
            raw.send(build.SSL_REQUEST_PACKET if step == "S" else GSS_PACKET)
            if inside:
                assert fatal(raw.until("E"))[0] == "08P01"
                assert raw.rest() == b""
                return
            if step in steps[:at]:
                assert raw.rest() == b""
                return
            assert raw.exactly(1) == (b"S" if step == "S" else b"N")
            if step == "S":
                raw.tls()
                inside = True
        if last == "cancel":
            raw.send(build.cancel(1, b"abcd"))
            assert raw.rest() == b""
        else:
            raw.login(house.grant())
            assert (raw.binding is not None) == inside
