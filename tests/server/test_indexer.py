"""proxy/server/indexer.py: the index is warm before anybody searches, at no cost where nothing grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from proxy.clock import FakeClock
from proxy.config import Recording
from proxy.server import aside, indexer
from proxy.server.indexer import Indexer
from recorder import search, search_store
from recorder.aside import Request
from recorder.journal import Recorder
from recorder.search import Query
from tests.recorder.support import Ticker, end, outcome, start, statement


class Asked:
    """Counts what is asked of the other process, which is a real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._ask = aside.ask
        monkeypatch.setattr(aside, "ask", self)

    async def __call__(self, request: Request) -> bytes:
        self.count += 1
        return await self._ask(request)


def found(folder: Path, text: str) -> int:
    return len(search.search(folder, Query(text=text)).hits)


async def test_what_is_sealed_and_what_still_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, clock = Asked(monkeypatch), FakeClock()
    keeping = Indexer(Recording(dir=tmp_path), clock.monotonic)
    await keeping.round()
    assert asked.count == 0, "there is no record yet"
    recorder = Recorder(tmp_path, now=Ticker())
    done, open_ = (recorder.open(name, start(name)) for name in ("s-1", "s-2"))
    for session in (done, open_):
        session.append(statement(1, "select 'early'"))
        session.append(outcome(1))
    done.close(end())
    open_.flush()
    recorder.checkpoint()
    await keeping.round()
    assert found(tmp_path, "early") == 2
    await keeping.round()
    assert asked.count == 1, "nothing grew"
    open_.append(statement(2, "select 'late'"))
    open_.flush()
    recorder.checkpoint()
    await keeping.round()
    assert (asked.count, found(tmp_path, "late")) == (2, 1)
    recorder.close()


async def test_a_long_record_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "MOST", 20)
    asked = Asked(monkeypatch)
    recorder = Recorder(tmp_path, now=Ticker())
    session = recorder.open("s-1", start("s-1"))
    for n in range(1, 51):
        session.append(statement(n, "select 'one'"))
    session.close(end())
    recorder.close()
    keeping = Indexer(Recording(dir=tmp_path), FakeClock().monotonic)
    for _ in range(6):
        await keeping.round()
    assert (asked.count, found(tmp_path, "one")) == (3, 50)


@pytest.mark.parametrize("more", [{"index": "search"}, {"recipients": ["ssh-ed25519 AAAA"]}])
async def test_where_it_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    asked = Asked(monkeypatch)
    recorder = Recorder(tmp_path, now=Ticker())
    recorder.open("s-1", start("s-1")).close(end())
    recorder.close()
    shape: dict[str, Any] = {"dir": tmp_path, "index": "background", "recipients": (), **more}
    await Indexer(Recording.model_construct(None, **shape), FakeClock().monotonic).round()
    assert asked.count == 0
    assert not search_store.place(tmp_path).exists()


async def test_an_error_is_said_and_not_repeated_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    recorder = Recorder(tmp_path, now=Ticker())
    recorder.close()
    (tmp_path / ".index").write_text("no folder")
    keeping = Indexer(Recording(dir=tmp_path), clock.monotonic)
    with structlog.testing.capture_logs() as logs:
        await keeping.round()
        await keeping.round()
    assert [line["event"] for line in logs] == ["index_failed"]
    (tmp_path / ".index").unlink()
    clock.advance(601)
    await keeping.round()
    assert search_store.place(tmp_path).exists()


async def test_a_search_that_fills_it_meanwhile(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    session = recorder.open("s-1", start("s-1"))
    session.append(statement(1, "select 'one'"))
    session.close(end())
    recorder.close()
    keeping = Indexer(Recording(dir=tmp_path), FakeClock().monotonic)
    with search_store.filling(search_store.place(tmp_path), patience=0):
        await keeping.round()
    await keeping.round()
    assert found(tmp_path, "one") == 1
