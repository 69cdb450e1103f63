"""The recorder: what `flush` returned for is in the file, and what cannot be written stops everything."""

import errno
import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorder.events import GrantEvent, Login, SessionEnd
from recorder.journal import Recorder, RecordError, Recording, append_installation
from recorder.verify import verify
from tests.recorder.support import Ticker, end, outcome, play, sealed, start, statement


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path / "recordings", now=Ticker())
    yield recorder
    recorder.close()


@contextmanager
def full_disk(recording: Recording) -> Iterator[None]:
    """Writes of this recording meet a device that is full."""
    full, real = os.open("/dev/full", os.O_WRONLY), os.dup(recording._fd)
    os.dup2(full, recording._fd)
    try:
        yield
    finally:
        os.close(full)
        if recording._fd >= 0:
            os.dup2(real, recording._fd)
        os.close(real)


@contextmanager
def size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the last write before it is cut short, the next fails
    with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_bytes().splitlines()]


def test_a_session_from_start_to_seal(recorder: Recorder) -> None:
    recording = recorder.open("s-1", start())
    assert recording.path == recorder.directory / "2026" / "11" / "s-1.jsonl"
    assert events(recording.path) == ["session.start"]
    recording.append(statement())
    assert events(recording.path) == ["session.start"]  # append does no I/O
    recording.flush()
    assert events(recording.path) == ["session.start", "statement"]
    recording.append(outcome())
    recording.close(end())
    assert events(recording.path) == ["session.start", "statement", "outcome", "session.end"]
    assert events(recorder.directory / "node.jsonl") == ["node.start", "node.start", "open", "seal"]
    report = verify(recorder.directory)
    assert report.ok
    assert [(checked.id, checked.state) for checked in report.recordings] == [("s-1", "sealed"), ("node", "open")]


