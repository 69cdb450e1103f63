"""Peers that misbehave: silence, half messages, storms, upstreams that are down, wrong, slow or killed.

Covers proxy/server/dial.py and proxy/session/upstream.py.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from proxy.wire import build
from tests.faults.conftest import Figure
from tests.live.house import House, until
from tests.live.raw import Raw, fatal


def good_login(house: House, login: tuple[str, str]) -> float:
    """Seconds that a login and a statement take."""
    began = time.monotonic()
    with Raw(house.port, timeout=10) as raw:
        raw.login(login)
        raw.send(build.query(b"select 1"))
        assert raw.until("Z")[-1][0] == "Z"
    return time.monotonic() - began


@pytest.mark.thorough
def test_a_thousand_silent_connections_cost_little_and_keep_nobody_out(
    make_house: Callable[..., House], figure: Figure
) -> None:
    house = make_house(login_timeout="3s", limits={"connections": 400}).start()
    login = house.grant()
    with Raw(house.port).login(login) as session:
        good_login(house, login)
        before = house.memory()
        with ExitStack() as stack:
            for _ in range(1000):
                stack.enter_context(socket.create_connection(("127.0.0.1", house.port), timeout=5))
            seconds = good_login(house, login)
            grown = house.memory() - before
            session.send(build.query(b"select 1"))
            assert session.until("Z")[-1][0] == "Z"
            for _ in until(8, 0.1):
                if "daypass_logins_pending 0.0" in house.http("/metrics")[1]:
                    break
            else:
                raise AssertionError("silent connections were not timed out")
        assert seconds < 1.0
        assert grown < 16 << 20, f"{grown >> 20} MiB for 1000 silent connections"
    events = [entry["event"] for entry in house.log()]
    assert events.count("login_timeout") + events.count("login_dropped") == 1000
    figure(
        "silent connections",
        "1,000 at once, limits.connections 400",
        f"a good login took {seconds:.2f} s; memory +{grown >> 20} MiB",
        "1 s; 16 MiB",
    )


@pytest.mark.parametrize(
    "piece", [b"", b"\0", b"\0\0\0\x08\x04\xd2", b"\0\0\0\x50\0\3\0\0user\0", b"\x16\x03\x01\x02\0\x01"]
)
def test_half_a_start_up_and_then_silence(make_house: Callable[..., House], piece: bytes) -> None:
    house = make_house(login_timeout="1s").start()
    with Raw(house.port) as raw:
        raw.send(piece)
        began = time.monotonic()
        raw.rest()
        assert 0.5 < time.monotonic() - began < 3


def test_half_a_proof_and_then_silence(make_house: Callable[..., House]) -> None:
    house = make_house(login_timeout="1s").start()
    user, _ = house.grant()
    with Raw(house.port) as raw:
        raw.start(user)
        raw.message()
        raw.send(build.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc")[:-3])
        assert fatal(raw.until("E"))[0] == "08P01"
    assert house.logins()[-1]["user"] == user


def test_one_byte_at_a_time_does_not_buy_time(make_house: Callable[..., House]) -> None:
    house = make_house(login_timeout="1s").start()
    packet = build.startup({"user": "x" * 60, "database": "shop"})
    with Raw(house.port) as raw:
        began = time.monotonic()
        try:
            for byte in packet * 10:
                raw.send(bytes((byte,)))
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - began < 3


@pytest.mark.thorough
def test_running_out_of_descriptors_does_not_spin_and_heals(make_house: Callable[..., House]) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))

    house = make_house(login_timeout="2s").start(prepare=few)
    login = house.grant()
    assert house.process is not None
    with ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.create_connection(("127.0.0.1", house.port), timeout=5))
        house.wait_log("accept_paused")
        began, spent = time.monotonic(), cpu(house.process.pid)
        time.sleep(1)
        assert cpu(house.process.pid) - spent < 0.5 * (time.monotonic() - began)
    for _ in until(10, 0.2):
        try:
            good_login(house, login)
        except (OSError, AssertionError):
            continue
        return
    raise AssertionError("no login succeeds any more")


def cpu(pid: int) -> float:
    """Seconds of processor time so far."""
    with open(f"/proc/{pid}/stat") as stat:
        words = stat.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / 100


def test_an_upstream_that_is_down_is_told_recorded_and_survived(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    login = house.grant()
    good_login(house, login)
    with Raw(house.port).login(login) as open_session:
        house.pg.stop()
        assert open_session.until("E")[-1][0] == "E", "the server's own goodbye is passed on"
        with Raw(house.port) as raw:
            raw.start(login[0])
            code, text = fatal(raw.prove(login[1]))
        assert code in ("08006", "57P03")
        assert str(house.pg.port) not in text
    assert house.logins()[-1]["user"] == login[0]
    assert house.http("/healthz")[0] == 200
    house.pg.start()
    for _ in until(10, 0.2):
        try:
            good_login(house, login)
        except (OSError, AssertionError):
            continue
        return
    raise AssertionError("daypass did not find the database again")


def test_a_start_without_the_database_is_not_ready_until_it_comes(make_house: Callable[..., House]) -> None:
    house = make_house()
    login = house.grant()
    house.pg.stop()
    house.start()
    assert house.http("/readyz")[0] == 503
    with Raw(house.port) as raw:
        raw.start(login[0])
        code, text = fatal(raw.prove(login[1]))
    assert (code, "not available yet" in text) == ("57P03", True)
    house.pg.start()
    for _ in until(10, 0.1):
        if house.http("/readyz")[0] == 200:
            break
    good_login(house, login)


def test_a_wrong_upstream_password_is_told_without_its_name(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    login = house.grant()
    good_login(house, login)
    with psycopg.connect(house.pg.dsn("postgres"), autocommit=True) as owner:
        owner.execute("alter role vendor_ro password 'changed'")
        try:
            with Raw(house.port) as raw:
                raw.start(login[0])
                code, text = fatal(raw.prove(login[1]))
        finally:
            owner.execute("alter role vendor_ro password 'vendor-secret'")
    assert code == "08006"
    assert "28P01" in text
    assert "vendor_ro" not in text
    assert "vendor_ro" in house.logins()[-1]["reason"]
    good_login(house, login)


def test_a_backend_killed_in_the_middle_of_a_result(house: House) -> None:
    login = house.grant()
    with Raw(house.port, timeout=20) as raw:
        raw.login(login)
        raw.send(build.query(b"select pg_backend_pid()"))
        pid = int(raw.until("Z")[1][1][6:])
        raw.send(build.query(b"select g, repeat('x', 500) from generate_series(1, 3000000) g"))
        for _ in range(1000):
            raw.message()
        with psycopg.connect(house.pg.dsn("postgres"), autocommit=True) as owner:
            owner.execute("select pg_terminate_backend(%s)", [pid])
        messages = raw.until("E")
        assert fatal(messages)[0] in ("57P01", "08006")
        assert raw.rest() == b""
    good_login(house, login)


@contextmanager
def scripted(script: Callable[[socket.socket], None]) -> Iterator[int]:
    """An upstream that follows a script for each connection; yields its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(5)
                try:
                    script(peer)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


