"""kill -9 of the proxy at random points under load: what Postgres executed stands in the recordings, none is damaged.

Sixteen sessions never stop asking, by both protocols; texts are unique, so that each line of Postgres's log has one
place where it must stand in the record. A point is a number of the seed's, so that 200 of them can be tried in pieces,
each in a folder of its own that is verified: `python -m tests.faults --seed N --points 50 --from 150 -k kill_9`.
tests/faults/test_record.py has one such kill for every run of the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.faults.conftest import Figure
from tests.faults.equality import ServerLog, events_of
from tests.faults.scale import FIRST, KILLS, SEED
from tests.live.house import House

SESSIONS = 16
POINTS = range(FIRST, FIRST + KILLS)


async def busy(house: House, login: tuple[str, str], name: str, ran: list[str]) -> None:
    """A session that never stops asking."""
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        conn: Any = await asyncpg.connect(
            host="127.0.0.1", port=house.port, user=login[0], password=login[1], database="shop", timeout=10
        )
        try:
            step = 0
            while True:
                step += 1
                await conn.execute(f"select {step} as slain_{name}_{step}")
                await conn.fetchval(f"select $1::int as slain_{name}_{step}_x", step)
                await conn.execute(f"select 1 as slain_{name}_{step}_y; select 2 as slain_{name}_{step}_z")
                ran.append(name)
        finally:
            conn.terminate()


async def killed(house: House, login: tuple[str, str], point: int, delay: float) -> int:
    """Load, and kill -9 `delay` seconds after the first statement; returns how many rounds the sessions did."""
    ran: list[str] = []
    tasks = [asyncio.ensure_future(busy(house, login, f"{point}_{number}", ran)) for number in range(SESSIONS)]
    for _ in range(1_000):
        await asyncio.sleep(0.01)
        if ran:
            break
    await asyncio.sleep(delay)
    assert house.process is not None
    house.process.kill()
    house.process.wait()
    house.process = None
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(ran)


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["write", "fsync"])
def test_kill_9_at_random_points_loses_nothing(
    make_house: Callable[..., House], figure: Figure, durability: str
) -> None:
    house = make_house(recording={"durability": durability}).start()
    login = house.grant()
    log = ServerLog(house.pg)
    statements = rounds = 0
    read: set[str] = set()
    for point in POINTS:
        rounds += asyncio.run(killed(house, login, point, random.Random(f"{SEED}/{point}").random() * 0.4))
        ran = [line.text for lines in log.settled(house.role).values() for line in lines if "slain_" in line.text]
        recorded: set[str] = set()
        for path in house.recordings():
            if path.name not in read:
                read.add(path.name)
                recorded |= {event["sql"] for event in events_of(path) if event["event"] == "statement"}
        lost = [text for text in ran if not set(text.split("; ")) <= recorded]
        assert not lost, (point, lost[:3])
        statements += len(ran)
        house.start()
    assert statements > KILLS * 2  # a session did its round before each of them
    said = subprocess.run(
        [
            *(sys.executable, "-m", "proxy.cli.main", "-c", str(house.folder / "config.yaml")),
            *("recording", "verify", "-o", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    states = [recording["state"] for recording in json.loads(said.stdout)["recordings"]]
    assert said.returncode == 0, said.stdout[-2000:]
    assert states.count("interrupted") >= KILLS
    assert states.count("damaged") == 0
    figure(
        f"kill -9 of the proxy, {SESSIONS} busy sessions, {durability}",
        f"{KILLS} random points, {statements:,} statements executed, {states.count('interrupted'):,} recordings cut",
        "0 lost, 0 damaged",
        "0",
    )
