"""The server's side dies: a backend terminated, a backend killed, the whole server stopped at once.

In a query, in COPY OUT, in a transaction. The client gets a clear error, the record has the outcome and the end, the
proxy lives, and serves new sessions as soon as the server is back. The server here is this file's own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.wire import build
from tests.faults.conftest import Figure
from tests.faults.equality import events_of
from tests.faults.test_peers import good_login
from tests.live.house import House, until
from tests.live.raw import Raw, fatal
from tests.support.postgres import bindirs

MOMENTS: dict[str, tuple[bytes, ...]] = {
    "in a query": (b"select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b",),
    "in COPY OUT": (b"copy (select repeat('x', 500), generate_series(1, 100000000)) to stdout",),
    "in a result": (b"select repeat('x', 500), generate_series(1, 100000000)",),
    "in a transaction": (b"begin", b"select 1"),
}


def terminate(pg: PostgresServer, pid: int) -> None:
    """pg_terminate_backend."""
    with psycopg.connect(pg.dsn(), autocommit=True) as owner:
        owner.execute("select pg_terminate_backend(%s)", [pid])


def kill(pg: PostgresServer, pid: int) -> None:
    """kill -9 of one backend: the server ends all of them and recovers."""
    os.kill(pid, signal.SIGKILL)


def stop(pg: PostgresServer, pid: int) -> None:
    """pg_ctl stop -m immediate."""
    pg.stop(signal.SIGQUIT)


HOWS: dict[str, Callable[[PostgresServer, int], None]] = {
    "pg_terminate_backend": terminate,
    "kill -9 of the backend": kill,
    "the server stopped at once": stop,
}


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A daypass in front of a server that may be killed."""
    with PostgresServer(bindirs()[0], log_statements=True) as pg:
        house = House(tmp_path_factory.mktemp("mortal"), pg)
        house.start()
        yield house
        house.hurry()


def running(raw: Raw, moment: str) -> None:
    """Bring the session to this moment: the last statement runs, or its answer is on the way."""
    *before, last = MOMENTS[moment]
    for sql in before:
        raw.send(build.query(sql))
        raw.until("Z")
    raw.send(build.query(last))
    if moment == "in a transaction":
        raw.until("Z")
    elif moment != "in a query":
        for _ in range(100):
            raw.message()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", HOWS)
def test_the_client_is_told_the_record_knows_and_the_next_is_served(
    mortal: House, figure: Figure, how: str, moment: str
) -> None:
    house = mortal
    login = house.grant()
    good_login(house, login)
    with Raw(house.port, timeout=20).login(login) as raw:
        raw.send(build.query(b"select pg_backend_pid()"))
        pid = int(raw.until("Z")[1][1][6:])
        running(raw, moment)
        began = time.monotonic()
        HOWS[how](house.pg, pid)
        last = raw.until("E", "")[-1]
        told = time.monotonic() - began
        # A message that had begun is not finished: then nothing can be put behind it, and the end is the word.
        if last[0] == "E":
            assert fatal([last])[0] in ("57P01", "57P02", "08006")
        else:
            assert moment in ("in COPY OUT", "in a result")
        assert raw.rest() == b""
    if not house.pg.pid:
        house.pg.start()
    (path,) = [path for path in house.recordings() if events_of(path)[0].get("upstream_pid") == pid]
    for _ in until(5):
        events = events_of(path)
        if events[-1]["event"] == "session.end":
            break
    outcomes = {event["n"]: event["sqlstate"] for event in events if event["event"] == "outcome"}
    statements = [event["n"] for event in events if event["event"] == "statement"]
    assert set(outcomes) == set(statements), "every statement has its outcome"
    if moment != "in a transaction":
        assert outcomes[statements[-1]] in ("57P01", "57P02", "08006")
    assert events[-1]["reason"] in ("upstream", "upstream lost")
    assert house.http("/healthz")[0] == 200
    began = time.monotonic()
    for _ in until(20, 0.05):
        with contextlib.suppress(OSError, AssertionError):
            good_login(house, login)
            break
    else:
        raise AssertionError("no session is served after the server is back")
    back = time.monotonic() - began
    assert told < 5
    assert back < 10
    figure(
        f"{how}",
        f"{moment}",
        f"told in {told:.2f} s, recorded, served again {back:.2f} s after it was back",
        "5 s, 10 s",
    )
