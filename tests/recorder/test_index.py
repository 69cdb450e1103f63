"""The list of sessions: complete, and readable whatever the files hold."""

import json
from pathlib import Path

import pytest

from recorder import index
from recorder.index import NotFoundError
from recorder.journal import Recorder
from tests.recorder.support import Ticker, end, play, sealed


def test_nothing(tmp_path: Path) -> None:
    assert index.sessions(tmp_path) == []
    assert index.sessions(tmp_path / "none") == []


def test_what_a_session_says(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    (one,) = index.sessions(tmp_path)
    assert json.loads(json.dumps(one.to_dict())) == {
        "session": "s-1",
        "grant": "g-7k3m9x2q",
        "person": "jane",
        "vendor": "acme",
        "database": "app",
        "policy": "vendor-readonly",
        "client_address": "203.0.113.7:50412",
        "application_name": "psql",
        "started_at": "2026-11-23T09:00:00.750000Z",
        "ended_at": one.to_dict()["ended_at"],
        "state": "sealed",
        "end": "client",
        "statements": 2,
        "refused": 0,
        "rows": 2,
        "recording": str(path),
    }
    assert one.path == path
    assert one.ended_at is not None
    assert one.started_at is not None
    assert one.ended_at > one.started_at


def test_states(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    play(recorder, "s-1").close(end())
    play(recorder, "s-2")
    listed = index.sessions(tmp_path)
    assert [(one.session, one.state, one.ended_at is None) for one in listed] == [
        ("s-1", "sealed", False),
        ("s-2", "open", True),
    ]
    assert listed[1].statements is None
    recorder.close()
    assert [one.state for one in index.sessions(tmp_path)] == ["sealed", "interrupted"]


def test_damage_is_listed(tmp_path: Path) -> None:
    one, two = sealed(tmp_path, "s-1", "s-2")
    one.write_bytes(b"nonsense\n")
    two.unlink()
    one.with_name("s-3.jsonl").write_bytes(b"")
    assert [(s.session, s.state, s.person) for s in index.sessions(tmp_path)] == [
        ("s-1", "damaged", None),
        ("s-2", "damaged", None),
        ("s-3", "interrupted", None),
    ]


def test_long_last_lines(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    recording.close(end().__class__(reason="client", detail="x" * 200_000, statements=7))
    recorder.close()
    assert index.sessions(tmp_path)[0].statements == 7


def test_find(tmp_path: Path) -> None:
    sealed(tmp_path, "abc-1", "abc-2", "abc")
    assert index.find(tmp_path, "abc").session == "abc"
    assert index.find(tmp_path, "abc-1").session == "abc-1"
    with pytest.raises(NotFoundError, match="2 sessions begin with 'abc-'"):
        index.find(tmp_path, "abc-")
    with pytest.raises(NotFoundError, match="no recording 'zzz'"):
        index.find(tmp_path, "zzz")
    with pytest.raises(NotFoundError):
        index.find(tmp_path, "")
