"""The folder: names, locks, whole writes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recorder import files
from recorder.files import FolderLock, RecordError
from tests.recorder.support import START


def test_session_file() -> None:
    assert files.session_file("s-1", START) == "2026/11/s-1.jsonl"


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "a/b", "../x", "a b", "x" * 129, "a\n", "node", "installation", ".lock"]
)
def test_a_session_id_is_a_plain_name(bad: str) -> None:
    with pytest.raises(ValueError, match="not a session id"):
        files.session_file(bad, START)


def test_short_writes_are_finished(tmp_path: Path) -> None:
    reader, writer = os.pipe()  # a pipe takes 64 KiB at most at once when it does not block
    os.set_blocking(writer, False)
    try:
        with pytest.raises(BlockingIOError):  # 64 KiB were taken, and then nothing more
            files.write_all(writer, b"x" * 200_000)
        assert len(os.read(reader, 1 << 20)) == 65536
    finally:
        os.close(reader)
        os.close(writer)
    with (tmp_path / "f").open("wb", buffering=0) as file:
        files.write_all(file.fileno(), bytearray(b"y" * 300_000))
    assert (tmp_path / "f").stat().st_size == 300_000


def test_one_server_holds_a_folder(tmp_path: Path) -> None:
    assert not files.held(tmp_path / ".lock")
    lock = FolderLock(tmp_path)
    assert files.held(tmp_path / ".lock")
    with pytest.raises(RecordError, match=f"in use by pid {os.getpid()}"):
        FolderLock(tmp_path, patience=0)
    lock.close()
    lock.close()
    assert not files.held(tmp_path / ".lock")
    FolderLock(tmp_path).close()


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    take = f"FolderLock(Path({str(tmp_path)!r}))"
    code = f"import os; from pathlib import Path; from recorder.files import FolderLock; {take}; os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / ".lock").read_text().strip().isdigit()
    assert not files.held(tmp_path / ".lock")


def test_what_is_cut_aside_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"whole\nto")
    for torn in (b"to", b"again"):
        fd = os.open(path, os.O_RDWR)
        assert files.cut_aside(fd, path, offset=6, torn=torn) == "a.jsonl.torn"
        os.close(fd)
    assert path.read_bytes() == b"whole\n"
    aside = tmp_path / "a.jsonl.torn"
    assert aside.read_bytes() == b"to\nagain\n"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_waiting_for_a_file_ends(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    try:
        with (
            files.locked(one, path),
            pytest.raises(RecordError, match="held by another process"),
            files.locked(two, path, patience=0.01),
        ):
            raise AssertionError("two holders")
    finally:
        os.close(one)
        os.close(two)
