"""Lines of a recording, with their places, and how to look at one without decoding it.

Search, replay, tail, export and report read recordings through here; how they are stored, `stored` knows. Must not know
what a line says beyond its head. Invariant: what is handed out are whole lines, each with the place where it begins in
the decoded bytes, so that whoever stopped can go on there.
"""

import io
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec

from recorder import stored
from recorder.stored import Identity

_BLOCK = 1 << 16
_HEAD = re.compile(rb'\{"seq":(\d{1,18}),"at":"([^"\\]+)","prev":"[^"\\]*","event":"([^"\\]+)"')
_LINK = b'","event":"","prev":"'
_LONGEST = 16
"""The bytes in which the name of an event ends, as a rule."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Head(NamedTuple):
    """What every line begins with; `at` as it is written."""

    seq: int
    at: str
    event: str

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.at)


Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""As much as every reader can hold, such as SQLite."""


class _Head(msgspec.Struct, frozen=True):
    seq: Number
    at: datetime
    event: str


def lines(path: Path, start: int = 0, keys: Sequence[Identity] = ()) -> Iterator[tuple[int, bytes]]:
    """The whole lines from byte `start` of the decoded recording on, without their newlines, each with where it begins.
    Ends before a half line. OSError, SealedError or BrokenError as `stored.reading`."""
    with stored.reading(path, keys) as file:
        place = 0
        if start and isinstance(file, io.BufferedReader) and file.seekable():
            place = file.seek(start)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            if place >= start:
                yield place, raw[:-1]
            place += len(raw)


def blocks_of(file: BinaryIO) -> Iterator[list[bytes]]:
    """All whole lines of a file that is open, many at once."""
    fd, place, rest = file.fileno(), 0, b""
    while data := os.pread(fd, 1 << 18, place):
        place += len(data)
        *whole, rest = (rest + data).split(b"\n")
        if whole:
            yield whole


def lines_of(file: BinaryIO, start: int) -> Iterator[tuple[int, bytes]]:
    """The same of a file that is open. Several may be read at once: each knows its own place."""
    fd, place, rest = file.fileno(), start, b""
    while data := os.pread(fd, _BLOCK, place):
        place += len(data)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield start, line
            start += len(line) + 1


def head(raw: bytes) -> Head | None:
    """The line's head; None where it is no line of a recording. Reads no further than it must: a line that was written
    by us has its head in front."""
    found = _HEAD.match(raw)
    try:
        if found is not None:
            seq, at, event = found.groups()
            return Head(int(seq), at.decode("ascii"), event.decode())
        slow = msgspec.json.decode(raw, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Head(slow.seq, slow.at.isoformat(), slow.event)


def event(raw: bytes) -> bytes | None:
    """The name of the line's event; None where the line has no head."""
    found = _HEAD.match(raw)
    if found is not None:
        return found[3]
    slow = head(raw)
    return slow.event.encode() if slow is not None else None


def events(lines: list[bytes]) -> list[bytes | None]:
    """As `event` for each; quick where all are lines as we write them, with numbers one after another."""
    return _alike(lines) or [event(line) for line in lines]


def _alike(lines: list[bytes]) -> list[bytes | None] | None:
    """The names, where all heads have one form; compared all at once. None: look at each."""
    head = _HEAD.match(lines[0])
    if head is None or head.start(3) - head.end(2) != 85 or len(lines[0]) < head.start(3):
        return None
    first, start, at, end = int(head[1]), head.start(2), head.end(2), head.start(3)
    numbers = b',"at":"{"seq":'.join([b"%d" % seq for seq in range(first, first + len(lines))])
    if b"".join([line[:start] for line in lines]) != b'{"seq":%b,"at":"' % numbers:
        return None
    links = b"".join([line[at:end] for line in lines])
    prevs = links[10:-11].split(_LINK)
    if links[:10] + links[-11:] != b'","prev":"","event":"' or len(prevs) != len(lines) or {*map(len, prevs)} != {64}:
        return None
    names = _Names()
    found: list[bytes | None] = [names[line[end : end + _LONGEST]] for line in lines]
    free = b"".join([line[start:at] for line in lines]) + b"".join(prevs) + b"".join(names.values())
    return None if b'"' in free or b"\\" in free or b"" in names.values() else found


class _Names(dict[bytes, bytes]):
    """What stands before the quote, by the bytes that hold both; nothing where they do not."""

    def __missing__(self, begin: bytes) -> bytes:
        self[begin] = name = begin[: max(0, begin.find(b'"'))]
        return name


def microseconds(at: str) -> int:
    """A line's time since 1970. ValueError where it is none."""
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError(f"{at!r} has no zone")
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def moment(microseconds: int) -> datetime:
    """What `microseconds` made a number of."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