def test_modes(recorder: Recorder) -> None:
    recording = recorder.open("s-1", start())
    assert stat.S_IMODE(recording.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(recording.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(recorder.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((recorder.directory / "node.jsonl").stat().st_mode) == 0o600


def test_a_closed_recording_takes_nothing(recorder: Recorder) -> None:
    recording = play(recorder)
    recording.close(end())
    recording.close(end())
    with pytest.raises(RecordError, match="closed"):
        recording.append(statement())


def test_ids(recorder: Recorder) -> None:
    play(recorder, "s-1")
    with pytest.raises(RecordError, match="cannot create"):
        recorder.open("s-1", start())
    with pytest.raises(ValueError, match="not a session id"):
        recorder.open("../s-2", start())
    assert recorder.healthy()


def test_a_second_server_is_refused(recorder: Recorder) -> None:
    with pytest.raises(RecordError, match="in use by pid"):
        Recorder(recorder.directory, now=Ticker())


def test_durability_is_one_of_two(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="durability"):
        Recorder(tmp_path, durability="maybe", now=Ticker())


def test_fsync(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, durability="fsync", now=Ticker())
    play(recorder).close(end())
    recorder.close()
    assert verify(tmp_path).ok


def test_flush_all_writes_what_waits(recorder: Recorder) -> None:
    one, two = play(recorder, "s-1"), play(recorder, "s-2")
    one.append(outcome())
    two.append(outcome())
    recorder.installation().append(Login(user="x", client_address="::1", outcome="refused", reason="expired"))
    before = len(events(one.path))
    recorder.flush_all()
    assert len(events(one.path)) == len(events(two.path)) == before + 1
    assert events(recorder.installation().path) == ["login"]
    assert not recorder.waiting


def test_close_loses_nothing_and_seals_the_rest_as_interrupted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    recording.append(outcome(99))
    recorder.installation().append(Login(user="x", client_address="::1", outcome="refused", reason="unknown"))
    recorder.close()
    recorder.close()
    recording.close(end())
    with pytest.raises(RecordError, match="closed"):
        recorder.installation().flush()
    assert json.loads(recording.path.read_bytes().splitlines()[-1])["n"] == 99
    assert events(tmp_path / "installation.jsonl") == ["login"]
    report = verify(tmp_path)
    assert report.ok
    assert report.recordings[0].state == "interrupted"


def test_a_full_disk_breaks_the_recording_for_ever(tmp_path: Path) -> None:
    told: list[str] = []
    recorder = Recorder(tmp_path, now=Ticker(), fatal=told.append)
    recording, other = play(recorder, "s-1"), play(recorder, "s-2")
    with full_disk(recording):
        recording.append(statement(3))
        with pytest.raises(RecordError, match="No space left") as caught:
            recording.flush()
    assert caught.value.errno == errno.ENOSPC
    assert not recorder.healthy()
    assert told == [recording.broken]
    for attempt in (recording.flush, lambda: recording.append(statement(4))):
        with pytest.raises(RecordError, match="No space left"):
            attempt()
    recording.close(end())  # says nothing twice
    other.append(statement(3))
    other.flush()
    recorder.probe()
    assert recorder.healthy()
    assert recorder.fault is None
    states = {checked.id: checked.state for checked in verify(tmp_path).recordings}
    assert states == {"s-1": "interrupted", "s-2": "open", "node": "open"}
    assert events(recording.path)[-1] == "recovered"
    recorder.close()


def test_a_write_cut_short_breaks_the_recording_and_leaves_it_explained(recorder: Recorder) -> None:
    recording = play(recorder)
    size = recording.path.stat().st_size
    recording.append(statement(3, "select " + "x" * 500))
    with size_limit(size + 300), pytest.raises(RecordError, match="File too large"):
        recording.flush()
    assert recording.path.stat().st_size == size + 300
    assert not recorder.healthy()
    recording.close(end())
    assert verify(recorder.directory).ok
    recorder.probe()
    assert recorder.healthy()
    (line,) = [json.loads(line) for line in recording.path.read_bytes().splitlines() if b'"recovered"' in line]
    assert (line["offset"], line["bytes"], line["file"]) == (size, 300, "s-1.jsonl.torn")
    assert (recording.path.parent / "s-1.jsonl.torn").stat().st_size == 301
    assert verify(recorder.directory).ok


def test_no_session_opens_that_cannot_be_named_in_the_node_log(recorder: Recorder) -> None:
    play(recorder, "s-1", statements=30).close(end())
    node = recorder.directory / "node.jsonl"
    size = node.stat().st_size
    with size_limit(size + 100), pytest.raises(RecordError, match="node"):
        recorder.open("s-2", start("s-2"))
    assert node.stat().st_size == size
    assert not (recorder.directory / "2026" / "11" / "s-2.jsonl").exists()
    assert not recorder.healthy()
    recorder.probe()
    play(recorder, "s-2").close(end())
    assert verify(recorder.directory).ok


def test_a_seal_that_cannot_be_written_is_written_later(recorder: Recorder) -> None:
    recording = play(recorder)
    for number in range(20):
        play(recorder, f"t-{number}").close(end())
    size = (recorder.directory / "node.jsonl").stat().st_size
    with size_limit(size), pytest.raises(RecordError, match="node"):
        recording.close(end())
    recording.close(end())
    recorder.checkpoint()
    assert recorder.healthy()
    report = verify(recorder.directory, ids={"s-1"})
    assert report.ok
    assert report.recordings[0].state == "sealed"


def test_little_free_space_is_not_healthy(tmp_path: Path) -> None:
    told: list[str] = []
    recorder = Recorder(tmp_path, now=Ticker(), fatal=told.append, free_floor=1 << 62)
    assert not recorder.healthy()
    recorder.probe()
    assert len(told) == 1
    assert "MiB free" in told[0]
    recorder.close()


def test_a_moved_folder_is_noticed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a", now=Ticker())
    recording = play(recorder)
    (tmp_path / "a").rename(tmp_path / "b")
    recorder.checkpoint()
    assert not recorder.healthy()
    with pytest.raises(RecordError):
        recording.append(statement())
    recorder.close()


@pytest.mark.parametrize("harm", ["delete", "cut", "grow", "replace"])
def test_a_file_touched_by_another_hand_is_noticed_at_the_next_checkpoint(recorder: Recorder, harm: str) -> None:
    recording = play(recorder)
    path = recording.path
    if harm == "delete":
        path.unlink()
    elif harm == "cut":
        os.truncate(path, 100)
    elif harm == "grow":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    recorder.checkpoint()
    assert not recorder.healthy()
    with pytest.raises(RecordError):
        recording.flush()


def test_checkpoints_name_only_what_grew(recorder: Recorder) -> None:
    recording = play(recorder)
    node = recorder.directory / "node.jsonl"
    recorder.checkpoint()
    heads = json.loads(node.read_bytes().splitlines()[-1])["heads"]
    assert [(head["id"], head["seq"]) for head in heads] == [("s-1", 5)]
    size = node.stat().st_size
    recorder.checkpoint()
    assert node.stat().st_size == size
    recording.append(statement(3))  # not yet written: a checkpoint must not promise it
    recorder.checkpoint()
    assert node.stat().st_size == size


def test_grants_are_recorded_while_a_server_runs_and_while_none_does(tmp_path: Path) -> None:
    now = Ticker()
    append_installation(tmp_path, GrantEvent(action="created", grant="g-1", by="ops"), now)
    recorder = Recorder(tmp_path, now=now)
    append_installation(tmp_path, GrantEvent(action="created", grant="g-2", by="ops"), now)
    recorder.installation().append(Login(user="g-2", client_address="::1", outcome="refused", reason="expired"))
    recorder.installation().flush()
    append_installation(tmp_path, GrantEvent(action="revoked", grant="g-2", by="ops"), now)
    recorder.checkpoint()
    recorder.close()
    assert events(tmp_path / "installation.jsonl") == ["grant", "grant", "login", "grant"]
    report = verify(tmp_path)
    assert report.ok
    assert [(checked.id, checked.state) for checked in report.recordings] == [
        ("installation", "open"),
        ("node", "open"),
    ]


def test_a_grant_that_cannot_be_recorded_fails(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("a file stands here")
    with pytest.raises(RecordError):
        append_installation(tmp_path / "recordings", GrantEvent(action="created", grant="g", by="ops"), Ticker())
    sealed(tmp_path / "r")
    with size_limit(100), pytest.raises(RecordError):
        append_installation(tmp_path / "r", GrantEvent(action="created", grant="g" * 200, by="ops"), Ticker())
    assert (tmp_path / "r" / "installation.jsonl").stat().st_size == 0


def test_appending_writes_nothing_and_flushing_everything(recorder: Recorder) -> None:
    recording = play(recorder)
    size = recording.path.stat().st_size
    for n in range(1000):
        recording.append(statement(n))
    assert recording.path.stat().st_size == size
    recording.flush()
    assert recording.path.read_bytes().count(b"\n") == 1005
    recording.close(SessionEnd(reason="client", detail="bye", statements=1000))
    assert verify(recorder.directory).ok


def test_a_name_that_is_in_the_log_stays_true_when_its_head_cannot_be_written(recorder: Recorder) -> None:
    """The log has the recording's name, so its file must not go: that would be called missing for ever."""
    play(recorder, "s-1").close(end())
    real = os.dup(recorder._node._head_fd)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, recorder._node._head_fd)
    os.close(full)
    with pytest.raises(RecordError, match="beside"):
        recorder.open("s-2", start("s-2"))
    os.dup2(real, recorder._node._head_fd)
    os.close(real)
    assert not recorder.healthy()
    assert verify(recorder.directory).ok
    recorder.checkpoint()
    assert recorder.healthy()
    play(recorder, "s-3").close(end())
    report = verify(recorder.directory)
    assert report.ok, report.to_dict()
    assert {c.id: c.state for c in report.recordings}["s-2"] == "interrupted"
