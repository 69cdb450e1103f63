"""The sums of many recordings: what one grant, person or vendor did in a period, as one value.

Reports, grant reviews, evidence bundles and digests say what this says. Reads the recordings themselves, never the
search index. Must not print, and must not judge whether a recording is whole (that is `verify`'s). Invariant: the
value holds names of objects and counts, never a statement's text, a literal or a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from recorder import files, index, oddities, reading
from recorder.events import Login, Outcome, SessionEnd, SessionStart, Statement
from recorder.index import Session
from recorder.oddities import Odd
from recorder.stored import BrokenError, Identity, SealedError
from recorder.timeline import REFUSED


class Use(msgspec.Struct):
    """What was done with a table: statements that named it, and the rows that these gave (of all their tables)."""

    statements: int = 0
    rows: int = 0


class Hour(msgspec.Struct):
    """One hour's statements; `refused` are among them."""

    statements: int = 0
    refused: int = 0


class Work(msgspec.Struct):
    """What was done with one grant. Empty names: the start of none of its sessions could be read."""

    person: str = ""
    vendor: str = ""
    database: str = ""
    sessions: int = 0
    statements: int = 0
    refused: int = 0
    rows: int = 0


class Summary(msgspec.Struct, kw_only=True):
    """The sums. `refused` were not run (`refusals` by rule), `failed` ended in an SQLSTATE of the server. The mappings
    of people and places count sessions; those of objects count statements. Hours are RFC 3339 UTC."""

    grant: str | None = None
    person: str | None = None
    vendor: str | None = None
    of_databases: list[str] = []
    since: datetime | None = None
    until: datetime | None = None
    sessions: int = 0
    open: int = 0
    statements: int = 0
    refused: int = 0
    held: int = 0
    masked: int = 0
    failed: int = 0
    cancelled: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    first: datetime | None = None
    last: datetime | None = None
    refusals: dict[str, int] = {}
    errors: dict[str, int] = {}
    kinds: dict[str, int] = {}
    tables: dict[str, Use] = {}
    functions: dict[str, int] = {}
    columns: dict[str, int] = {}
    hours: dict[str, Hour] = {}
    persons: dict[str, int] = {}
    vendors: dict[str, int] = {}
    grants: dict[str, int] = {}
    work: dict[str, Work] = {}
    databases: dict[str, int] = {}
    policies: dict[str, int] = {}
    addresses: dict[str, int] = {}
    applications: dict[str, int] = {}
    ends: dict[str, int] = {}
    logins_refused: int = 0
    unusual: list[Odd] = []


class _Columns(msgspec.Struct, frozen=True):
    columns: list[str] = []


def summarise(
    folder: Path,
    *,
    grant: str | None = None,
    person: str | None = None,
    vendor: str | None = None,
    databases: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    keys: Sequence[Identity] = (),
) -> Summary:
    """Count the sessions that were open in the period (`since` ≤ time < `until`, both aware) and what was done in it.
    OSError where the folder cannot be read; a recording that is gone is among `unusual`."""
    total = Summary(grant=grant, person=person, vendor=vendor, of_databases=[*databases], since=since, until=until)
    for session in chosen(
        index.sessions(folder),
        grant=grant,
        person=person,
        vendor=vendor,
        databases=databases,
        since=since,
        until=until,
    ):
        _Counting(total, session, keys).run()
    _logins(total, folder)
    total.unusual += oddities.of_all(total.addresses, total.grants, total.logins_refused)
    return total


def chosen(
    sessions: Iterable[Session],
    *,
    grant: str | None = None,
    person: str | None = None,
    vendor: str | None = None,
    databases: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Session]:
    """Those of a grant, a person, a vendor, in one of the databases (none named: in any), that were open in the
    period. One whose start cannot be read belongs to nobody, so it is left out wherever somebody is asked for."""
    for session in sessions:
        asked = ((grant, session.grant), (person, session.person), (vendor, session.vendor))
        if any(wanted not in (None, found) for wanted, found in asked):
            continue
        if databases and session.database not in databases:
            continue
        if session.state == "expired" and session.started_at is None and (since or until) is not None:
            continue  # deleted as it should be, and nobody knows when it was
        if since is not None and session.ended_at is not None and session.ended_at < since:
            continue
        if until is not None and session.started_at is not None and session.started_at >= until:
            continue
        yield session


