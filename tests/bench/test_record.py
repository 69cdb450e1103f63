"""The benchmark of the record runs, on little: every figure is there and is a number of its unit."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench.record import FIGURES, Options, Row, report
from tests.bench.record_read import QUERIES

SMALL = Options(count=400, seconds=0.05, mib=1, sessions=(1, 3), events=600, statements=400)


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path) -> None:
    rows = [row for name, figures in FIGURES.items() for row in figures(tmp_path / name, SMALL)]
    units = [row.unit for row in rows]
    assert units == [
        "B",
        "µs",
        "µs",
        *(["statements/s", "syncs/s", "µs"] * 2),
        "ms",
        "ms",
        "MB/s",
        "lines/s",
        *("bytes", "bytes", "MB/s", "MB/s of what it holds"),
        *("s", "ms", "ms", "statements/s", "B/statement"),
        *(["ms"] * len(QUERIES)),
    ]
    assert all(row.figure > 0 for row in rows)
    statements, syncs = (
        next(row.figure for row in rows[6:] if row.unit == unit) for unit in ("statements/s", "syncs/s")
    )
    assert statements > syncs  # three sessions share


def test_the_table_has_a_line_for_each_figure() -> None:
    out = io.StringIO()
    report([Row("one", 1.234, "µs"), Row("two", 123456.0, "B")], Console(file=out, width=80))
    assert [line.split() for line in out.getvalue().splitlines()[1:]] == [
        ["one", "1.23", "µs"],
        ["two", "123,456", "B"],
    ]
