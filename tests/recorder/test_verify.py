"""Verifying: every attack on stored recordings is found and named, and nothing innocent is."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder import files
from recorder.events import GrantEvent
from recorder.journal import Recorder, append_installation
from recorder.seal import KeyFileError
from recorder.treelog import TreeLog
from recorder.verify import Report, verify
from tests.recorder.support import START, Ticker, end, play, sealed, start, statement


def states(report: Report) -> dict[str, str]:
    return {checked.id: checked.state for checked in report.recordings}


def kinds(report: Report) -> set[tuple[str, str]]:
    return {(checked.id, found.kind) for checked in report.recordings for found in checked.findings}


def split(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_the_report(tmp_path: Path) -> None:
    sealed(tmp_path, "s-1", "s-2")
    report = verify(tmp_path)
    assert report.to_dict() == {
        "ok": True,
        "directory": str(tmp_path),
        "key": {
            "fingerprint": report.key.fingerprint,
            "file": str(tmp_path / "keys" / "public.pem"),
            "source": "found",
        },
        "log": {"origin": None, "lines": 8, "root": report.log.root, "checkpoints": 0, "given": 0},
        "recordings": [
            {"id": "s-1", "state": "sealed", "file": "2026/11/s-1.jsonl", "lines": 6, "read": True, "findings": []},
            {"id": "s-2", "state": "sealed", "file": "2026/11/s-2.jsonl", "lines": 6, "read": True, "findings": []},
            {"id": "node", "state": "open", "file": "node.jsonl", "lines": 8, "read": True, "findings": []},
        ],
    }
    assert states(verify(tmp_path, ids={"s-2"})) == {"s-2": "sealed", "node": "open"}


def rechain(path: Path) -> None:
    """Somebody who knows the format writes a file of as many lines anew, and its chain fits."""
    recorder = Recorder(path.parents[2] / "forge", now=Ticker())
    recording = recorder.open("s-1", start("s-1"))
    for n in range(4):
        recording.append(statement(n, "select 'nothing to see'"))
    recording.close(end())
    recorder.close()
    forged = recording.path.read_bytes()
    shutil.rmtree(path.parents[2] / "forge")
    path.write_bytes(forged)


def edit(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new, 1))


def reorder(path: Path, *order: int) -> None:
    """The file's lines in this order; lines that are not named are removed."""
    lines = split(path)
    path.write_bytes(b"".join(lines[index] for index in order))


def shorten(path: Path, count: int) -> None:
    os.truncate(path, path.stat().st_size - count)


class Folder:
    """Where an attacker works: two sealed recordings of 6 lines, and the node log of 8."""

    def __init__(self, directory: Path) -> None:
        self.one, self.two = sealed(directory, "s-1", "s-2")
        self.other = self.one.with_name("s-9.jsonl")
        self.node = directory / "node.jsonl"
        self.head = directory / "node.head"
        self.key = directory / "keys" / "public.pem"


