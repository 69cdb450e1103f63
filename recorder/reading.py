"""Opening: the one place that knows how a recording's lines are stored, and how to look at one without decoding it.

Search, replay, tail, export and report read files only through here, so that another stored form is a change of this
file. Must not know what a line says beyond its head. Invariant: what is handed out are whole lines, each with the
place where it begins in the decoded bytes, so that whoever stopped can go on there.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from recorder import stored
from recorder.stored import Identity

_HEAD = re.compile(rb'\{"seq":(\d+),"at":"([^"\\]+)","prev":"[^"\\]*","event":"([^"\\]+)"')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Head(NamedTuple):
    """What every line begins with; `at` as it is written."""

    seq: int
    at: str
    event: str

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.at)


class _Head(msgspec.Struct, frozen=True):
    seq: int
    at: datetime
    event: str


def opened(path: Path, keys: Sequence[Identity] = ()) -> BinaryIO:
    """The decoded bytes of a recording, to be read and sought in. As `stored.opened`."""
    return stored.opened(path, keys)


def lines(path: Path, start: int = 0, keys: Sequence[Identity] = ()) -> Iterator[tuple[int, bytes]]:
    """The whole lines from byte `start` on, without their newlines, each with where it begins. Ends before a half
    line."""
    if start:
        with opened(path, keys) as file:
            yield from lines_of(file, start)
        return
    with stored.reading(path, keys) as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            yield start, raw[:-1]
            start += len(raw)


def lines_of(file: BinaryIO, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """As `lines`, of an open file."""
    file.seek(start)
    for raw in file:
        if not raw.endswith(b"\n"):
            return
        yield start, raw[:-1]
        start += len(raw)


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
