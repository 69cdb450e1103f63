"""Ends and beginnings: a worker or the supervisor that is killed, signals, a new version that takes over.

Covers proxy/server/supervisor.py and proxy/server/server.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from proxy.server.supervisor import ANSWER
from tests.live.house import House, until
from tests.live.raw import Raw
from tests.live.test_workers import LONG, connect, daypass, on_both, session_of, sessions, value


def pids(house: House) -> dict[int, int]:
    """The process of each worker, as the log told last."""
    return {line["worker"]: line["pid"] for line in house.log() if line["event"] == "worker_started"}


def alive(pid: int) -> bool:
    """Whether the process runs: a zombie that its parent left behind does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def states(house: House) -> dict[str, str]:
    return {one["session"]: one["state"] for one in sessions(house)}


def intact(house: House) -> None:
    done = daypass(house, "recording", "verify", "-o", "json")
    assert done.returncode == 0, done.stdout


def test_a_killed_worker_takes_nobody_with_it(make_house: Callable[..., House]) -> None:
    house = make_house(workers=2, drain_timeout="1s").start()
    login = house.grant()
    with ExitStack() as stack:
        both = on_both(house, login, stack)
        dying, living = both[1][0], both[2][0]
        gone, stays = {session_of(house, conn) for conn in both[1]}, session_of(house, living)
        for conn in (dying, living):
            conn.execute("select 1")
        before = value(house, "daypass_statements_total")  # a dead worker's counters are those that it told last
        os.kill(pids(house)[1], signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            dying.execute("select 1")
        assert living.execute("select 2").fetchone() == (2,)
        assert house.http("/readyz")[0] == 200, "one worker that serves is enough"
        assert house.http("/metrics")[0] == 200
        died = house.wait_log("worker_died", worker=1)
        assert died["code"] == -signal.SIGKILL
        house.wait_log("recording_recovered", timeout=15)
        found = states(house)
        assert {id_ for id_, state in found.items() if state == "interrupted"} == gone
        assert found[stays] == "open"
        for _ in until(15):
            if value(house, "daypass_workers") == 2:
                break
        assert value(house, "daypass_workers") == 2
        assert value(house, "daypass_worker_restarts_total") == 1
        assert value(house, "daypass_statements_total") >= before + 1
        intact(house)
        again = on_both(house, login, stack)
        assert again[1][0].execute("select 3").fetchone() == (3,)
        assert living.execute("select 4").fetchone() == (4,)
        assert len([line for line in house.log() if line["event"] == "ready"]) == 1
        assert house.stop() == 0
        for conn in (living, again[1][0]):
            with pytest.raises(psycopg.OperationalError, match="shutting down"):
                conn.execute("select 5")
    found = states(house)
    assert {id_ for id_, state in found.items() if state == "interrupted"} == gone
    assert {state for id_, state in found.items() if id_ not in gone} == {"sealed"}
    intact(house)


def test_a_worker_that_hangs_does_not_hold_up_readyz(make_house: Callable[..., House]) -> None:
    house = make_house(workers=2).start()
    os.kill(pids(house)[1], signal.SIGSTOP)
    try:
        took = []
        for _ in range(3):
            began = time.monotonic()
            assert house.http("/readyz")[0] == 200
            took.append(time.monotonic() - began)
    finally:
        os.kill(pids(house)[1], signal.SIGCONT)
    assert min(took) < ANSWER


@pytest.mark.slow
def test_workers_end_with_their_supervisor_and_another_takes_over(make_house: Callable[..., House]) -> None:
    house = make_house(workers=2, drain_timeout="2s").start()
    login, workers = house.grant(), pids(house)
    with ExitStack() as stack:
        left = [conns[0] for conns in on_both(house, login, stack).values()]
        ids = [session_of(house, conn) for conn in left]
        assert house.process is not None
        house.process.kill()
        house.process.wait()
        house.process = None
        house.wait_log("supervisor_gone", worker=1)
        house.wait_log("supervisor_gone", worker=2)
        house.start()
        with connect(house, login) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        for _ in until(10):
            if not any(alive(pid) for pid in workers.values()):
                break
        assert not any(alive(pid) for pid in workers.values())
        for conn in left:
            with pytest.raises(psycopg.OperationalError, match="shutting down"):
                conn.execute("select 1")
    assert {states(house)[id_] for id_ in ids} == {"sealed"}
    intact(house)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_new_version_takes_over_while_the_old_one_drains(make_house: Callable[..., House], workers: int) -> None:
    house = make_house(workers=workers, drain_timeout="60s").start()
    listen = {"host": "127.0.0.1", "port": house.port, "tls": {"mode": "disable"}}
    metrics = {"host": "127.0.0.1", "port": house.metrics_port}
    login = house.grant()
    with connect(house, login) as working, ThreadPoolExecutor() as pool:
        working.execute("begin")
        old_session = session_of(house, working)
        old = house.process
        assert old is not None
        old.send_signal(signal.SIGTERM)
        house.wait_log("draining", **({"workers": 2} if workers == 2 else {}))
        house.configure(workers=workers, listen=listen, metrics=metrics, drain_timeout="60s")
        house.start()
        assert working.execute("select 1").fetchone() == (1,), "the old one still serves its session"
        with connect(house, login) as conn:
            assert conn.execute("select 2").fetchone() == (2,)
            assert states(house) == {old_session: "open", session_of(house, conn): "open"}
        intact(house)
        running = pool.submit(working.execute, LONG)
        for _ in until(5, 0.1):
            working.cancel()
            if running.done():
                break
        with pytest.raises(psycopg.errors.QueryCanceled):  # by the door of the new one
            running.result(5)
        done = daypass(house, "session", "kill", old_session, "--reason", "enough")
        assert done.returncode == 0, done.stderr
        with pytest.raises(psycopg.OperationalError, match="enough"):
            working.execute("select 1")
    assert old.wait(10) == 0
    assert house.http("/readyz")[0] == 200
    assert states(house)[old_session] == "sealed"
    intact(house)


@pytest.mark.slow
def test_every_worker_heeds_its_supervisor_and_no_signal(make_house: Callable[..., House]) -> None:
    """A service manager may signal all processes of the service at once: that is one SIGTERM, not two."""
    house = make_house(workers=2, drain_timeout="60s").start()
    login = house.grant()
    with ExitStack() as stack:
        both = on_both(house, login, stack)
        reads = len([line for line in house.log() if line["event"] == "policies_loaded"])
        good = (house.folder / "tls" / "cert.pem").read_bytes()
        (house.folder / "tls" / "cert.pem").write_bytes(b"no certificate")
        house.write_policy("reader", "name: reader\n")
        assert house.process is not None
        house.process.send_signal(signal.SIGHUP)
        for worker in (1, 2):
            house.wait_log("certificate_unusable", worker=worker)
            house.wait_log("policy_broken", worker=worker)
        assert len([line for line in house.log() if line["event"] == "policies_loaded"]) == reads + 2
        for _ in range(4):
            with psycopg.connect(house.dsn(login, sslmode="require")) as conn:
                assert conn.execute("select count(*) from orders").fetchone() == (200,)
        (house.folder / "tls" / "cert.pem").write_bytes(good)
        for pid in [*pids(house).values(), house.process.pid]:
            os.kill(pid, signal.SIGTERM)
        house.wait_log("draining", workers=2)
        for conns in both.values():
            assert conns[0].execute("select 1").fetchone() == (1,)
        with pytest.raises(OSError):
            Raw(house.port)
        with pytest.raises(OSError):
            house.http("/readyz")
        began = time.monotonic()
        house.process.send_signal(signal.SIGTERM)
        assert house.process.wait(10) == 0
        assert time.monotonic() - began < 5
        for conns in both.values():
            with pytest.raises(psycopg.OperationalError, match="shutting down"):
                conns[0].execute("select 1")
    ends = [line["reason"] for line in house.lines() if line["event"] == "session.end"]
    assert ends.count("shutdown") == sum(map(len, both.values()))
    intact(house)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["certificate", "port", "metrics port", "shared port"])
def test_a_start_that_fails_fails_as_a_whole(make_house: Callable[..., House], what: str) -> None:
    with contextlib.closing(socket.socket()) as other:
        if what == "shared port":
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        house = make_house(workers=2)
        tls = {"mode": "allow", "cert": "tls/cert.pem", "key": "tls/key.pem"}
        if what == "certificate":
            (house.folder / "tls" / "cert.pem").write_bytes(b"no certificate")
        elif what == "metrics port":
            house.configure(workers=2, metrics={"host": "127.0.0.1", "port": port})
        else:
            house.configure(workers=2, listen={"host": "127.0.0.1", "port": port, "tls": tls})
        done = daypass(house, "serve")
        assert done.returncode == (2 if what == "certificate" else 3), done.stdout
        assert '"event": "ready"' not in done.stdout
        events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
        assert {"certificate_unusable", "cannot_serve"} & set(events)
