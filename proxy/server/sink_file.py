"""A sink that is a file: one JSON object a line, for an agent that carries logs away, or on a mounted disk.

Knows nothing of recordings. Invariants: what `take` has returned for is on the disk; the file ends in a whole line; a
file that was moved away (logrotate without copytruncate) gets a successor under the old name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from recorder import files
from recorder.sinks.courier import NotTaken
from recorder.sinks.feed import Item

_BLOCK = 65_536


class FileSink:
    """Appends to `path`."""

    def __init__(self, path: Path, installation: str) -> None:
        self._path = path
        self._installation = installation
        self._fd = -1

    def take(self, items: Sequence[Item]) -> None:
        """A `courier.Take`."""
        data = b"".join(item.framed(self._installation) + b"\n" for item in items)
        try:
            self._open()
            size = os.fstat(self._fd).st_size
            try:
                files.write_all(self._fd, data)
                os.fdatasync(self._fd)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, size)
                self.close()
                raise
        except OSError as problem:
            raise NotTaken(f"{self._path}: {problem.strerror or problem}") from None

    def _open(self) -> None:
        if self._fd >= 0 and not self._in_place():
            self.close()
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            size = os.fstat(self._fd).st_size
            if (whole := _whole(self._fd, size)) != size:  # a process died in mid-line; the line comes again
                os.ftruncate(self._fd, whole)
            files.sync_folder(self._path.parent)

    def _in_place(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._fd)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _whole(fd: int, size: int) -> int:
    """Bytes of the whole lines."""
    while size:
        start = max(0, size - _BLOCK)
        found = os.pread(fd, size - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0
