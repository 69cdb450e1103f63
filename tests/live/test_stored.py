"""A server stores, checkpoints and deletes while it serves (proxy/server/watch.py: the round `upkeep`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyrage
import pytest

from tests.live.house import House, until

pytestmark = pytest.mark.slow  # it waits for a round of the server, which comes every 10 s


def daypass(house: House, *words: str | Path) -> Any:
    done = house.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_was_sealed_is_encrypted_and_nobody_is_disturbed(make_house: Callable[..., House]) -> None:
    key = pyrage.x25519.Identity.generate()
    house = make_house(recording={"recipients": [str(key.to_public())]})
    (house.folder / "key.txt").write_text(f"{key}\n")
    house.start()
    login = house.grant()
    with psycopg.connect(house.dsn(login), autocommit=True) as stays:
        for _ in range(3):
            with psycopg.connect(house.dsn(login), autocommit=True) as goes:
                goes.execute("select 'secret text'")
        folder = house.folder / "recordings"
        for _ in until(40, 0.2):
            if len(list(folder.rglob("*.jsonl.zst.age"))) == 3:
                break
        assert len(list(folder.rglob("s-*.jsonl"))) == 1  # the open one
        stays.execute("select 'still here'")
        daypass(house, "recording", "rotate-key")
        stays.execute("select 'and here'")
        report = json.loads(daypass(house, "recording", "verify", "-o", "json"))
        assert sorted(one["state"] for one in report["recordings"] if one["id"].startswith("s-")) == [
            "open",
            *["sealed"] * 3,
        ]
    house.stop()
    assert b"secret text" not in b"".join(path.read_bytes() for path in folder.rglob("*.jsonl*"))
    report = json.loads(daypass(house, "recording", "verify", "--identity", house.folder / "key.txt", "-o", "json"))
    assert report["ok"]
    assert report["log"]["given"] == 1  # the one beside the state
    assert report["log"]["checkpoints"] >= 2
    (one,) = {row["session"] for row in json.loads(daypass(house, "session", "list", "-o", "json"))} - {
        path.name.removesuffix(".jsonl.zst.age") for path in folder.rglob("*.age")
    }
    assert "still here" in daypass(house, "recording", "export", one)
    daypass(house, "recording", "pack")
    assert "still here" in daypass(house, "recording", "export", one, "--identity", house.folder / "key.txt")
