"""The process: ready, healthy, metrics, draining, signals, one folder for one server.

Covers proxy/app.py, proxy/cli/serve.py, proxy/server/server.py, proxy/server/health.py, proxy/server/metrics.py
and proxy/server/watch.py.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psycopg
import pytest

from proxy.wire import build
from tests.live.house import House
from tests.live.raw import Raw


def test_ready_means_ready(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    ready = house.wait_log("ready")
    assert ready["databases"] == {"shop": True}
    assert house.http("/readyz") == (200, "ready\n")
    assert house.http("/healthz") == (200, "ok\n")
    assert house.http("/elsewhere")[0] == 404
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as conn:
        conn.execute("select 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("delete from orders")
        status, page = house.http("/metrics")
    assert status == 200
    for line in (
        "daypass_sessions 1.0",
        "daypass_statements_total 2.0",
        'daypass_denied_total{rule="write"} 1.0',
        'daypass_logins_total{outcome="ok"} 1.0',
        'daypass_database_known{database="shop"} 1.0',
        "daypass_recording_healthy 1.0",
    ):
        assert line in page


def test_sigterm_without_sessions_ends_at_once(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    began = time.monotonic()
    assert house.stop() == 0
    assert time.monotonic() - began < 3


def test_sigterm_drains_then_ends_what_is_left(make_house: Callable[..., House]) -> None:
    house = make_house(drain_timeout="2s").start()
    login = house.grant()
    assert house.process is not None
    with Raw(house.port).login(login) as leaving, Raw(house.port).login(login) as staying:
        house.process.send_signal(signal.SIGTERM)
        house.wait_log("draining")
        with pytest.raises(OSError):
            house.http("/readyz")
        leaving.send(build.query(b"select 1"))
        assert leaving.until("Z")[-1][0] == "Z", "open sessions go on while it drains"
        leaving.send(build.TERMINATE)
        with pytest.raises(OSError):
            Raw(house.port)
        said = staying.until("E")[-1]
        assert b"57P01" in said[1]
        assert b"shutting down" in said[1]
        assert house.process.wait(5) == 0
    reasons = sorted(line["reason"] for line in house.lines() if line["event"] == "session.end")
    assert reasons == ["client", "shutdown"]


def test_a_second_sigterm_does_not_wait(make_house: Callable[..., House]) -> None:
    house = make_house(drain_timeout="60s").start()
    assert house.process is not None
    with Raw(house.port).login(house.grant()) as session:
        house.process.send_signal(signal.SIGTERM)
        house.wait_log("draining")
        house.process.send_signal(signal.SIGTERM)
        assert house.process.wait(5) == 0
        assert b"57P01" in session.until("E")[-1][1]


def test_a_second_server_on_the_same_folder_refuses(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    second = house.run("serve", timeout=20)
    assert second.returncode == 3
    assert "in use" in second.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": {"prot": 1}}, "prot"),
        ({"recording": {"results": "all"}}, "results"),
        ({"listen": {"tls": {"mode": "require", "cert": "nowhere.pem", "key": "tls/key.pem"}}}, "nowhere.pem"),
    ],
)
def test_configuration_mistakes_end_with_file_line_and_key(
    make_house: Callable[..., House], change: dict[str, object], words: str
) -> None:
    house = make_house(**change)
    done = house.run("serve", timeout=20)
    assert done.returncode == 2
    assert words in done.stdout
    assert "config.yaml" in done.stdout


def test_a_recording_that_a_crash_left_open_is_reported_at_the_next_start(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    with Raw(house.port).login(house.grant()) as session:
        session.send(build.query(b"select 1"))
        session.until("Z")
        house.stop(signal.SIGKILL)
    house.start()
    assert house.wait_log("recording_recovered")
    done = house.run("recording", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "interrupted" in done.stdout
