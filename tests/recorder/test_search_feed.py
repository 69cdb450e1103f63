"""Filling the index: nothing missing and nothing twice, however the recordings grow."""

from __future__ import annotations

import random
import stat
from pathlib import Path
from typing import Any

import pytest

from recorder import files, search, search_feed, search_store
from recorder.events import Cancel
from recorder.journal import Recorder, Recording
from recorder.search import Query
from recorder.search_store import SearchIndexError
from tests.recorder.support import Ticker, end, outcome, play, sealed, start, statement


def everything(folder: Path, **asked: Any) -> list[dict[str, Any]]:
    hits = search.search(folder, Query(limit=10_000, **asked)).to_dict()["hits"]
    return list(hits)


def found(folder: Path, **asked: Any) -> list[tuple[str, int]]:
    return [(hit["session"], hit["n"]) for hit in everything(folder, **asked)]


def test_however_the_recordings_grow_it_is_as_if_built_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_feed, "BATCH", 7)
    chance = random.Random(5)
    recorder = Recorder(tmp_path, now=Ticker(step=0))  # all in one microsecond: each needs a number of its own
    open_: dict[str, tuple[Recording, int, list[int]]] = {}
    for step in range(400):
        what = chance.random()
        if what < 0.06 or not open_:
            session = f"s-{step:03}"
            open_[session] = (recorder.open(session, start(session)), 0, [])
            continue
        session = chance.choice(sorted(open_))
        recording, n, running = open_[session]
        if what < 0.5:
            recording.append(
                statement(n + 1, f"select {step % 9} from t", verdict="deny" if step % 7 == 0 else "allow")
            )
            running.append(n + 1)
            open_[session] = (recording, n + 1, running)
        elif what < 0.8 and running:
            recording.append(outcome(running.pop(0), rows=10 ** chance.randrange(5)))
        elif what < 0.83:
            recording.append(Cancel())
        elif what < 0.88:
            recording.close(end(n))
            del open_[session]
        if chance.random() < 0.1:
            recorder.flush_all()
            assert search_feed.update(tmp_path)
    recorder.close()
    search_feed.update(tmp_path)

    def answers() -> list[Any]:
        asked: list[dict[str, Any]] = [
            {}, {"text": "select AND 3"}, {"verdict": "deny"}, {"min_rows": 100}, {"min_rows": 1},
            {"text": "t NOT deny"},
        ]  # fmt: skip
        return [
            sorted((hit["session"], hit["n"], hit["verdict"], str(hit["rows"])) for hit in everything(tmp_path, **one))
            for one in asked
        ]

    grown = answers()
    assert len(grown[0]) > 100
    assert 0 < len(grown[3]) < len(grown[4]) < len(grown[0])
    search_feed.rebuild(tmp_path)
    assert answers() == grown


def test_a_running_statement_is_found_and_its_result_follows(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start())
    recording.append(statement(1, "select pg_sleep(9)"))
    recording.flush()
    search_feed.update(tmp_path)
    (hit,) = everything(tmp_path, text="pg_sleep")
    assert hit["rows"] is None
    assert found(tmp_path, min_rows=1) == []
    recording.append(outcome(1, rows=1234))
    recording.flush()
    search_feed.update(tmp_path)
    (hit,) = everything(tmp_path, text="pg_sleep", min_rows=1234)
    assert (hit["rows"], hit["ms"]) == (1234, 1.5)
    assert found(tmp_path, min_rows=1235) == []
    recorder.close()


def test_a_half_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        search_feed.update(tmp_path)
    path.write_bytes(whole)
    search_feed.update(tmp_path)
    assert found(tmp_path) == [("s-1", 2), ("s-1", 1)]


