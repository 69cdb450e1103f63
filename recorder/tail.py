"""The live end of a recording: everything from its beginning, and then what is added, until it ends.

Follows one open file, so that history and live end are one stream: no line is missing or comes twice where they meet,
nor when the recording is sealed and stored in another form meanwhile. Must not print. Invariant: the lines are those of
the recording, in order, each once.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from recorder import reading

LOOK_EVERY: Final = 0.1
"""Seconds between two looks at a file that did not grow."""
_BLOCK: Final = 1 << 20
_PATIENCE: Final = 5
"""Looks at a file that has no line yet."""
_LAST: Final = frozenset({b"session.end", b"recovered"})


def follow(path: Path, sleep: Callable[[float], object]) -> Iterator[bytes]:
    """The whole lines of a recording as they are written, without their newlines; `sleep` waits between looks. Ends
    with the session, or when its writer has died. OSError when it cannot be read."""
    with reading.opened(path) as file:
        place, last, patience = 0, b"", _PATIENCE
        while True:
            held = _held(file)  # asked first: what a writer wrote before it let go is read below
            for line in _lines(file, place):
                place += len(line) + 1
                last = line
                yield line
            if not last and patience > 0:
                patience -= 1  # just made, and its writer is about to take it
            elif reading.event(last) in _LAST or not held:
                return
            sleep(LOOK_EVERY)


def _lines(file: BinaryIO, place: int) -> Iterator[bytes]:
    """The whole lines from byte `place` on. A half one is read again when it is whole: a dying writer's is cut off."""
    file.seek(place)
    rest = b""
    while data := file.read(_BLOCK):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def _held(file: BinaryIO) -> bool:
    """Whether a living writer has this very file, under whatever name."""
    try:
        fd = file.fileno()
    except OSError:  # not a file of its own: a sealed recording, decoded
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
