"""Opening a recording, and the head of a line."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recorder import reading
from tests.recorder.support import sealed


def test_lines_know_where_they_begin(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    everything = list(reading.lines(path))
    assert [raw for _, raw in everything] == path.read_bytes().splitlines()
    for n, (start, _) in enumerate(everything):
        assert list(reading.lines(path, start)) == everything[n:]
    with path.open("ab") as file:
        file.write(b'{"half')
    assert list(reading.lines(path)) == everything


def test_heads(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    heads = [head for _, raw in reading.lines(path) if (head := reading.head(raw))]
    assert [(head.seq, head.event) for head in heads][:2] == [(1, "session.start"), (2, "statement")]
    assert heads[0].time == datetime(2026, 11, 23, 9, 0, 0, 750000, UTC)
    other = reading.head(b'{"event":"cancel","at":"2026-01-01T00:00:00Z","seq":7,"prev":""}')
    assert other is not None
    assert (other.seq, other.event, other.time.year) == (7, "cancel", 2026)
    assert reading.head(b"nonsense") is None
    assert reading.head(b'{"seq":1}') is None
    assert reading.head(b"\xff") is None


def test_microseconds() -> None:
    for at in ("2026-11-23T09:00:00.750001Z", "1970-01-01T00:00:00Z"):
        assert reading.moment(reading.microseconds(at)) == datetime.fromisoformat(at)
    with pytest.raises(ValueError, match="no zone"):
        reading.microseconds("2026-11-23T09:00:00")
