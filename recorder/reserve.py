"""The reserve: room on the disk that is kept so that sessions can still end in order when it is full.

A file without a name, so that it can never be left behind: whatever becomes of the process, the system takes it back.
Knows bytes and a folder; must not know recordings. Invariant: it is given back once, whole, and only made again by who
has looked that there is room.
"""

import errno
import os
import tempfile
from pathlib import Path

from recorder import files

NAME = ".reserve-"


class Reserve:
    """`size` bytes of the folder's file system, 0 for none; not held before `make`."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self._fd = -1
        self.spent = False
        """Whether it was given back, and not made again since."""

    @property
    def held(self) -> int:
        """The bytes that are kept now."""
        return self._size if self._fd >= 0 else 0

    @property
    def missing(self) -> int:
        """The bytes that `make` would need."""
        return self._size - self.held

    def make(self) -> None:
        """Keep the room. OSError where there is none."""
        if self._fd >= 0 or not self._size:
            self.spent = False
            return
        fd, name = tempfile.mkstemp(prefix=NAME, dir=self._directory)
        try:
            os.unlink(name)
            self._fill(fd)
        except OSError:
            os.close(fd)
            raise
        self._fd, self.spent = fd, False

    def _fill(self, fd: int) -> None:
        try:
            os.posix_fallocate(fd, 0, self._size)
        except OSError as refused:
            if refused.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            for _ in range(0, self._size, 1 << 20):  # a file system that keeps no room without its bytes
                files.write_all(fd, bytes(1 << 20))

    def spend(self) -> bool:
        """Give the room back; whether there was any, now or since it was last made."""
        if self._fd >= 0:
            self.spent = True
            self.close()
        return self.spent

    def close(self) -> None:
        """Let it go, unused."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def free(directory: Path) -> int:
    """Bytes that this user may still write in the folder. OSError."""
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize
