"""A real server, left to itself for two minutes: one digest, an index that is warm, a checkpoint in the state."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from recorder import search, treelog
from recorder.search import Query
from tests.live.house import House, until


@pytest.mark.slow
def test_what_a_server_does_by_itself(make_house: Callable[..., House]) -> None:
    begun = datetime.now(UTC)
    due = (begun + timedelta(seconds=75)).replace(second=0, microsecond=0)
    out = "cat >> digests.jsonl"
    house = make_house(
        workers=2,
        notify={"file": {"command": ["/bin/sh", "-c", f"cd {{folder}} && {out}"], "events": []}},
        digests={"shop": {"every": "day", "at": f"{due:%H:%M}", "to": ["file"], "databases": ["shop"]}},
    )
    config = house.folder / "config.yaml"
    config.write_text(config.read_text().replace("{folder}", str(house.folder)))
    house.start()
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as conn:
        conn.execute("select 'hush-hush' from orders limit 3")
        with pytest.raises(psycopg.Error):
            conn.execute("select * from hidden where x = 'hush-hush'")
        told = house.folder / "digests.jsonl"
        for _ in until((due - begun).total_seconds() + 90, 0.5):
            if told.exists() and told.read_text().endswith("\n"):
                break
        for _ in until(12, 1.0):
            pass  # nothing comes after it
    (digest,) = [json.loads(line) for line in told.read_text().splitlines()]
    assert (digest["action"], digest["detail"]["digest"]) == ("digest.made", "shop")
    assert digest["digest"]["statements"] == 2
    assert digest["digest"]["refused"] == 1
    assert "hush-hush" not in told.read_text()
    recordings = house.folder / "recordings"
    assert len(search.search(recordings, Query(text='"hush-hush"')).hits) == 2, "nobody has searched before"
    with sqlite3.connect(house.folder / "state.db") as state:
        (note,) = state.execute("select value from facts where name like 'witness.%'").fetchone()
    state.close()
    assert f"daypass/node/{treelog.maker(recordings)}" in note
    assert house.stop() == 0
