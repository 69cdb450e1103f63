"""Killed at every step of a whole life: the next process finishes it, nothing is lost, and the end is the same.

Once as an exception at each boundary (before a record, between record and commit, after a commit), and in the long mode
as a process that is gone at it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.access import tables
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.config import Config, load
from recorder.verify import verify
from tests.access.life import CONFIG, LIFE, Bomb, MortalStore, end_state, live_on
from tests.access.wishes import Told


class Killed(BaseException):
    """Nobody catches it."""


def boom() -> None:
    raise Killed


def whole_and_in_order(actions: list[str]) -> bool:
    """The life, with at most one place at which what was recorded and not committed (up to four records of one
    transaction) was recorded once more."""
    return any(actions == LIFE[: at + again] + LIFE[at:] for again in range(5) for at in range(len(LIFE) - again + 1))


async def wipe(store: Store) -> None:
    async with store.write() as connection:
        for table in tables.metadata.sorted_tables:
            if table is not tables.installation:
                await connection.execute(sa.delete(table))


async def live(store: MortalStore, clock: FakeClock, told: Told, bomb: Bomb, config: Config) -> None:
    """One process's part of a life."""

    def until(moment: datetime) -> None:
        if (left := (moment - clock.now()).total_seconds()) > 0:
            clock.advance(left)

    store.bomb = bomb
    try:
        await live_on(store, clock, bomb.around(told), config, until)
    finally:
        store.bomb = None


async def test_as_an_exception_at_every_boundary(url: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    config = load(tmp_path / "config.yaml")
    store = await MortalStore.open(url)
    whole = Bomb(0, boom)
    told = Told()
    await live(store, FakeClock(), told, whole, config)
    wanted = await end_state(store)
    assert told.actions() == wanted["steps"] == LIFE
    assert whole.count >= 2 * len(LIFE) + 10, "two for each record, and one for each transaction"
    for at in range(1, whole.count + 1):
        await wipe(store)
        clock, told = FakeClock(), Told()
        with pytest.raises(Killed):
            await live(store, clock, told, Bomb(at, boom), config)
        await live(store, clock, told, Bomb(0, boom), config)
        assert await end_state(store) == wanted, f"killed at boundary {at}"
        assert whole_and_in_order(told.actions()), f"killed at boundary {at}: {told.actions()}"
    await store.close()


@pytest.mark.slow
async def test_as_a_process_at_every_boundary(url: str, tmp_path: Path, store: Store) -> None:
    def run(folder: Path, at: int) -> subprocess.CompletedProcess[str]:
        words = [url, str(folder / "recordings"), str(folder / "clock"), str(at)]
        return subprocess.run(
            [sys.executable, "-m", "tests.access.life", *words], capture_output=True, text=True, check=False, timeout=60
        )

    def begin(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(CONFIG)
        (folder / "clock").write_text("2026-01-05T09:00:00+00:00")
        return folder

    whole = run(begin("whole"), 0)
    assert whole.returncode == 0, whole.stderr
    wanted = await end_state(store)
    for at in range(1, int(whole.stdout.split()[-1]) + 1):
        await wipe(store)
        folder = begin(f"at{at}")
        assert run(folder, at).returncode == 9
        again = run(folder, 0)
        assert again.returncode == 0, again.stderr
        assert await end_state(store) == wanted, f"killed at boundary {at}"
        lines = (folder / "recordings" / "installation.jsonl").read_text().splitlines()
        actions = [event["action"] for event in map(json.loads, lines) if event["event"] in {"grant", "access"}]
        assert whole_and_in_order(actions), f"killed at boundary {at}: {actions}"
        assert verify(folder / "recordings").ok
