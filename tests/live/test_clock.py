"""A machine that starts with a clock in the past: nobody gets in until an operator says that it is right.

The clock of the machine cannot be set by a test; the state says instead that it has been later.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from proxy.access.store import Store
from proxy.access.timekeeping import TimeFacts
from proxy.clock import SystemClock
from tests.live.house import House, until


def daypass(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    return house.run(*words)


def it_has_been(house: House, later: timedelta) -> None:
    async def keep() -> None:
        store = await Store.open(f"sqlite:///{house.folder / 'state.db'}")
        try:
            await TimeFacts(store, SystemClock(), lambda _a, _d: None).keep(datetime.now(UTC) + later, 0.0, "before")
        finally:
            await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(keep()))
    thread.start()
    thread.join()


def steps(house: House) -> list[dict[str, object]]:
    found = []
    for path in (house.folder / "recordings").rglob("*.jsonl"):
        found += [json.loads(line) for line in path.read_text().splitlines() if "clock" in line]
    return [line for line in found if line["event"] == "access"]


def test_a_clock_in_the_past_pauses_logins_until_it_is_accepted(make_house: Callable[..., House]) -> None:
    house = make_house()
    it_has_been(house, timedelta(days=2))
    login = house.grant(seconds=5 * 86_400)
    house.start()
    assert house.wait_log("clock_stepped")["seconds"] == pytest.approx(-2 * 86_400, abs=30)
    with pytest.raises(psycopg.OperationalError, match=r"57P03|the clock of this machine has been set"):
        psycopg.connect(house.dsn(login))
    status, text = house.http("/readyz")
    assert status == 503
    assert "clock" in text
    assert "daypass_clock_apart_seconds 172" in house.http("/metrics")[1]
    for _ in until(5):
        if steps(house):
            break
    assert steps(house)[0]["action"] == "alert.clock"

    shown = daypass(house, "clock", "show", "-o", "json")
    assert shown.returncode == 1
    assert "it is behind" in json.loads(shown.stdout)["problem"]
    doctor = json.loads(daypass(house, "doctor", "-o", "json").stdout)
    clock = next(check for check in doctor["checks"] if check["what"] == "clock")
    assert clock["level"] == "fail"
    assert "daypass clock accept" in clock["todo"]
    refused = daypass(house, "grant", "create", "--person", "jo", "--vendor", "Acme", "--database", "shop", "--policy",
                      "reader", "--for", "1h", "--reason", "x")  # fmt: skip
    assert refused.returncode == 2
    assert "daypass clock accept" in refused.stderr

    accepted = daypass(house, "clock", "accept", "--reason", "the time server was wrong", "--by", "olga", "-o", "json")
    assert accepted.returncode == 0, accepted.stderr
    house.wait_log("clock_accepted")
    with psycopg.connect(house.dsn(login)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    assert house.http("/readyz")[0] == 200
    assert daypass(house, "clock", "show").returncode == 0
    assert [step["action"] for step in steps(house)] == ["alert.clock", "clock.accepted"]
    assert steps(house)[1]["by"] == "olga"
