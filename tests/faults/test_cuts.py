"""Connections that end, stall or crawl at the worst moment, on either side of daypass.

Cut by FIN and by RST at every byte of an exchange; black holes; one byte a second; readers that are slow. Always: the
process lives, other sessions are served, what Postgres executed is what the record says was sent, memory is bounded.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from proxy.wire import build
from tests.faults.conftest import Figure
from tests.faults.equality import ServerLog, compare
from tests.faults.middle import LINGER_NONE, Middle
from tests.faults.scale import LONG
from tests.faults.test_peers import cpu, good_login
from tests.faults.test_splits import EXCHANGE, talked
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw

MIB = 1 << 20
FIN, RST = False, True


def ended(house: House, timeout: float = 8) -> None:
    """Wait until no session is open."""
    for _ in until(timeout, 0.05):
        if "daypass_sessions 0.0" in house.http("/metrics")[1]:
            return
    raise AssertionError(house.http("/metrics")[1])


@pytest.mark.parametrize("how", [FIN, RST], ids=["FIN", "RST"])
def test_a_client_that_is_cut_at_every_byte(house: House, figure: Figure, how: bool) -> None:
    login = house.grant()
    log = ServerLog(house.pg)
    cuts = range(0, len(EXCHANGE), 1 if LONG else 7)
    for cut in cuts:
        with Raw(house.port, timeout=8) as raw:
            raw.login(login)
            raw.send(EXCHANGE[:cut])
            if how is RST:
                raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    ended(house)
    sessions, statements, found = compare(house, log.settled(house.role))
    assert not found, found[:5]
    assert good_login(house, login) < 2
    figure(
        f"a client cut at every byte, {'RST' if how else 'FIN'}",
        f"{len(cuts)} points, {sessions} sessions, {statements} statements executed",
        "0 differences of log and record",
        "0",
    )


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory, house_of_module: House) -> Iterator[tuple[House, Middle]]:
    """A daypass with a middle between it and its server."""
    pg = house_of_module.pg
    with Middle(pg.port) as middle:
        house = House(tmp_path_factory.mktemp("between"), pg)
        database = {"host": "127.0.0.1", "port": middle.port, "dbname": house.dbname, "tls": "disable"}
        credential = {"mode": "shared", "user": house.role, "password_env": "SHOP_PASSWORD"}
        house.configure(databases={"shop": {**database, "credential": credential}}, login_timeout="3s")
        house.start()
        yield house, middle
        house.hurry()


@pytest.mark.parametrize("side", ["towards the server", "towards daypass"])
def test_a_server_connection_that_is_cut_at_every_byte(
    between: tuple[House, Middle], figure: Figure, side: str
) -> None:
    house, middle = between
    middle.calm()
    login = house.grant()
    log = ServerLog(house.pg)
    whole = talked(house, login, [EXCHANGE])
    cuts = range(1, 1_500, 5 if LONG else 61)
    told = 0
    for cut in cuts:
        middle.reset = cut % 2 == 1
        middle.cut_up, middle.cut_down = (cut, 1 << 62) if side == "towards the server" else (1 << 62, cut)
        with Raw(house.port, timeout=8) as raw:
            raw.start(login[0])
            found = raw.prove(login[1])
            if found[-1][0] == "Z":
                with contextlib.suppress(OSError):
                    raw.send(EXCHANGE)
                said = raw.rest()
                assert said == whole or len(said) < len(whole) + 400
                told += b"C08006\0" in said
            else:
                assert found[-1][0] == "E", found
                told += 1
    middle.calm()
    ended(house)
    sessions, statements, differ = compare(house, log.settled(house.role))
    assert not differ, differ[:5]
    assert good_login(house, login) < 2
    figure(
        f"the server's connection cut at every byte, {side}",
        f"{len(cuts)} points, {sessions} sessions, {statements} statements executed",
        f"{told} clients told, 0 differences of log and record",
        "0",
    )


@pytest.mark.slow
def test_black_holes_on_both_sides(between: tuple[House, Middle], figure: Figure) -> None:
    """Nothing arrives and nobody says so: a revocation still ends the session, a login still times out."""
    house, middle = between
    middle.calm()
    login, other = house.grant(), house.grant()
    with Middle(house.port) as front, Raw(front.port).login(login) as raw, Raw(house.port).login(other) as busy:
        busy.send(build.query(b"select count(*) from orders a, orders b, orders c"))
        front.stop()
        middle.stop()
        with contextlib.suppress(OSError):
            for _ in range(200):
                raw.send(build.query(b"select 1") * 100)
                raw.sock.settimeout(0.05)
        began = time.monotonic()
        with Raw(house.port, timeout=8) as late:
            late.start(other[0])
            assert late.prove(other[1])[-1][0] == "E", "the server does not answer"
        login_seconds = time.monotonic() - began
        house.revoke(login[0])
        house.revoke(other[0])
        began = time.monotonic()
        ended(house, 6)
        seconds = time.monotonic() - began
    middle.calm()
    assert login_seconds < 4
    assert seconds < 3
    assert good_login(house, house.grant()) < 2
    figure(
        "black holes on both sides",
        "a revocation with client and server gone silent; a login with the server gone silent",
        f"sessions ended in {seconds:.1f} s, login refused in {login_seconds:.1f} s",
        "3 s, login_timeout (3 s)",
    )


@pytest.mark.slow
def test_a_hundred_clients_that_crawl(make_house: Callable[..., House], figure: Figure) -> None:
    """One byte a second of a start-up packet, and of a query once logged in; the others do not wait."""
    house = make_house(login_timeout="3s").start()
    login = house.grant()
    before = house.memory()
    packet = build.startup({"user": login[0], "database": "shop"})
    slow = [socket.create_connection(("127.0.0.1", house.port), timeout=5) for _ in range(100)]
    inside = Raw(house.port, timeout=30).login(login)
    question = build.query(b"select 1")
    worst = 0.0
    cut = 0
    began = time.monotonic()
    for at in range(len(question)):
        inside.send(question[at : at + 1])
        for peer in slow:
            with contextlib.suppress(OSError):
                peer.sendall(packet[at : at + 1])
        worst = max(worst, good_login(house, login))
        time.sleep(max(0.0, began + (at + 1) * 0.7 - time.monotonic()))
    assert inside.until("Z")[-1][0] == "Z"
    for peer in slow:
        with contextlib.suppress(OSError):
            cut += peer.recv(1) == b""
        peer.close()
    inside.sock.close()
    grown = house.memory() - before
    assert cut == 100
    assert worst < 1
    assert grown < 16 * MIB
    figure(
        "clients that crawl (slowloris)",
        "100 at a byte each 0.7 s in the login, one in a session",
        f"all 100 cut at login_timeout; a good login took at most {worst:.2f} s; memory +{grown // MIB} MiB",
        "1 s; 16 MiB",
    )


@pytest.mark.slow
def test_no_descriptors_at_the_start_of_a_storm(make_house: Callable[..., House], figure: Figure) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    house = make_house(login_timeout="2s").start(prepare=few)
    login = house.grant()
    assert house.process is not None
    with Raw(house.port, timeout=10).login(login) as open_session, contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", house.port), timeout=5))
        house.wait_log("accept_paused")
        began, spent = time.monotonic(), cpu(house.process.pid)
        for _ in range(20):
            open_session.send(build.query(b"select 1"))
            assert open_session.until("Z")[-1][0] == "Z"
            time.sleep(0.1)
        share = (cpu(house.process.pid) - spent) / (time.monotonic() - began)
    began = time.monotonic()
    for _ in until(15, 0.1):
        with contextlib.suppress(OSError, AssertionError):
            good_login(house, login)
            break
    else:
        raise AssertionError("no login succeeds any more")
    healed = time.monotonic() - began
    assert share < 0.3
    figure(
        "no descriptors left (EMFILE)",
        "300 connections with room for 64 files, one session open",
        f"{share:.0%} of a processor; the open session is served; logins again after {healed:.1f} s",
        "30 %; 15 s",
    )


def read_slowly(raw: Raw, rate: int, seconds: float, look: Callable[[], None]) -> int:
    """Read `rate` bytes a second for so long; returns how many came."""
    got = 0
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        if got < now * rate:
            piece = raw.sock.recv(65_536)
            if not piece:
                break
            got += len(piece)
        else:
            time.sleep(0.01)
            look()
    return got


@pytest.mark.slow
def test_slow_readers_of_a_large_result(make_house: Callable[..., House], figure: Figure) -> None:
    """512 MiB, at 1 MiB/s by one client and at 1 KiB/s by another, then to the end by the first."""
    house = make_house(policy=POLICY.replace("statement_timeout: 20s", "statement_timeout: 300s")).start()
    login = house.grant()
    question = build.query(b"select repeat('x', 1000) from generate_series(1, 540000)")
    with Raw(house.port, timeout=60) as raw, Raw(house.port, timeout=60) as crawling:
        for one in (raw, crawling):
            one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            one.login(login)
            good_login(house, login)
        before = peak = house.memory()

        def look() -> None:
            nonlocal peak
            peak = max(peak, house.memory())

        crawling.send(question)
        raw.send(question)
        thread = threading.Thread(target=read_slowly, args=(crawling, 1024, 20, lambda: None))
        thread.start()
        got = read_slowly(raw, MIB, 20, look)
        beside = good_login(house, login)
        thread.join()
        looked = got
        while True:
            piece = raw.sock.recv(1 << 20)
            got += len(piece)
            if got - looked > 16 * MIB:
                looked = got
                look()
            if piece.endswith(build.ready(73)):
                break
        look()
    assert got > 512 * MIB
    assert peak - before < 32 * MIB
    assert beside < 2
    figure(
        "slow readers of a large result",
        f"{got // MIB} MiB, 20 s at 1 MiB/s, then at full speed; another at 1 KiB/s",
        f"memory +{(peak - before) / MIB:.1f} MiB; a login beside them took {beside:.2f} s",
        "32 MiB; 2 s",
    )
