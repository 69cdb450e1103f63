"""The write-ahead file: where the lines of all sessions of one process reach the disk together.

With group commit a session's lines are written to its own file at once and synced there later; what makes them safe
is one frame here, synced with those of all others. After a crash of the system `complete` puts back into the
recordings what their own files lost. Frames are binary: CRC-32, generation, offset in the recording, its path, the
lines. Must not know events. Invariant: a recording that is sealed, or that a living process holds, is not touched; and
nothing is lost by completing: what differs is cut aside.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from recorder import files

FOLDER = ".ahead"
SIZE = 8 << 20
"""Bytes that a segment has from the start: a sync that changes no file's size costs half as much."""
PATIENCE = 0.05
"""Seconds to wait for somebody who only looks whether a recording is held."""
_HEAD = struct.Struct("<IQQHI")
_CRC = struct.Struct("<I")
_ZEROS = bytes(1 << 20)


class Frame(NamedTuple):
    """Whole lines of one recording: its path below the folder, where they begin in it, and they themselves."""

    file: str
    offset: int
    data: bytes


class Segment:
    """One such file, written from its start again each time its frames are no longer needed. OSError."""

    def __init__(self, directory: Path, name: str, size: int = SIZE) -> None:
        folder = directory / FOLDER
        files.make_folder(folder)
        self.path = folder / f"{name}.wal"
        self._generation = 1
        self.used = 0
        """Where the next frame goes."""
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if not files.hold(self._fd):
                raise BlockingIOError(f"{self.path} is held")
            for _ in range(0, size, len(_ZEROS)):
                files.write_all(self._fd, _ZEROS)
            os.fsync(self._fd)
            files.sync_folder(folder)
        except OSError:
            self.close(remove=True)
            raise

    def write(self, frames: Sequence[Frame]) -> None:
        """Put the frames on the disk. After an OSError the segment must not be written again."""
        data = b"".join(map(self._encode, frames))
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, memoryview(data)[done:], self.used + done)
        os.fdatasync(self._fd)
        self.used += len(data)

    def restart(self) -> None:
        """Forget the frames: the recordings themselves have been synced."""
        self.used = 0
        self._generation += 1

    def close(self, *, remove: bool) -> None:
        """Let it go. Not removed, it is a dead writer's, and `complete` reads it."""
        if self._fd >= 0:
            if remove:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            os.close(self._fd)
            self._fd = -1

    def _encode(self, frame: Frame) -> bytes:
        name = frame.file.encode()
        head = _HEAD.pack(0, self._generation, frame.offset, len(name), len(frame.data))[_CRC.size :]
        rest = b"".join((head, name, frame.data))
        return _CRC.pack(zlib.crc32(rest)) + rest


def read(path: Path) -> Iterator[Frame]:
    """The frames of a segment, up to the first that is not whole or of an earlier generation."""
    data, at, generation = path.read_bytes(), 0, None
    while at + _HEAD.size <= len(data):
        crc, found, offset, name, size = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + name + size
        if end > len(data) or not name or zlib.crc32(memoryview(data)[at + _CRC.size : end]) != crc:
            return
        if generation not in (None, found):
            return
        generation = found
        start = at + _HEAD.size
        yield Frame(data[start : start + name].decode("utf-8", "replace"), offset, data[start + name : end])
        at = end


def complete(directory: Path, unsealed: Container[str]) -> dict[str, int]:
    """Put into the recordings of dead writers what only their write-ahead files have; how many bytes, by path.

    `unsealed` are the paths below the folder that the node log leaves open. RecordError.
    """
    folder = directory / FOLDER
    if not folder.exists():
        return {}
    try:
        with contextlib.ExitStack() as closing:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            closing.callback(os.close, fd)
            # Who comes second waits: he must not seal what the first has not completed yet.
            closing.enter_context(files.locked(fd, folder))
            dead = [path for path in sorted(folder.glob("*.wal")) if _let_go(path, closing)]
            return _complete(directory, dead, unsealed)
    except OSError as cause:
        raise files.record_error("complete recordings from", folder, cause) from cause


def _let_go(path: Path, closing: contextlib.ExitStack) -> bool:
    """Whether its writer is gone; then it is held until `closing`."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    closing.callback(os.close, fd)
    return files.hold(fd, patience=0)


def _complete(directory: Path, dead: Sequence[Path], unsealed: Container[str]) -> dict[str, int]:
    found: dict[str, list[Frame]] = {}
    for path in dead:
        for frame in read(path):
            if frame.file in unsealed:
                found.setdefault(frame.file, []).append(frame)
    added: dict[str, int] = {}
    held = False
    for file, frames in found.items():
        try:
            fd = os.open(directory / file, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            continue  # verify reports it
        try:
            if not files.hold(fd, patience=PATIENCE):
                held = True
            elif count := _fill(fd, directory / file, sorted(frames, key=lambda frame: frame.offset)):
                added[file] = count
        finally:
            os.close(fd)
    if not held:
        for path in dead:
            path.unlink()
    return added


def _fill(fd: int, path: Path, frames: Sequence[Frame]) -> int:
    """Make the file go on as the frames say; how many bytes were added."""
    size = before = os.fstat(fd).st_size
    cut = 0
    for frame in frames:
        end = frame.offset + len(frame.data)
        there = os.pread(fd, len(frame.data), frame.offset) if frame.offset < size else b""
        if frame.offset > size:
            # What stood before it was synced in the file itself: a hand has cut it, and verify says so.
            files.set_aside(path, frame.data)
            continue
        if not frame.data.startswith(there):
            rest = os.pread(fd, size - frame.offset, frame.offset)
            files.cut_aside(fd, path, offset=frame.offset, torn=rest)
            cut += len(rest)
            size, there = frame.offset, b""
        if end > size:
            files.write_all(fd, frame.data[len(there) :])
            size = end
    if size != before or cut:
        os.fsync(fd)
    return size - before + cut
