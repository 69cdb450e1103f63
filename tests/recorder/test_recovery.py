"""Recovery: `kill -9` at any moment leaves recordings that are explained, whole, and never called damaged."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from recorder import files, index, stored
from recorder.chain import Head
from recorder.events import Event
from recorder.journal import Recorder, RecordError
from recorder.nodelog import NodeLog
from recorder.pack import Form, Packer
from recorder.recovery import Finished
from recorder.verify import verify
from tests.recorder.support import Ticker, end, outcome, play, sealed, statement

WRITER = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from recorder.journal import Recorder
from tests.recorder.support import end, outcome, start, statement
recorder = Recorder(Path(sys.argv[1]), now=lambda: datetime.now(UTC))
number = 0
while True:
    number += 1
    recording = recorder.open(f"{os.getpid()}-{number}", start(f"{os.getpid()}-{number}"))
    for n in range(1, 40):
        recording.append(statement(n, f"select {n} /* " + "x" * (n * 400) + " */"))
        recording.flush()
        print(recording.id, n, flush=True)
        recording.append(outcome(n))
    if number % 3:
        recording.close(end())
    recorder.checkpoint()
"""


def crash(recorder: Recorder) -> None:
    """What the system does when a process dies: descriptors and locks go, memory is lost."""
    for recording in recorder._open.values():
        os.close(recording._fd)
        recording._fd = -1
    recorder.waiting.clear()
    recorder._installation.close()
    recorder._node.close()
    recorder.let_go()


def test_a_recording_left_open_is_sealed_as_interrupted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    crash(recorder)
    assert verify(tmp_path).ok
    assert verify(tmp_path).recordings[0].state == "interrupted"
    again = Recorder(tmp_path, now=Ticker())
    assert again.recovered == [Finished("s-1", "2026/11/s-1.jsonl", "interrupted", 6, 0)]
    assert str(again.recovered[0]) == "recording s-1 was left open and is now interrupted: 6 lines"
    again.close()
    last = json.loads(recording.path.read_bytes().splitlines()[-1])
    assert (last["event"], last["seq"]) == ("recovered", 6)
    assert verify(tmp_path).ok
    third = Recorder(tmp_path, now=Ticker())
    assert third.recovered == []
    third.close()


@pytest.mark.parametrize("torn", [b"{", b'{"seq":6,"at":"2026', b"\0" * 4096])
def test_a_torn_tail_is_cut_aside(tmp_path: Path, torn: bytes) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    crash(recorder)
    whole = recording.path.read_bytes()
    recording.path.write_bytes(whole + torn)
    assert verify(tmp_path).ok
    again = Recorder(tmp_path, now=Ticker())
    assert f"{len(torn)} torn bytes cut aside" in str(again.recovered[0])
    again.close()
    assert recording.path.read_bytes().startswith(whole)
    assert recording.path.with_name("s-1.jsonl.torn").read_bytes() == torn + b"\n"
    assert verify(tmp_path).ok


def test_a_session_that_ended_and_was_not_sealed_is_sealed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    recording.append(end())
    recording.flush()
    crash(recorder)
    again = Recorder(tmp_path, now=Ticker())
    assert [finished.state for finished in again.recovered] == ["sealed"]
    again.close()
    assert verify(tmp_path).recordings[0].state == "sealed"


@pytest.mark.parametrize("content", ["empty", "torn", "start"])
def test_a_session_whose_opening_was_cut_short_is_adopted(tmp_path: Path, content: str) -> None:
    (path,) = sealed(tmp_path)
    first = path.read_bytes().splitlines(keepends=True)[0].replace(b'"s-1"', b'"s-2"')
    path.with_name("s-2.jsonl").write_bytes({"empty": b"", "torn": first[:50], "start": first}[content])
    report = verify(tmp_path)
    assert report.ok
    assert {checked.state for checked in report.recordings} == {"sealed", "interrupted", "open"}
    again = Recorder(tmp_path, now=Ticker())
    assert [finished.id for finished in again.recovered] == ["s-2"]
    again.close()
    assert verify(tmp_path).ok


