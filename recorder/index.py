"""Which sessions are there: read from the first and last lines of the files, and the node log's seals.

A cheap look for people; it proves nothing (that is `verify`'s). Keeps nothing on disk. Invariant: every recording
that is on disk or named in the node log is listed, readable or not.
"""

import contextlib
from collections import deque
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from recorder import files, nodelog, stored
from recorder.entries import Expired, Opened, Seal, Stored
from recorder.events import SessionEnd, SessionStart
from recorder.stored import BrokenError, SealedError

_BLOCK = 1 << 16
T = TypeVar("T")


class NotFoundError(LookupError):
    """No recording has that id, or several begin with it."""


@dataclass(frozen=True, slots=True)
class Session:
    """One line of `session list`. `ended_at` of an interrupted session is the time of its last line. The sums are
    those of the session's end, None where it has none. `state` is sealed, open, interrupted, or damaged where the
    file is gone or its start unreadable."""

    session: str
    grant: str | None
    person: str | None
    vendor: str | None
    database: str | None
    policy: str | None
    client_address: str | None
    application_name: str | None
    started_at: datetime | None
    ended_at: datetime | None
    state: str
    end: str | None
    statements: int | None
    refused: int | None
    rows: int | None
    recording: str

    @property
    def path(self) -> Path:
        """The recording's file."""
        return Path(self.recording)

    def to_dict(self) -> dict[str, Any]:
        """As `session list -o json` prints it: times in RFC 3339 UTC."""
        values: dict[str, Any] = msgspec.to_builtins(asdict(self))
        return values


class _Start(SessionStart, frozen=True, kw_only=True, omit_defaults=True, tag="session.start"):
    at: datetime


class _Last(msgspec.Struct, frozen=True):
    at: datetime
    event: str


def sessions(directory: Path) -> list[Session]:
    """All sessions of a recordings folder, the oldest first. Empty where nothing was ever recorded."""
    directory = directory.absolute()
    found = {stored.session_id(file): file for file in stored.session_files(directory)}
    log = nodelog.Follower(directory / files.NODE)
    states: dict[str, str] = {}
    about: dict[str, Stored] = {}
    expired: dict[str, str] = {}
    """The grants of what was deleted, as far as its tombstone knows them."""

    def read_log() -> None:
        for entry in log.news() if (directory / files.NODE).exists() else ():
            if isinstance(entry, Opened):
                found.setdefault(entry.id, entry.file)
            elif isinstance(entry, Seal):
                states[entry.id] = entry.state
            elif isinstance(entry, Stored):
                about[entry.id] = entry
            elif isinstance(entry, Expired):
                states[entry.id], expired[entry.id] = "expired", entry.grant

    read_log()
    left = {id_: files.held(directory / file) for id_, file in found.items() if id_ not in states}
    read_log()  # a writer seals before it lets go: what was not held may have been sealed since
    states = {id_: "open" if held else "interrupted" for id_, held in left.items()} | states
    listed = [
        _told(directory, about[id_], file, states.get(id_, "sealed"))
        if id_ in about
        else _session(directory, id_, file, states.get(id_, "open"), grant=expired.get(id_))
        for id_, file in found.items()
    ]
    return sorted(listed, key=lambda session: (str(session.started_at or ""), session.session))


def find(directory: Path, wanted: str) -> Session:
    """The session with this id, or the only one whose id begins so. NotFoundError says what is there instead."""
    everything = sessions(directory)
    exact = [session for session in everything if session.session == wanted]
    close = exact or [session for session in everything if wanted and session.session.startswith(wanted)]
    if len(close) == 1:
        return close[0]
    if close:
        raise NotFoundError(f"{len(close)} sessions begin with {wanted!r}: {', '.join(s.session for s in close[:5])}")
    raise NotFoundError(f"no recording {wanted!r} in {directory} ({len(everything)} recordings)")


def _session(directory: Path, id_: str, file: str, state: str, *, grant: str | None = None) -> Session:
    path = directory / file
    start, last, end = None, None, None
    try:
        first, ends = _ends(path)
        start = _decode(first, _Start)
        for raw in reversed(ends):
            line = _decode(raw, _Last)
            if line is not None and line.event != "recovered":
                last, end = line, _decode(raw, SessionEnd)
                break
    except (OSError, BrokenError):
        state = "expired" if state == "expired" else "damaged"
    except SealedError:
        return _told(directory, Stored(**_NOTHING, id=id_, file=file, was=file), file, state)
    return Session(
        session=id_,
        grant=start.grant if start else grant or None,
        person=start.person if start else None,
        vendor=start.vendor if start else None,
        database=start.database if start else None,
        policy=start.policy if start else None,
        client_address=start.client_address if start else None,
        application_name=start.application_name if start else None,
        started_at=start.at if start else None,
        ended_at=last.at if last and state != "open" else None,
        state=state if start or state != "sealed" else "damaged",
        end=end.reason if end else None,
        statements=end.statements if end else None,
        refused=end.refused if end else None,
        rows=end.rows if end else None,
        recording=str(path),
    )


def _told(directory: Path, entry: Stored, file: str, state: str) -> Session:
    """A session that the node log itself tells about; its recording needs not be opened, and may be encrypted."""
    path = stored.locate(directory / file)
    facts = dict.fromkeys(Session.__slots__) | entry.about
    for name in ("started_at", "ended_at"):
        facts[name] = msgspec.convert(facts[name], datetime | None)
    known = {name: value for name, value in facts.items() if name in Session.__slots__}
    known |= {"session": entry.id, "recording": str(path)}
    known["state"] = state if state == "expired" or path.exists() else "damaged"
    return Session(**cast(Any, known))


def about(directory: Path, id_: str, file: str) -> dict[str, Any]:
    """What `Stored.about` keeps of a plain recording: all that a list shows, but where it lies and its state."""
    values = _session(directory, id_, file, "sealed").to_dict()
    return {name: value for name, value in values.items() if value is not None and name not in _NOT_KEPT}


_NOTHING: dict[str, Any] = {"bytes": 0, "sha256": "", "plain_bytes": 0, "plain_sha256": "", "lines": 0, "last": ""}
_NOT_KEPT = frozenset({"session", "state", "recording"})


def _decode(raw: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _ends(path: Path) -> tuple[bytes, list[bytes]]:
    """The first line of a recording, and its last two."""
    with contextlib.suppress(FileNotFoundError):
        if stored.suffix(path) in ("", stored.PLAIN):
            with path.open("rb") as lines:
                return lines.readline(), _last_lines(path, 2)
    with stored.reading(path) as whole:
        first = whole.readline()
        last = list(deque(whole, 2))
        return first, [line.rstrip(b"\n") for line in last]


def _last_lines(path: Path, count: int) -> list[bytes]:
    """The last whole lines of a file, read backwards."""
    with path.open("rb") as file:
        start, data = file.seek(0, 2), b""
        while start > 0 and data.count(b"\n") <= count:
            step = min(max(_BLOCK, len(data)), start)
            start -= step
            file.seek(start)
            data = file.read(step) + data
    return data[: data.rfind(b"\n") + 1].split(b"\n")[:-1][-count:]
