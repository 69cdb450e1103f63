"""recorder.show_search: results for people."""

import io
from pathlib import Path

from rich.console import Console

from recorder import search, search_feed, show_search
from recorder.events import Outcome
from recorder.journal import Recorder
from recorder.search import Query
from tests.recorder.support import Ticker, start, statement


def shown(folder: Path, **console: object) -> str:
    out = io.StringIO()
    show_search.page(Console(file=out, **console), search.search(folder, Query()))  # type: ignore[arg-type]
    return out.getvalue()


def test_a_page(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start())
    recording.append(statement(1, "select *\n  from t where x = '\x1b[2J'"))
    recording.append(Outcome(n=1, rows=12345, bytes=1, ms=1, sqlstate=None))
    recording.append(statement(2, "drop table " + "x" * 3000, verdict="deny", rule="statement"))
    recorder.close()
    search_feed.update(tmp_path)
    lines = [line.rstrip() for line in shown(tmp_path, width=40).splitlines()]
    assert lines[0].split() == ["TIME", "SESSION", "PERSON", "N", "VERDICT", "ROWS", "STATEMENT"]
    assert lines[1].startswith("2026-11-23 09:00:01Z  s-1      jane    2  deny statement")
    assert lines[1].endswith("xxx …")
    assert lines[2].endswith(r"allow           12,345  select * from t where x = '\x1b[2J'")
    narrow = shown(tmp_path, width=80, force_terminal=True, color_system=None)
    assert r"    select * from t where x = '\x1b[2J'" in narrow
    assert max(map(len, narrow.splitlines())) <= 80