ATTACKS: dict[str, tuple[Callable[[Folder], object], str, str]] = {
    "byte": (lambda f: edit(f.one, b"select 1", b"select 7"), "s-1", "changed"),
    "last byte": (lambda f: f.one.write_bytes(f.one.read_bytes()[:-1] + b" "), "s-1", "cut"),
    "line removed": (lambda f: reorder(f.one, 0, 1, 3, 4, 5), "s-1", "removed"),
    "line added": (lambda f: reorder(f.one, 0, 1, 2, 3, 4, 5, 2), "s-1", "added"),
    "lines swapped": (lambda f: reorder(f.one, 0, 2, 1, 3, 4, 5), "s-1", "reordered"),
    "tail cut": (lambda f: reorder(f.one, 0, 1, 2, 3, 4), "s-1", "cut"),
    "tail cut before the checkpoint": (lambda f: reorder(f.one, 0, 1), "s-1", "cut"),
    "tail cut in a line": (lambda f: shorten(f.one, 20), "s-1", "cut"),
    "bytes after the end": (lambda f: f.one.write_bytes(f.one.read_bytes() + b"x"), "s-1", "added"),
    "emptied": (lambda f: os.truncate(f.one, 0), "s-1", "cut"),
    "rewritten": (lambda f: rechain(f.one), "s-1", "changed"),
    "removed": (lambda f: f.one.unlink(), "s-1", "missing"),
    "moved": (lambda f: f.one.rename(f.other), "s-9", "unlisted"),
    "copied": (lambda f: shutil.copy(f.one, f.other), "s-9", "unlisted"),
    "copied to another month": (
        lambda f: shutil.copytree(f.one.parent, f.one.parent.with_name("12")),
        "s-1",
        "unlisted",
    ),
    "replaced by another": (lambda f: shutil.copy(f.two, f.one), "s-1", "swapped"),
    "node log removed": (lambda f: f.node.unlink(), "node", "missing"),
    "node log emptied": (lambda f: os.truncate(f.node, 0), "node", "cut"),
    "seal removed": (lambda f: reorder(f.node, 0, 1, 2, 3, 5, 6, 7), "node", "removed"),
    "last seal removed": (lambda f: reorder(f.node, 0, 1, 2, 3, 4, 5, 6), "node", "cut"),
    "last seal cut": (lambda f: shorten(f.node, 9), "node", "cut"),
    "node log edited": (lambda f: edit(f.node, b'"lines":6', b'"lines":5'), "node", "signature"),
    "node log reordered": (lambda f: reorder(f.node, 0, 1, 2, 4, 3, 5, 6, 7), "node", "reordered"),
    "node log nonsense": (lambda f: f.node.write_bytes(b"nonsense\n"), "node", "unreadable"),
    "end of node log removed": (lambda f: f.head.unlink(), "node", "missing"),
    "public key removed": (lambda f: f.key.unlink(), "node", "key"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(tmp_path: Path, attack: str) -> None:
    act, id_, kind = ATTACKS[attack]
    act(Folder(tmp_path))
    report = verify(tmp_path)
    assert not report.ok
    assert (id_, kind) in kinds(report)
    assert {id_ for id_, _ in kinds(report)} <= {id_ for id_, state in states(report).items() if state == "damaged"}


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_no_file_hides_nothing(tmp_path: Path, folder: bool) -> None:
    """A folder, or a link to nowhere, in the place of a file: neither the verifier nor the server stops at it."""

    def replace(path: Path) -> None:
        path.unlink(missing_ok=True)
        if folder:
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "nowhere")

    one, _ = sealed(tmp_path, "s-1", "s-2")
    TreeLog(tmp_path).round(START)
    for path in (tmp_path / "checkpoint", one, one.with_name("s-3.jsonl")):
        replace(path)
    wanted = {("missing", "checkpoint"), ("missing", "2026/11/s-1.jsonl"), ("unlisted", "2026/11/s-3.jsonl")}
    for _ in range(2):
        found = {(found.kind, found.file) for checked in verify(tmp_path).recordings for found in checked.findings}
        assert found == wanted
        Recorder(tmp_path, now=Ticker()).close()


def test_swapped_files(tmp_path: Path) -> None:
    one, two = sealed(tmp_path, "s-1", "s-2")
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    assert {("s-1", "swapped"), ("s-2", "swapped")} <= kinds(verify(tmp_path))


def test_a_seal_removed_together_with_the_files_end(tmp_path: Path) -> None:
    one, _ = sealed(tmp_path, "s-1", "s-2")
    node = tmp_path / "node.jsonl"
    one.write_bytes(b"".join(split(one)[:-1]))
    node.write_bytes(b"".join(line for line in split(node) if b'"event":"seal","id":"s-1"' not in line))
    assert ("node", "removed") in kinds(verify(tmp_path))


def test_one_damaged_recording_does_not_darken_the_others(tmp_path: Path) -> None:
    one, _ = sealed(tmp_path, "s-1", "s-2")
    one.write_bytes(one.read_bytes().replace(b"jane", b"john"))
    assert states(verify(tmp_path)) == {"s-1": "damaged", "s-2": "sealed", "node": "open"}
    assert verify(tmp_path, ids={"s-2"}).ok


def test_everything_signed_again_by_another_hand(tmp_path: Path) -> None:
    """With the folder's own key this cannot be found (the docs say so); with the public key kept elsewhere it is."""
    sealed(tmp_path / "real", "s-1")
    kept = tmp_path / "kept.pem"
    shutil.copy(tmp_path / "real" / "keys" / "public.pem", kept)
    assert verify(tmp_path / "real", public_key=kept).ok
    assert verify(tmp_path / "real", public_key=kept).key.source == "given"
    shutil.rmtree(tmp_path / "real")
    sealed(tmp_path / "real", "s-1")
    assert verify(tmp_path / "real").ok
    report = verify(tmp_path / "real", public_key=kept)
    assert ("node", "key") in kinds(report)


def test_a_public_key_that_is_none(tmp_path: Path) -> None:
    sealed(tmp_path)
    with pytest.raises(KeyFileError):
        verify(tmp_path, public_key=tmp_path / "node.jsonl")


class TestBeingWritten:
    """A file that a live process writes is `open`, at every moment between two system calls."""

    def test_open(self, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path, now=Ticker())
        recording = play(recorder)
        assert states(verify(tmp_path)) == {"s-1": "open", "node": "open"}
        with recording.path.open("ab") as file:  # a long write is seen half done
            file.write(b'{"seq":6,"at":"2026')
        assert states(verify(tmp_path)) == {"s-1": "open", "node": "open"}
        recorder.close()

    def test_between_the_file_and_its_entry(self, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path, now=Ticker())
        play(recorder, "s-1").close(end())
        path = tmp_path / "2026" / "11" / "s-2.jsonl"
        for data in (b"", b'{"seq":1,"at', split(path.with_name("s-1.jsonl"))[0].replace(b"s-1", b"s-2")):
            path.write_bytes(data)
            with path.open("ab") as writer:
                assert files.hold(writer.fileno())
                assert states(verify(tmp_path)) == {"s-1": "sealed", "s-2": "open", "node": "open"}
            assert states(verify(tmp_path)) == {"s-1": "sealed", "s-2": "interrupted", "node": "open"}
        path.unlink()
        recorder.close()

    def test_a_cut_is_found_while_it_is_written(self, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path, now=Ticker())
        recording = play(recorder)
        recorder.checkpoint()
        recording.path.write_bytes(b"".join(split(recording.path)[:-1]))
        assert kinds(verify(tmp_path)) == {("s-1", "cut")}
        recorder.close()

    def test_a_rewritten_line_is_found_by_its_checkpoint(self, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path, now=Ticker())
        recording = play(recorder)
        recorder.checkpoint()
        lines = split(recording.path)
        recording.path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b'"rows":1', b'"rows":0'))
        assert kinds(verify(tmp_path)) == {("s-1", "changed")}
        recorder.close()

    def test_node_log_half_written(self, tmp_path: Path) -> None:
        sealed(tmp_path)
        with (tmp_path / "node.jsonl").open("ab") as file:
            file.write(b'{"seq":6,"at":"2026-11')
        assert verify(tmp_path).ok


