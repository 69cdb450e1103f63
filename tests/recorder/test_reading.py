"""Opening a recording, and the head of a line."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder import chain, reading
from tests.recorder.support import sealed

NAMES = ["statement", "outcome", "session.start", "a.very.long.name"]


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


@settings(max_examples=400, deadline=None)
@given(
    first=st.sampled_from([1, 95, 4000]),
    names=st.lists(
        st.sampled_from(["statement", "outcome", "session.start", "a.very.long.name"]), min_size=1, max_size=9
    ),
    harm=st.none() | st.tuples(st.integers(0, 8), st.integers(0, 140), st.sampled_from(b'"\\x0,e')),
    cut=st.none() | st.tuples(st.integers(0, 8), st.integers(0, 140)),
)
def test_events_at_once_are_those_of_each_line(
    first: int, names: list[str], harm: tuple[int, int, int] | None, cut: tuple[int, int] | None
) -> None:
    made = [
        chain.compose(seq, b'"2026-11-23T09:00:00.123456Z"', "ab" * 32, b'{"event":"%b","n":%d}' % (name.encode(), seq))
        for seq, name in enumerate(names, first)
    ]
    if harm is not None:
        line = bytearray(made[harm[0] % len(made)])
        line[harm[1] % len(line)] = harm[2]
        made[harm[0] % len(made)] = bytes(line)
    if cut is not None:
        made[cut[0] % len(made)] = made[cut[0] % len(made)][: cut[1]]
    assert reading.events(made) == [reading.event(line) for line in made]
    if harm is None and cut is None and first == 4000 and "a.very.long.name" not in names:
        assert reading._alike(made) is not None  # the quick way was taken