def test_what_is_gone_is_found_no_more(tmp_path: Path) -> None:
    one, _ = sealed(tmp_path, "s-1", "s-2")
    search_feed.update(tmp_path)
    one.unlink()
    search_feed.update(tmp_path)
    assert found(tmp_path) == [("s-2", 2), ("s-2", 1)]
    assert found(tmp_path, text="select") == [("s-2", 2), ("s-2", 1)]


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [
        (0, b'"session":"s-1"', b'"person":"\xff","session":"s-1"'),
        (1, b'"seq":2', b'"seq":' + b"9" * 5000),
        (1, b'"seq":2', b'"seq":' + b"9" * 30),
        (1, b'"n":1', b'"n":' + b"9" * 19),
        (2, b'"n":1,"rows":1', b'"n":1,"rows":' + b"9" * 19),
    ],
)
def test_no_line_keeps_others_from_being_found(tmp_path: Path, number: int, before: bytes, after: bytes) -> None:
    one, _ = sealed(tmp_path, "s-1", "s-2")
    lines = one.read_bytes().splitlines(keepends=True)
    assert before in lines[number]
    lines[number] = lines[number].replace(before, after)
    one.write_bytes(b"".join(lines))
    assert search_feed.update(tmp_path)
    assert {("s-1", 2), ("s-2", 1), ("s-2", 2)} <= set(found(tmp_path))


def test_damage_stops_nothing(tmp_path: Path) -> None:
    one, two, three = sealed(tmp_path, "s-1", "s-2", "s-3")
    lines = one.read_bytes().splitlines(keepends=True)
    one.write_bytes(
        b"\xff\n" + lines[0] + b'{"seq":2,"at":"yesterday","prev":"","event":"statement"}\n' + b"".join(lines[1:])
    )
    two.chmod(0)
    three.write_bytes(b"")
    search_feed.update(tmp_path)
    assert {session for session, _ in found(tmp_path)} >= {"s-1"}
    assert len([session for session, _ in found(tmp_path) if session == "s-1"]) == 2


def test_only_one_fills_it(tmp_path: Path) -> None:
    sealed(tmp_path)
    with search_store.filling(search_store.place(tmp_path), patience=0) as ours:
        assert ours
        assert not search_feed.update(tmp_path)
    assert search_feed.update(tmp_path)


def test_it_is_private_and_verify_does_not_mind_it(tmp_path: Path) -> None:
    from recorder.verify import verify

    sealed(tmp_path)
    search_feed.update(tmp_path)
    for path in (tmp_path / ".index").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / ".index").stat().st_mode) == 0o700
    assert verify(tmp_path).ok
    assert files.session_files(tmp_path) == ["2026/11/s-1.jsonl"]


def test_an_index_is_not_replaced_under_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(tmp_path)
    search_feed.update(tmp_path)
    path = search_store.place(tmp_path)
    with search_store.asking(path), search_store.asking(path):
        monkeypatch.setattr(search_store, "PATIENCE", 0.01)
        with pytest.raises(SearchIndexError, match="is being searched"):
            search_feed.rebuild(tmp_path)
        assert len(found(tmp_path)) == 2
    assert search_feed.rebuild(tmp_path).statements == 2
    assert len(found(tmp_path)) == 2
    recorder = Recorder(tmp_path, now=Ticker())
    play(recorder, "s-2").close(end())
    recorder.close()
    search_feed.update(tmp_path)
    assert len(found(tmp_path)) == 4


def test_huge_statements_are_not_held_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_feed, "HELD", 1000)
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start())
    for n in range(1, 20):
        recording.append(statement(n, f"select {n}, '{'x ' * 300}'"))
        recording.append(outcome(n))
    recorder.close()
    batches: list[int] = []
    search_feed.update(tmp_path, progress=lambda statements, _: batches.append(statements))
    assert len(batches) > 9
    hits = everything(tmp_path, text="select")
    assert [hit["n"] for hit in hits] == list(range(19, 0, -1))
    assert all(hit["rows"] == 1 for hit in hits)
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-2", start())
    recording.append(statement(1, "select '" + "y" * 5000 + " tail_word'"))
    recorder.close()
    search_feed.update(tmp_path)
    (hit,) = everything(tmp_path, text="tail_word")
    assert (len(hit["sql"]), hit["cut"]) == (1000, True)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    sealed(tmp_path)
    (tmp_path / ".index").write_text("in the way")
    with pytest.raises((SearchIndexError, OSError)):
        search_feed.update(tmp_path)
    assert search_feed.update(tmp_path, path=tmp_path / "elsewhere" / "x.db")