LIVE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from recorder.journal import Recorder
from tests.recorder.support import end, outcome, start, statement
recorder = Recorder(Path(sys.argv[1]), now=lambda: datetime.now(UTC))
print("ready", flush=True)
for number in range(250):
    recording = recorder.open(f"s-{number}", start(f"s-{number}"))
    for n in range(1, 5):
        recording.append(statement(n, "select " + "x" * 3000))
        recording.flush()
        if n == number % 5:
            recorder.checkpoint()
    recording.close(end())
"""


def test_a_busy_server_is_never_called_damaged(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", LIVE, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        while process.poll() is None:
            report = verify(tmp_path)
            assert report.ok, report.to_dict()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(verify(tmp_path).recordings) == 251


def test_the_installations_recording_is_guarded_too(tmp_path: Path) -> None:
    for n in range(3):
        append_installation(tmp_path, GrantEvent(action="created", grant=f"g-{n}", by="ops"), Ticker())
    assert states(verify(tmp_path)) == {"installation": "open", "node": "open"}
    path = tmp_path / "installation.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"g-1", b"g-7"))
    assert ("installation", "changed") in kinds(verify(tmp_path))
    path.write_bytes(data.replace(b"g-2", b"g-7"))
    assert ("installation", "changed") in kinds(verify(tmp_path))
    os.truncate(path, len(b"".join(split(path)[:-1])))
    assert ("installation", "cut") in kinds(verify(tmp_path))


def test_a_copy_of_a_recording(tmp_path: Path) -> None:
    (one,) = sealed(tmp_path / "r")
    copy = tmp_path / "copy.jsonl"
    shutil.copy(one, copy)
    assert verify(tmp_path / "r", ids={"s-1"}, copies={"s-1": copy}).ok
    copy.write_bytes(copy.read_bytes().replace(b"jane", b"john"))
    assert not verify(tmp_path / "r", ids={"s-1"}, copies={"s-1": copy}).ok
    assert verify(tmp_path / "r").ok


def test_nothing_recorded_yet(tmp_path: Path) -> None:
    assert verify(tmp_path).to_dict()["recordings"] == []
    assert verify(tmp_path).ok
    Recorder(tmp_path, now=Ticker()).close()
    assert states(verify(tmp_path)) == {"node": "open"}
    assert verify(tmp_path).ok