def test_a_planted_recording_is_not_adopted(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    path.with_name("s-2.jsonl").write_bytes(path.read_bytes())
    again = Recorder(tmp_path, now=Ticker())
    assert again.recovered == []
    again.close()
    assert not verify(tmp_path).ok


@pytest.mark.parametrize("packed", [False, True])
def test_the_beginning_of_a_sealed_recording_is_not_adopted_in_its_place(tmp_path: Path, packed: bool) -> None:
    """The log would seal it under the same id, and that seal would stand for the whole one."""
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    recording.close(end())
    recorder.close()
    if packed:
        Packer(tmp_path, Form(), Ticker()).round()
    with stored.reading(recording.path) as lines:
        first = lines.readline()
    stored.locate(recording.path).unlink()
    planted = tmp_path / "2026" / "12" / recording.path.name
    planted.parent.mkdir()
    planted.write_bytes(first)
    again = Recorder(tmp_path, now=Ticker())
    assert again.recovered == []
    again.close()
    kinds = {found.kind for checked in verify(tmp_path).recordings for found in checked.findings}
    assert kinds == {"missing", "unlisted"}
    planted.rename(recording.path)
    Recorder(tmp_path, now=Ticker()).close()
    assert not verify(tmp_path).ok


def test_a_cut_before_the_restart_is_not_laundered_by_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    recorder.checkpoint()
    crash(recorder)
    lines = recording.path.read_bytes().splitlines(keepends=True)
    recording.path.write_bytes(b"".join(lines[:-2]))
    assert [found.kind for found in verify(tmp_path).recordings[0].findings] == ["cut"]
    Recorder(tmp_path, now=Ticker()).close()
    report = verify(tmp_path)
    assert not report.ok
    assert report.recordings[0].state == "damaged"


def test_a_removed_recording_stays_missing_after_a_restart(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    crash(recorder)
    recording.path.unlink()
    Recorder(tmp_path, now=Ticker()).close()
    assert [found.kind for found in verify(tmp_path).recordings[0].findings] == ["missing"]


def test_recovery_that_died_half_way_goes_on(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    crash(recorder)
    with recording.path.open("ab") as file:
        file.write(b"torn")
    Recorder(tmp_path, now=Ticker()).close()
    node = tmp_path / "node.jsonl"
    lines = node.read_bytes().splitlines(keepends=True)
    assert b'"seal"' in lines[-1]
    before = recording.path.read_bytes()
    node.write_bytes(b"".join(lines[:-1]))  # as if it had died before the seal: the head is that of then, too
    (tmp_path / "node.head").unlink()
    again = Recorder(tmp_path, now=Ticker())
    assert recording.path.read_bytes() == before
    again.close()


def test_kill_at_random_points(tmp_path: Path) -> None:
    """A real process writes sessions and is killed; each statement that it said was recorded is there, each time."""
    chance = random.Random(2)
    said: dict[str, int] = {}
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), True)
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.08))
        process.kill()
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        for line in rest.decode().splitlines()[:-1]:  # the last one may be half a line
            id_, _, number = line.partition(" ")
            said[id_] = int(number)
        report = verify(tmp_path)
        assert report.ok, report.to_dict()
    recorder = Recorder(tmp_path, now=Ticker())
    assert recorder.recovered
    recorder.close()
    report = verify(tmp_path)
    assert report.ok, report.to_dict()
    assert {checked.state for checked in report.recordings} == {"sealed", "interrupted", "open"}
    for id_, n in said.items():
        (path,) = tmp_path.glob(f"*/*/{id_}.jsonl")
        seen = {json.loads(line)["n"] for line in path.read_bytes().splitlines() if b'"event":"statement"' in line}
        assert n in seen


def test_statements_after_recovery_go_to_new_recordings(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    play(recorder, "s-1")
    crash(recorder)
    again = Recorder(tmp_path, now=Ticker())
    recording = play(again, "s-2")
    recording.append(statement(3))
    recording.append(outcome(3))
    recording.close(end())
    again.close()
    assert [(c.id, c.state) for c in verify(tmp_path).recordings] == [
        ("s-1", "interrupted"),
        ("s-2", "sealed"),
        ("node", "open"),
    ]


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    """Two processes of one installation, played by two recorders: only the one's recordings are the other's affair."""
    one = Recorder(tmp_path, now=Ticker(), lock=False)
    mine = play(one, "s-1")
    two = Recorder(tmp_path, now=Ticker(), lock=False)
    assert two.recovered == []
    theirs = play(two, "s-2")
    assert {c.id: c.state for c in verify(tmp_path).recordings} == {"s-1": "open", "s-2": "open", "node": "open"}
    assert [session.state for session in index.sessions(tmp_path)] == ["open", "open"]
    assert two.checkpoint() == one.checkpoint() == []
    crash(one)
    assert {c.id: c.state for c in verify(tmp_path).recordings} == {"s-1": "interrupted", "s-2": "open", "node": "open"}
    assert [session.state for session in index.sessions(tmp_path)] == ["interrupted", "open"]
    assert [str(found) for found in two.checkpoint()] == ["recording s-1 was left open and is now interrupted: 6 lines"]
    assert two.checkpoint() == []
    theirs.append(statement(3))
    theirs.append(outcome(3))
    theirs.close(end())
    two.close()
    report = verify(tmp_path)
    assert report.ok, report.to_dict()
    assert {c.id: c.state for c in report.recordings} == {"s-1": "interrupted", "s-2": "sealed", "node": "open"}
    assert json.loads(mine.path.read_bytes().splitlines()[-1])["event"] == "recovered"


def test_a_server_that_let_its_folder_go_finishes_what_it_has_open(tmp_path: Path) -> None:
    old = Recorder(tmp_path, now=Ticker())
    recording = play(old)
    with pytest.raises(RecordError, match="in use"):
        Recorder(tmp_path, now=Ticker())
    old.let_go()
    new = Recorder(tmp_path, now=Ticker())
    assert new.recovered == []
    recording.append(statement(3))
    recording.append(outcome(3))
    recording.close(end())
    old.close()
    with pytest.raises(RecordError, match="in use"):  # closing the old one did not let go for the new one
        Recorder(tmp_path, now=Ticker())
    new.close()
    assert [(c.id, c.state) for c in verify(tmp_path).recordings] == [("s-1", "sealed"), ("node", "open")]


def test_a_recording_is_sealed_before_it_is_let_go(tmp_path: Path) -> None:
    """Else another process could take it for a dead one's between the two."""
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    held: list[bool] = []

    class Watched(NodeLog):
        def append(self, events: Sequence[tuple[datetime, Event]]) -> Head:
            held.append(files.held(recording.path))
            return super().append(events)

    recorder._node.close()
    recorder._node = Watched(tmp_path, sync=False)
    recording.close(end())
    assert held == [True]
    assert not files.held(recording.path)
    recorder.close()
