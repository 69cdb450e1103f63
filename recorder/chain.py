"""The chain: how an event becomes a line that pins every line before it.

A line is `{"seq":N,"at":"…","prev":"…","event":…}`; `seq` is its line number from 1, `prev` the SHA-256 (hex) of the
line before, raw bytes without the newline, and 64 zeros on the first line. Knows bytes only: no paths, no keys, no
clock.

Invariant: two different histories never share a last hash.
"""

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime

import msgspec

GENESIS = "0" * 64
_BLOCK = 1 << 16
_at = msgspec.json.Encoder()


class Line(msgspec.Struct, frozen=True):
    """The part of a line that the chain needs; unknown keys are skipped."""

    seq: int
    at: str
    prev: str
    event: str


_line = msgspec.json.Decoder(Line)


@dataclass(frozen=True, slots=True)
class Head:
    """A place in a chain: the last line's number and hash. `Head(0, GENESIS)` is before the first line."""

    seq: int
    hash: str


START = Head(0, GENESIS)


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a file: the last whole line, where it ends (bytes), and what stands torn after it."""

    head: Head
    whole: int
    torn: bytes
    event: str


def stamp(at: datetime) -> bytes:
    """The time as a JSON string, RFC 3339 UTC. `at` must be aware."""
    return _at.encode(at)


def compose(seq: int, at: bytes, prev: str, body: bytes) -> bytes:
    """The line (no newline) of an encoded event `body`; `at` as `stamp` gives it."""
    return b'{"seq":%d,"at":%b,"prev":"%b",%b' % (seq, at, prev.encode(), body[1:])


def digest(line: bytes) -> str:
    """The hash that the next line carries as `prev`. `line` without its newline."""
    return hashlib.sha256(line).hexdigest()


def decode(line: bytes) -> Line | None:
    """The chain's part of a line, or None where it is no line of ours."""
    try:
        return _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_tail(fd: int, size: int) -> Tail:
    """The end of the file of `size` bytes behind `fd`, read backwards. A last whole line that is no line of ours
    still gets its number (by counting lines) and its hash, so that a chain can go on behind damage that `verify` will
    report."""
    data, start = b"", size
    while start > 0 and data.count(b"\n") < 2:
        step = min(max(_BLOCK, len(data)), start)
        start -= step
        data = os.pread(fd, step, start) + data
    end = data.rfind(b"\n")
    if end < 0:
        return Tail(START, 0, data, "")
    raw = data[data.rfind(b"\n", 0, end) + 1 : end]
    line = decode(raw)
    seq = line.seq if line is not None and line.seq > 0 else _count(fd, size)
    return Tail(Head(seq, digest(raw)), start + end + 1, data[end + 1 :], line.event if line else "")


def _count(fd: int, size: int) -> int:
    return sum(os.pread(fd, _BLOCK, at).count(b"\n") for at in range(0, size, _BLOCK))
