"""How far one sink is: a small file in the recordings folder, replaced as a whole after each batch that was taken.

Knows where things lie; must not read recordings. Invariant: a cursor that cannot be read is an error and never a fresh
start, which would skip what is owed.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from recorder import files
from recorder.files import RecordError
from recorder.nodelog import Follower

FOLDER = ".sinks"
SUFFIX = ".json"
OFF = ".json.off"
"""The cursor of a sink that is configured no more: it owes nothing, and goes on where it was if it comes back."""


class Place(msgspec.Struct):
    """A recording that is not delivered to its end: `at` bytes of `file` are; `end` is its length once it is sealed."""

    file: str
    at: int = 0
    end: int | None = None


class Cursor(msgspec.Struct):
    """`node`: bytes of the node log that were read; `installation`: bytes delivered; `checkpoint`: the last one's id;
    `lines`: whether it is owed plain lines. The rest is for people."""

    node: int = 0
    open: dict[str, Place] = {}
    installation: int = 0
    checkpoint: str = ""
    lines: bool = True
    delivered: int = 0
    skipped: int = 0
    last: str = ""
    error: str = ""


def path(directory: Path, name: str) -> Path:
    return directory / FOLDER / f"{name}{SUFFIX}"


def begin(directory: Path, name: str, *, history: bool, lines: bool = True) -> None:
    """Give a new sink its cursor: what is open now and all that comes, or with `history` everything there is. One that
    has a cursor keeps it. OSError, RecordError."""
    files.make_folder(directory / FOLDER)
    mine, off = path(directory, name), directory / FOLDER / f"{name}{OFF}"
    with locked(directory, name, patience=1.0) as ours:
        if not ours or mine.exists():
            return
        if off.exists():
            off.replace(mine)
            return
        cursor = Cursor(lines=lines)
        if not history:
            node, installation = directory / files.NODE, directory / files.INSTALLATION
            if installation.exists():
                cursor.installation = _whole(installation)
            if node.exists():
                cursor.node = _whole(node)
                log = Follower(node)
                log.update()
                cursor.open = {id_: Place(file) for id_, file in log.unsealed.items()}
        save(directory, name, cursor)


def retire(directory: Path, names: frozenset[str]) -> list[str]:
    """Set aside the cursors of sinks that are not among `names`; which these are."""
    gone = []
    for name in known(directory):
        if name not in names:
            with locked(directory, name, patience=1.0) as ours:
                if ours and path(directory, name).exists():  # else it is in use, or another process was first
                    path(directory, name).replace(directory / FOLDER / f"{name}{OFF}")
                    gone.append(name)
    return gone


def known(directory: Path) -> list[str]:
    """The sinks that have a cursor in force."""
    return sorted(file.name.removesuffix(SUFFIX) for file in (directory / FOLDER).glob(f"*{SUFFIX}"))


def load(directory: Path, name: str) -> Cursor:
    """OSError; RecordError where it cannot be read."""
    file = path(directory, name)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Cursor)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RecordError(
            f"{file} is damaged: delete it, and set history: true for this sink if it is to get everything again"
        ) from None


def save(directory: Path, name: str, cursor: Cursor) -> None:
    """On the disk when it returns. OSError: the old one stands."""
    file = path(directory, name)
    new = file.with_name(f"{name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        files.write_all(fd, msgspec.json.encode(cursor))
        os.fsync(fd)
    finally:
        os.close(fd)
    new.replace(file)


@contextlib.contextmanager
def locked(directory: Path, name: str, *, patience: float = 0.0) -> Iterator[bool]:
    """Whether nobody else delivers to this sink, until the `with` ends."""
    fd = os.open(directory / FOLDER / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield files.hold(fd, patience=patience)
    finally:
        os.close(fd)


def _whole(file: Path) -> int:
    """Bytes of the file's whole lines."""
    with file.open("rb") as lines:
        size = lines.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - 65_536)
            lines.seek(start)
            found = lines.read(size - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            size = start
    return 0