class _Counting:
    """Adds one session to the sums."""

    def __init__(self, total: Summary, session: Session, keys: Sequence[Identity]) -> None:
        self._keys = keys
        self._total = total
        self._session = session
        self._running: dict[int, Statement] = {}
        self._seen = oddities.Watch(session)
        self._work = total.work.setdefault(session.grant, Work()) if session.grant else Work()

    def run(self) -> None:
        total, session = self._total, self._session
        total.sessions += 1
        total.open += session.state == "open"
        work = self._work
        work.sessions += 1
        work.person, work.vendor, work.database = (
            new or old
            for new, old in (
                (session.person, work.person), (session.vendor, work.vendor), (session.database, work.database)
            )
        )  # fmt: skip
        for counts, value in (
            (total.persons, session.person),
            (total.vendors, session.vendor),
            (total.grants, session.grant),
            (total.databases, session.database),
            (total.policies, session.policy),
            (total.addresses, host(session.client_address or "") or None),
            (total.applications, session.application_name),
        ):
            if value:
                _add(counts, value)
        first, last = None, None
        try:
            for _, raw in reading.lines(session.path, keys=self._keys):
                head = reading.head(raw)
                if head is None or not self._within(head):
                    continue
                first, last = first or head.at, head.at
                self._line(head, raw)
        except SealedError:
            self._seen.encrypted()
            self._known_from_outside()
        except OSError as cause:
            self._seen.unreadable(cause.strerror or str(cause))
        except BrokenError as cause:
            self._seen.unreadable(str(cause))
        if first is not None and last is not None:
            begin, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
            total.first = min(total.first or begin, begin)
            total.last = max(total.last or end, end)
            total.seconds += max(0.0, (end - begin).total_seconds())
        total.unusual += self._seen.found()

    def _known_from_outside(self) -> None:
        """The node log keeps the sums of an encrypted recording: they belong to the period in which it ended."""
        total, session, ended = self._total, self._session, self._session.ended_at
        if ended is None or (total.until is not None and ended >= total.until):
            return
        for of in (total, self._work):
            of.statements += session.statements or 0
            of.refused += session.refused or 0
            of.rows += session.rows or 0
        begin = session.started_at or ended
        begin = begin if total.since is None else max(begin, total.since)
        total.first, total.last = min(total.first or begin, begin), max(total.last or ended, ended)
        total.seconds += max(0.0, (ended - begin).total_seconds())

    def _within(self, head: reading.Head) -> bool:
        since, until = self._total.since, self._total.until
        return (since is None or head.time >= since) and (until is None or head.time < until)

    def _line(self, head: reading.Head, raw: bytes) -> None:
        total = self._total
        try:
            match head.event:
                case "statement":
                    self._statement(msgspec.json.decode(raw, type=Statement), head, raw)
                case "outcome":
                    self._outcome(msgspec.json.decode(raw, type=Outcome), head)
                case "session.start":
                    self._seen.start(msgspec.json.decode(raw, type=SessionStart))
                case "session.end":
                    end = msgspec.json.decode(raw, type=SessionEnd)
                    _add(total.ends, end.reason)
                    self._seen.end(end, head.time)
                case "cancel":
                    total.cancelled += 1
        except msgspec.DecodeError:
            return

    def _statement(self, statement: Statement, head: reading.Head, raw: bytes) -> None:
        total = self._total
        total.statements += 1
        self._work.statements += 1
        hour = total.hours.setdefault(head.at[:13] + ":00:00Z", Hour())
        hour.statements += 1
        if statement.kind:
            _add(total.kinds, statement.kind)
        total.masked += statement.verdict == "mask"
        total.held += statement.verdict == "hold"
        if statement.verdict in REFUSED:
            total.refused += 1
            self._work.refused += 1
            hour.refused += 1
            _add(total.refusals, statement.rule or "unknown")
            self._seen.refused(statement.rule or "unknown", head.time)
        for name in set(statement.tables):
            total.tables.setdefault(name, Use()).statements += 1
        for name in set(statement.functions):
            _add(total.functions, name)
        if b'"columns":[' in raw:
            for name in set(msgspec.json.decode(raw, type=_Columns).columns):
                _add(total.columns, name)
        self._running[statement.n] = statement

    def _outcome(self, outcome: Outcome, head: reading.Head) -> None:
        total = self._total
        statement = self._running.pop(outcome.n, None)
        total.rows += outcome.rows
        self._work.rows += outcome.rows
        total.bytes += outcome.bytes
        if outcome.sqlstate is not None and not (statement and statement.verdict in REFUSED):
            total.failed += 1
            _add(total.errors, outcome.sqlstate)
        if statement is not None:
            for name in set(statement.tables):
                total.tables.setdefault(name, Use()).rows += outcome.rows
        self._seen.outcome(outcome, head.time)


def host(address: str) -> str:
    """A client's address without its port."""
    before, colon, port = address.rpartition(":")
    return before.strip("[]") if colon and port.isdigit() else address


def _logins(total: Summary, folder: Path) -> None:
    """Logins that opened no session. They name a grant or none, and no person."""
    path = folder / files.INSTALLATION
    if total.person is not None or total.vendor is not None or total.of_databases or not path.exists():
        return
    for _, raw in reading.lines(path):
        head = reading.head(raw)
        if head is None or head.event != "login":
            continue
        if (total.since and head.time < total.since) or (total.until and head.time >= total.until):
            continue
        try:
            login = msgspec.json.decode(raw, type=Login)
        except msgspec.DecodeError:
            continue
        if login.outcome != "ok" and total.grant in (None, login.grant, login.user):
            total.logins_refused += 1


def _add(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
