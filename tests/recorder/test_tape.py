"""Places in a recording, held against reading it from its beginning."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from recorder import tape, timeline
from recorder.events import Cancel, Event, Notice
from recorder.journal import Recorder
from recorder.tape import Tape
from tests.recorder.support import START, Ticker, end, outcome, start, statement


def record(folder: Path, count: int = 300) -> Path:
    clock = Ticker(step=0)
    recorder = Recorder(folder, now=clock)
    recording = recorder.open("s-1", start())
    for n in range(1, count + 1):
        clock.at += timedelta(seconds=1)
        refused = n % 50 == 0
        verdict, rule = ("deny", "table") if refused else ("allow", None)
        recording.append(statement(n, f'select {n} as Word{n}, \'"verdict":"deny"\'', verdict=verdict, rule=rule))
        recording.append(outcome(n))
    recording.append(Cancel())
    recording.close(end(count))
    recorder.close()
    return recording.path


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "STEP", 8)


@pytest.mark.usefixtures("small_steps")
def test_every_place(tmp_path: Path) -> None:
    path = record(tmp_path)
    everything = list(timeline.read(path))
    played = Tape(path)
    assert played.length == len(everything) == 603
    assert played.seconds == everything[-1].offset == 300
    for at in [0, 1, 7, 8, 9, 100, 601, 602]:
        assert [entry for _, entry in played.entries(at)] == everything[at:]
        assert [number for number, _ in played.entries(at)] == list(range(at, 603))
    assert list(played.entries(603)) == []
    assert list(played.entries(-1)) == []


@pytest.mark.usefixtures("small_steps")
def test_damage_moves_no_place(tmp_path: Path) -> None:
    path = record(tmp_path, 60)
    chance = random.Random(3)
    lines = path.read_bytes().splitlines(keepends=True)
    for _ in range(15):
        at = chance.randrange(1, len(lines))
        bad = [b"nonsense\n", lines[at][:200] + b"\n", lines[at].replace(b'"at":"2026', b'"at":"year'), b"\xff\n"]
        lines[at] = chance.choice(bad)
    path.write_bytes(b"".join(lines) + b'{"seq":1')
    played = Tape(path)
    everything = list(played.entries(0))
    assert [entry.event for _, entry in everything] == [entry.event for entry in timeline.read(path)]
    for at in range(played.length):
        assert [number for number, _ in played.entries(at)] == [number for number, _ in everything if number >= at]


@pytest.mark.usefixtures("small_steps")
def test_times_and_places(tmp_path: Path) -> None:
    played = Tape(record(tmp_path))
    assert played.at_time(0) == 0
    assert played.at_time(1) == 1  # both lines of a statement have one time here
    assert played.at_time(0.5) == 1
    assert played.at_time(150) == 299
    assert played.at_time(1e9) == 602
    assert played.find("#300") == played.find("300") == 299
    assert played.find("#9999") == 602
    assert played.find("0") == 0
    assert played.find("2:30") == played.find("150s") == played.find("0:02:30") == played.find("2.5m") == 299
    assert played.find((START + timedelta(seconds=150)).isoformat()) == 299
    assert played.find("2026-11-23T09:02:30") == 299
    assert played.find("2020-01-01") == 0
    with pytest.raises(ValueError, match="'soon' is no place; write 1:30, 90s, #12 or"):
        played.find("soon")


def test_marks(tmp_path: Path) -> None:
    played = Tape(record(tmp_path, 120))
    assert played.refusals == 2  # text that looks like a refusal is none
    assert played.next_refusal(-1) == 99
    assert played.next_refusal(99) == 199
    assert played.next_refusal(199) is None
    assert played.next_mark(199) == 241  # the cancel
    assert played.next_mark(241) == 242  # the end
    assert played.next_mark(242) is None
    assert played.mark_before(241) == 199
    assert played.mark_before(99) is None


def test_errors_and_notices_are_marks(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start())
    scene: list[Event] = [
        statement(1),
        Notice(severity="NOTICE", sqlstate="00000", text="x"),
        outcome(1).__class__(n=1, rows=0, bytes=0, ms=1, sqlstate="42601"),
        statement(2, 'select \',"sqlstate":"\''),
        outcome(2),
    ]
    for event in scene:
        recording.append(event)
    recorder.close()
    played = Tape(recording.path)
    assert (played.next_mark(-1), played.next_mark(2)) == (2, 3)
    assert played.next_mark(3) is None
    assert played.length == 6


def test_search(tmp_path: Path) -> None:
    played = Tape(record(tmp_path, 120))
    assert played.search("WORD7 ", -1) is None
    assert played.search("word7,", -1) == 13
    assert played.search("word7,", 13) == 13  # round again
    assert played.search("client", 0) == 242
    assert played.search("word", 1) == 3


def test_nothing_to_play(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    played = Tape(path)
    assert (played.length, played.seconds, list(played.entries(0)), played.at_time(3), played.find("5s")) == (
        0, 0.0, [], 0, 0,
    )  # fmt: skip
    assert played.search("x", -1) is None
