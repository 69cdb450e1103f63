"""recorder/treelog.py: checkpoints follow the log, and none that the log does not fit is lost."""

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from recorder import checkpoint, files, tree, treelog
from recorder.checkpoint import Checkpoint
from recorder.journal import Recorder
from recorder.treelog import TreeLog
from recorder.verify import verify
from tests.recorder.support import START, Ticker, end, play, sealed

NOON = START + timedelta(hours=3)


def current(directory: Path) -> Checkpoint:
    note = checkpoint.parse((directory / "checkpoint").read_bytes())
    assert note is not None
    return note


def leaves(directory: Path) -> list[bytes]:
    return [tree.leaf(line) for line in (directory / "node.jsonl").read_bytes().splitlines()]


def kinds(directory: Path) -> list[tuple[str, str]]:
    return [(found.kind, found.file) for one in verify(directory).recordings for found in one.findings]


def test_a_checkpoint_holds_all_lines(tmp_path: Path) -> None:
    sealed(tmp_path)
    data = TreeLog(tmp_path).round(NOON)
    assert data == (tmp_path / "checkpoint").read_bytes() == (tmp_path / "checkpoints/2026-11-23").read_bytes()
    note = current(tmp_path)
    assert (note.size, note.root) == (6, tree.root(leaves(tmp_path)))  # with `tree.start`
    report = verify(tmp_path)
    assert report.ok
    assert (report.log.origin, report.log.lines, report.log.root) == (note.origin, 6, note.root.hex())
    assert note.origin == f"daypass/node/{report.key.fingerprint}"


def test_it_grows_with_the_log_and_only_then(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    log = TreeLog(tmp_path)
    assert log.round(NOON) is not None
    assert log.round(NOON) is None
    play(recorder, "s-1").close(end())
    assert log.round(NOON + timedelta(days=1)) is not None
    assert current(tmp_path).size == 5
    assert TreeLog(tmp_path).round(NOON) is not None or current(tmp_path).size == 5  # another process, from the cache
    recorder.close()
    assert [name for name, _ in treelog.notes(tmp_path)] == [
        "checkpoint",
        "checkpoints/2026-11-23",
        "checkpoints/2026-11-24",
    ]
    assert verify(tmp_path).ok


@pytest.mark.parametrize("cache", [None, b"", b"nonsense", b'{"size":3,"offset":9,"last":"x","nodes":["zz"]}'])
def test_the_cache_is_only_a_cache(tmp_path: Path, cache: bytes | None) -> None:
    sealed(tmp_path, "s-1")
    TreeLog(tmp_path).round(NOON)
    if cache is None:
        (tmp_path / ".tree").unlink()
    else:
        (tmp_path / ".tree").write_bytes(cache)
    Recorder(tmp_path, now=Ticker()).close()
    TreeLog(tmp_path).round(NOON)
    assert current(tmp_path).root == tree.root(leaves(tmp_path))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert verify(tmp_path).ok


def test_a_half_line_is_no_leaf(tmp_path: Path) -> None:
    sealed(tmp_path)
    with (tmp_path / "node.jsonl").open("ab") as file:
        file.write(b'{"seq":6,"at')
    TreeLog(tmp_path).round(NOON)
    assert verify(tmp_path).ok
    assert current(tmp_path).size == 7  # what was cut aside, said in a line


def test_a_checkpoint_that_the_log_does_not_fit_is_kept(tmp_path: Path) -> None:
    """Somebody with the key writes the log anew, and the server goes on with it: the old head stays as a witness."""
    for statements in (3, 2):
        recorder = Recorder(tmp_path, now=Ticker())
        play(recorder, "s-1", statements).close(end())
        recorder.close()
        if statements == 3:
            TreeLog(tmp_path).round(NOON)
            for file in (
                *tmp_path.glob("2026/*/*"),
                tmp_path / "node.jsonl",
                tmp_path / "node.head",
                tmp_path / ".tree",
            ):
                file.unlink()
            for file in (tmp_path / "checkpoints").iterdir():
                file.unlink()
    TreeLog(tmp_path).round(NOON)
    (kept,) = [name for name, _ in treelog.notes(tmp_path) if "conflict" in name]
    assert ("rewritten", "node.jsonl") in kinds(tmp_path)
    TreeLog(tmp_path).round(NOON + timedelta(days=2))
    assert (tmp_path / kept).exists()


def test_a_checkpoint_that_is_gone_is_missed_for_ever(tmp_path: Path) -> None:
    sealed(tmp_path)
    TreeLog(tmp_path).round(NOON)
    (tmp_path / "checkpoint").unlink()
    assert kinds(tmp_path) == [("missing", "checkpoint")]
    Recorder(tmp_path, now=Ticker()).close()
    TreeLog(tmp_path).round(NOON)
    assert kinds(tmp_path) == [("cut", "node.jsonl")]


def test_an_unreadable_checkpoint_is_kept_too(tmp_path: Path) -> None:
    sealed(tmp_path)
    TreeLog(tmp_path).round(NOON)
    (tmp_path / "checkpoint").write_bytes(b"nonsense")
    Recorder(tmp_path, now=Ticker()).close()
    TreeLog(tmp_path).round(NOON)
    assert kinds(tmp_path) == [("changed", "checkpoints/conflict-unreadable")]


def test_nothing_to_do(tmp_path: Path) -> None:
    assert TreeLog(tmp_path).round(NOON) is None
    assert treelog.notes(tmp_path) == []


def test_who_appends_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a checkpoint is brought to the disk, nobody holds the log."""
    sealed(tmp_path, "s-1")
    log = TreeLog(tmp_path)
    log.round(NOON)
    sealed(tmp_path, "s-2")
    free, fsync = [], os.fsync

    def watched(fd: int) -> None:
        with (tmp_path / "node.jsonl").open("rb") as other:
            free.append(files.hold(other.fileno(), patience=0))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    assert log.round(NOON) is not None
    assert free == [True, True, True]
    monkeypatch.undo()
    assert verify(tmp_path).ok


def test_a_line_that_was_taken_back_is_no_leaf(tmp_path: Path) -> None:
    """Somebody's append failed, and its line was read before it was cut off."""
    sealed(tmp_path, "s-1")
    log = TreeLog(tmp_path)
    log.round(NOON)
    node = tmp_path / "node.jsonl"
    before = node.read_bytes()
    with node.open("ab") as file:
        file.write(before.splitlines(keepends=True)[-1])
    log._catch_up()
    node.write_bytes(before)
    sealed(tmp_path, "s-2")
    log.round(NOON)
    assert current(tmp_path).root == tree.root(leaves(tmp_path))
    assert verify(tmp_path).ok


def test_two_processes_take_turns(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    logs = [TreeLog(tmp_path), TreeLog(tmp_path)]
    found: list[bytes | None] = []

    def make(log: TreeLog) -> None:
        for _ in range(15):
            found.append(log.round(NOON))

    threads = [threading.Thread(target=make, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for number in range(20):
        play(recorder, f"s-{number}").close(end())
    for thread in threads:
        thread.join()
    recorder.close()
    logs[0].round(NOON)
    assert len([one for one in found if one is not None]) > 2
    assert current(tmp_path).root == tree.root(leaves(tmp_path))
    assert kinds(tmp_path) == []
