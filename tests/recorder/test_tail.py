"""The live end joins the history: whatever is written when, every line comes once and in order."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder import files, tail
from recorder.journal import Recorder
from recorder.tail import follow
from tests.recorder.support import Ticker, end, outcome, play, sealed, start, statement


def never(_: float) -> None:
    raise AssertionError("nothing is waited for")


def test_a_finished_one_is_its_history(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    assert list(follow(path, never)) == path.read_bytes().splitlines()


@pytest.mark.parametrize("seed", range(20))
def test_no_gap_and_no_double(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the reader looks, the writer has done something: lines, halves of lines, its end, its seal, and the
    stored form that takes the file's place."""
    monkeypatch.setattr(tail, "_BLOCK", 100)
    chance = random.Random(seed)
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start())
    written = recording.path

    def steps() -> Iterator[None]:
        n = 0
        for _ in range(chance.randrange(5, 40)):
            for _ in range(chance.randrange(4)):
                n += 1
                recording.append(statement(n, f"select {n}, '{'x' * chance.randrange(300)}'"))
                if chance.random() < 0.7:
                    recording.append(outcome(n))
            recording.flush()
            yield
        recording.close(end(n))
        kept.append(written.read_bytes())
        if chance.random() < 0.7:
            written.with_suffix(".jsonl.other").write_bytes(b"another form")
            written.unlink()
        yield

    kept: list[bytes] = []
    writer = steps()
    reader = follow(written, lambda _: next(writer, None))
    lines = []
    for line in reader:
        lines.append(line)
        if chance.random() < 0.3:
            next(writer, None)
    assert lines == kept[0].splitlines()
    recorder.close()


def test_a_writer_that_died(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder, statements=1)
    path = recording.path
    seen = 0

    def die(_: float) -> None:
        nonlocal seen
        seen += 1
        with path.open("ab") as file:
            file.write(b'{"seq":4,"at":"')
        recording.release()

    assert list(follow(path, die)) == path.read_bytes().splitlines()[:3]
    assert seen == 1


def test_what_a_dying_writer_left_is_cut_off_under_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b'{"seq":1}\n{"seq":2,"torn":"' + b"x" * 50)
    writer = os.open(path, os.O_WRONLY | os.O_APPEND)
    assert files.hold(writer)
    last = b'{"seq":2,"at":"2026-01-01T00:00:00Z","prev":"","event":"recovered"}'
    told = False

    def recover(_: float) -> None:
        nonlocal told
        assert not told
        told = True
        os.ftruncate(writer, 10)
        os.write(writer, last + b"\n")

    assert list(follow(path, recover)) == [b'{"seq":1}', last]
    os.close(writer)


def test_one_that_was_just_made(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    looks: list[float] = []
    assert list(follow(path, looks.append)) == []
    assert len(looks) == 5
