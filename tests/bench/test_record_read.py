"""The figures of reading are taken of what they say: a small run of each."""

from __future__ import annotations

from pathlib import Path

from tests.bench.record_read import QUERIES, searching, seeking


def test_seeking(tmp_path: Path) -> None:
    figures = list(seeking(tmp_path, 600))
    assert figures[0][0] == "replay, opening 602 events"
    assert 0 < figures[1][1] <= figures[2][1]


def test_searching(tmp_path: Path) -> None:
    figures = list(searching(tmp_path, 400, each=100))
    assert [unit for _, _, unit in figures] == ["statements/s", "B/statement"] + ["ms"] * len(QUERIES)
    assert figures[2][0].startswith("search of 400:")
