"""A recording as people see it: its events in order, each with its distance from the start.

Replay, console and report read this one view. Must not know terminals or files' seals. Invariant: unknown events and
keys are passed on as they are; a recording of a newer version can still be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from recorder import events

_KINDS: dict[str, type[events.Event]] = {
    "session.start": events.SessionStart,
    "statement": events.Statement,
    "outcome": events.Outcome,
    "rows": events.Rows,
    "notice": events.Notice,
    "notification": events.Notification,
    "cancel": events.Cancel,
    "session.end": events.SessionEnd,
    "login": events.Login,
    "grant": events.GrantEvent,
    "recovered": events.Recovered,
}


@dataclass(frozen=True, slots=True)
class Other:
    """An event that this version does not know, with all its keys."""

    event: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in its time. `offset` is in seconds from the first line, never negative and never falling."""

    seq: int
    at: datetime
    offset: float
    event: events.Event | Other


class _Header(msgspec.Struct, frozen=True):
    seq: int
    at: datetime
    event: str


def read(path: Path) -> Iterator[Entry]:
    """The entries of one recording, read as they are asked for. Stops before a half line at the end; skips what is no
    line of a recording (`verify` reports it). OSError when the file cannot be read."""
    first: datetime | None = None
    offset = 0.0
    for raw in lines(path):
        try:
            header = msgspec.json.decode(raw, type=_Header)
            event = _event(raw, header.event)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        first = first or header.at
        offset = max(offset, (header.at - first).total_seconds())
        yield Entry(header.seq, header.at, offset, event)


def lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a recording, decoded from however it is stored, without their newlines."""
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield raw[:-1]


def _event(raw: bytes, name: str) -> events.Event | Other:
    kind = _KINDS.get(name)
    if kind is not None:
        return msgspec.json.decode(raw, type=kind)
    data: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    return Other(name, {key: value for key, value in data.items() if key not in ("seq", "at", "prev", "event")})


@dataclass(slots=True)
class Summary:
    """The sums of one recording, counted from its lines (an open one has no end that says them)."""

    start: events.SessionStart | None = None
    end: events.SessionEnd | None = None
    statements: int = 0
    refused: int = 0
    failed: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0


def summary(path: Path) -> Summary:
    """Count a whole recording."""
    total = Summary()
    for entry in read(path):
        event = entry.event
        total.seconds = entry.offset
        if isinstance(event, events.SessionStart):
            total.start = event
        elif isinstance(event, events.Statement):
            total.statements += 1
            total.refused += event.verdict in REFUSED
        elif isinstance(event, events.Outcome):
            total.rows += event.rows
            total.bytes += event.bytes
            total.failed += event.sqlstate is not None
        elif isinstance(event, events.SessionEnd):
            total.end = event
    return total


REFUSED = frozenset({"deny", "hold"})
"""Verdicts under which nothing went to the database."""
