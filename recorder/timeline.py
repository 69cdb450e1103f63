"""A recording as people see it: its events in order, each with its distance from the start.

Replay, console and report read this one view. Must not know terminals or files' seals. Invariant: unknown events and
keys are passed on as they are; a recording of a newer version can still be read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from recorder import events, reading
from recorder.stored import Identity

_KINDS: dict[str, type[events.Event]] = {
    "session.start": events.SessionStart,
    "statement": events.Statement,
    "outcome": events.Outcome,
    "hold": events.HoldEvent,
    "rows": events.Rows,
    "notice": events.Notice,
    "notification": events.Notification,
    "cancel": events.Cancel,
    "session.end": events.SessionEnd,
    "login": events.Login,
    "grant": events.GrantEvent,
    "access": events.AccessEvent,
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


def read(path: Path, keys: Sequence[Identity] = ()) -> Iterator[Entry]:
    """The entries of one recording, read as they are asked for. Stops before a half line at the end; skips what is no
    line of a recording (`verify` reports it). OSError, SealedError or BrokenError as `stored.reading`."""
    first: datetime | None = None
    offset = 0.0
    for raw in lines(path, keys):
        one = entry(raw, first, offset)
        if one is not None:
            first, offset = first or one.at, one.offset
            yield one


def entry(raw: bytes, first: datetime | None, offset: float) -> Entry | None:
    """One line; None where it is none of a recording. `first` is the time of the first one (None: this is it),
    `offset` that of the one before."""
    try:
        header = msgspec.json.decode(raw, type=_Header)
        event = _event(raw, header.event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Entry(header.seq, header.at, max(offset, (header.at - (first or header.at)).total_seconds()), event)


def texts(of: Entry) -> list[str]:
    """What can be searched for in an entry: what was said, by whom and to whom."""
    event = of.event
    match event:
        case events.Statement():
            return [event.sql, event.reason, event.rule or "", *(str(value) for value in event.params or ())]
        case events.Outcome():
            return [event.error, event.sqlstate or ""]
        case events.Rows():
            return [str(value) for row in event.values or () for value in row] + [
                str(line) for line in event.copy or ()
            ]
        case events.Notice():
            return [event.text, event.sqlstate]
        case events.HoldEvent():
            return [event.hold, event.state, event.sql or "", event.reason, event.by]
        case events.SessionEnd():
            return [event.reason, event.detail or ""]
    return []


def lines(path: Path, keys: Sequence[Identity] = ()) -> Iterator[bytes]:
    """The whole lines of a recording, decoded from however it is stored, without their newlines."""
    return (raw for _, raw in reading.lines(path, keys=keys))


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


def summary(path: Path, keys: Sequence[Identity] = ()) -> Summary:
    """Count a whole recording."""
    total = Summary()
    for entry in read(path, keys):
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


REFUSED = frozenset({"deny"})
"""Verdicts under which nothing went to the database. `hold` is that of what ran because somebody approved it."""
