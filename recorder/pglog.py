"""What Postgres itself saw: its csvlog and jsonlog files, as statements by backend.

Reads the lines of `log_statement` and of pgAudit; everything else passes unseen. Must not know recordings. Invariant: a
line that cannot be read is counted and never guessed at.
"""

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

_EXECUTED = re.compile(r"(statement|execute (?:fetch from )?[^:]*): (.*)", re.DOTALL)
_COLUMNS = 23
"""Of a csvlog line of Postgres 9.0 and later, at least; 14 has three more."""
_EVENT_TAGS = ("READ", "WRITE", "DDL", "ROLE", "FUNCTION", "MISC", "MISC_SET")


class LogError(Exception):
    """A file that is no log of Postgres in a form that can be read."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One statement line. `simple`: a whole Query message, of one or several statements; `audit`: a line of pgAudit,
    which has one line for each statement and perhaps not for all."""

    at: datetime
    text: str
    simple: bool
    audit: bool = False


@dataclass(slots=True)
class Backend:
    """One connection to Postgres, and what it executed, in order."""

    pid: int
    started: datetime
    user: str
    database: str
    application: str
    address: str
    ran: list[Ran] = field(default_factory=list)


@dataclass(slots=True)
class Log:
    """What was read: by Postgres's own session id, the times that the files cover, and lines that were none."""

    backends: dict[str, Backend] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    lines: int = 0
    unreadable: int = 0


class _Line(msgspec.Struct):
    """A line of jsonlog, as far as it matters here; a csvlog line is made one."""

    timestamp: str
    session_id: str = ""
    session_start: str = ""
    pid: int = 0
    user: str = ""
    dbname: str = ""
    remote_host: str = ""
    error_severity: str = ""
    message: str = ""
    application_name: str = ""


def read(paths: Iterable[Path], *, pids: set[int], users: set[str]) -> Log:
    """Read the files in the order of their names, keeping the backends with these process ids or users. LogError;
    OSError."""
    log = Log()
    for path in sorted(paths, key=lambda path: path.name):
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for line in _lines(path, file, log):
                _take(log, line, pids, users)
    return log


def _lines(path: Path, file: io.TextIOBase, log: Log) -> Iterator[_Line]:
    start = file.read(1)
    file.seek(0)
    if start == "{":
        decoder = msgspec.json.Decoder(_Line)
        for raw in file:
            try:
                yield decoder.decode(raw)
            except msgspec.DecodeError:
                log.unreadable += 1
        return
    csv.field_size_limit(sys.maxsize)
    known = False
    try:
        for row in csv.reader(file):
            if len(row) < _COLUMNS or not row[3].isdigit():
                log.unreadable += 1
                continue
            known = True
            yield _Line(row[0], row[5], row[8], int(row[3]), row[1], row[2], row[4], row[11], row[13], row[22])
    except csv.Error as cause:
        raise LogError(f"{path}: {cause}") from None
    if not known and start:
        raise LogError(f"{path} is no csvlog and no jsonlog of Postgres; log_destination = 'csvlog' writes one")


def _take(log: Log, line: _Line, pids: set[int], users: set[str]) -> None:
    log.lines += 1
    try:
        began = datetime.fromtimestamp(int(line.session_id.partition(".")[0], 16), UTC)
        at = _local(line.timestamp) - (_local(line.session_start) - began.replace(tzinfo=None))
        at = at.replace(tzinfo=UTC)
    except ValueError:
        log.unreadable += 1
        return
    log.first = at if log.first is None else min(log.first, at)
    log.last = at if log.last is None else max(log.last, at)
    if not line.user or (line.pid not in pids and line.user not in users):
        return
    backend = log.backends.get(line.session_id)
    if backend is None:
        address = line.remote_host
        backend = Backend(line.pid, began, line.user, line.dbname, line.application_name, address)
        log.backends[line.session_id] = backend
    backend.application = line.application_name or backend.application
    if line.error_severity == "LOG" and (ran := _ran(at, line.message)) is not None:
        backend.ran.append(ran)


def _local(text: str) -> datetime:
    """The time as it is written. What zone its letters mean, the session's id tells: it holds the start in UTC."""
    day, clock, *_ = text.split(" ")
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=None)


def _ran(at: datetime, message: str) -> Ran | None:
    if (said := _EXECUTED.fullmatch(message)) is not None:
        return Ran(at, said[2], said[1] == "statement")
    if message.startswith("AUDIT: SESSION,"):
        return _audited(at, message.removeprefix("AUDIT: "))
    return None


def _audited(at: datetime, text: str) -> Ran | None:
    """`SESSION,<statement>,<substatement>,<class>,<command>,<type>,<name>,<text>,<parameters>`"""
    row: list[Any] = next(csv.reader(io.StringIO(text, newline="")), [])
    if len(row) < 8 or row[3] not in _EVENT_TAGS or row[7].startswith("<"):
        return None
    return Ran(at, row[7], simple=False, audit=True)


def near(one: datetime, other: datetime, seconds: float) -> bool:
    """Whether the two lie so close together."""
    return abs(one - other) <= timedelta(seconds=seconds)
