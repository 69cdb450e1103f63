"""The vendor's client on a real server without a proxy: what it shows is what psql shows."""

from __future__ import annotations

import shutil
import subprocess

from proxy.demo.client import table
from proxy.demo.postgres import PostgresServer

QUERY = "select 1 as number, 'abc' as text, null as nothing, 12.50 as money union all select 22222, 'd', 'x', 3"


def test_the_layout_is_psqls(pg: PostgresServer) -> None:
    rows = [["1", "abc", "", "12.50"], ["22222", "d", "x", "3"]]
    mine = table(["number", "text", "nothing", "money"], rows, [True, False, False, True])
    psql = pg.bindir / "psql" if (pg.bindir / "psql").exists() else shutil.which("psql")
    said = subprocess.run([str(psql), "-X", pg.dsn(), "-c", QUERY], capture_output=True, text=True, check=True).stdout
    assert [line.rstrip() for line in mine.splitlines()] == [
        line.rstrip() for line in said.splitlines() if line.strip()
    ]


def test_one_row_is_one_row() -> None:
    assert table(["n"], [["1"]], [True]).endswith("(1 row)")
    assert table(["n"], [], [True]).splitlines() == [" n", "---", "(0 rows)"]
