"""The timeline: events in order and in time, also those of a version to come."""

from pathlib import Path

from recorder import timeline
from recorder.events import Outcome, SessionEnd, SessionStart, Statement
from recorder.journal import Recorder
from recorder.timeline import Other
from tests.recorder.support import Ticker, end, play, sealed, statement


def test_events_in_their_time(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path, statements=1)
    entries = list(timeline.read(path))
    assert [type(entry.event) for entry in entries] == [SessionStart, Statement, Outcome, SessionEnd]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert entries[0].offset == 0
    assert 0 < entries[1].offset < entries[2].offset < entries[3].offset


def test_what_it_does_not_know_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(
        b'{"seq":1,"at":"2026-01-01T00:00:10Z","prev":"","event":"weather","rain":true}\n'
        b"nonsense\n"
        b'{"seq":2,"at":"2026-01-01T00:00:00Z","prev":"","event":"cancel","new":1}\n'
        b'{"seq":3,"at":"2026-01-01T00:00:12Z","prev":"","event":"cancel"}\n'
        b'{"seq":4,"at":"2026'
    )
    entries = list(timeline.read(path))
    assert entries[0].event == Other("weather", {"rain": True})
    assert [entry.offset for entry in entries] == [0, 0, 2]  # a clock that was set back does not turn time


def test_sums(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder, statements=2)
    recording.append(statement(3, "drop table t", verdict="deny", rule="statement"))
    recording.append(Outcome(n=3, rows=0, bytes=0, ms=0.1, sqlstate="42501"))
    recording.flush()
    total = timeline.summary(recording.path)
    assert (total.statements, total.refused, total.failed, total.rows, total.bytes) == (3, 1, 1, 2, 24)
    assert total.start is not None
    assert total.end is None
    recording.close(end(3))
    assert timeline.summary(recording.path).end is not None
    recorder.close()