HOSTILE = {
    "closes": b"",
    "noise": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "huge": b"R\x7f\xff\xff\xff",
    "short": b"R\0\0\0\x03",
    "clear text": b"R\0\0\0\x08\0\0\0\3",
    "kerberos": b"R\0\0\0\x08\0\0\0\7",
    "no sqlstate": build.message(b"E", b"SFATAL\0Mno\0\0"),
    "huge nonce": build.sasl(["SCRAM-SHA-256"]) + build.sasl_continue(b"r=" + b"x" * 60_000 + b",s=YWJj,i=4096"),
    "many iterations": build.sasl(["SCRAM-SHA-256"]) + build.sasl_continue(b"r=abc,s=YWJj,i=999999999"),
    "no signature": build.sasl(["SCRAM-SHA-256"]) + build.AUTHENTICATION_OK,
    "unknown mechanism": build.sasl(["MAGIC"]),
    "endless": build.notice(text="x") * 2000,
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_upstream_cannot_get_a_password_or_a_session(what: str) -> None:
    from proxy.clock import SystemClock
    from proxy.config import Credential, Database
    from proxy.server.dial import Dialler
    from proxy.session.upstream import UpstreamRefused, log_in

    heard: list[bytes] = []

    def script(peer: socket.socket) -> None:
        heard.append(peer.recv(10_000))
        peer.sendall(HOSTILE[what])
        while HOSTILE[what] and (data := peer.recv(10_000)):
            heard.append(data)

    with scripted(script) as port:
        database = Database(
            host="127.0.0.1", port=port, dbname="d", tls="disable", credential=Credential(mode="shared", user="u")
        )
        channel = await Dialler().dial(database)
        with pytest.raises((UpstreamRefused, ConnectionError)):
            async with asyncio.timeout(5):
                await log_in(channel, {"user": "u", "database": "d"}, "the-password", SystemClock())
        channel.close()
        await asyncio.sleep(0.05)
    assert b"the-password" not in b"".join(heard)


async def test_bytes_behind_the_servers_yes_to_tls_are_not_read_as_plaintext() -> None:
    from proxy.config import Credential, Database
    from proxy.server.dial import Dialler
    from proxy.session.upstream import UpstreamRefused

    def script(peer: socket.socket) -> None:
        peer.recv(8)
        peer.sendall(b"S" + build.AUTHENTICATION_OK + build.ready(ord("I")))
        peer.recv(1000)

    def no(peer: socket.socket) -> None:
        peer.recv(8)
        peer.sendall(b"N")

    for answer in (script, no):
        with scripted(answer) as port:
            database = Database(
                host="127.0.0.1", port=port, dbname="d", tls="require", credential=Credential(mode="shared", user="u")
            )
            with pytest.raises(UpstreamRefused):
                async with asyncio.timeout(5):
                    await Dialler().dial(database)


def test_a_slow_reader_of_a_large_result_costs_no_memory(house: House) -> None:
    login = house.grant()
    with Raw(house.port, timeout=20) as raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        raw.login(login)
        before = house.memory()
        raw.send(build.query(b"select repeat('x', 1000) from generate_series(1, 1000000)"))
        peak = 0
        for _ in range(20):
            raw.exactly(10_000)
            time.sleep(0.05)
            peak = max(peak, house.memory() - before)
        assert peak < 16 << 20
        assert good_login(house, login) < 2


@pytest.mark.slow
def test_a_flood_of_refused_statements_by_a_client_that_never_reads(house: House, figure: Figure) -> None:
    login = house.grant()
    with Raw(house.port, timeout=3) as raw:
        raw.login(login)
        before = house.memory()
        flood = build.query(b"delete from orders") * 1000
        sent = 0
        try:
            for _ in range(2000):
                raw.send(flood)
                sent += len(flood)
        except TimeoutError:
            pass
        grown = house.memory() - before
        assert grown < 24 << 20
        assert sent < 2000 * len(flood), "daypass stops reading from a client that does not read"
    figure(
        "a flood of refused statements, never read",
        f"{sent >> 20} MiB before daypass stopped reading",
        f"memory +{grown >> 20} MiB",
        "24 MiB",
    )
