"""Completeness: the record held against what Postgres itself logged.

A connection in Postgres's log is that of a recorded session when process id and start agree. Of such a pair every
statement of the log has to be the next one recorded as sent, and every one recorded as sent and well ended has to be in
the log. A connection of the same roles that no session has did not come through daypass. Must not know how logs are
written (`pglog`). Invariant: what the logs do not cover is said to be so, and is neither right nor wrong.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from recorder import pglog, timeline
from recorder.events import Outcome, SessionEnd, SessionStart, Statement
from recorder.pglog import Backend, Log, Ran
from recorder.stored import Identity

SLACK = 30.0
"""Seconds between a backend's start, by Postgres's clock, and its session's, by ours."""
OWN = "daypass "
"""How the application names of daypass's own connections begin."""
_AHEAD = 1000
"""How many recorded statements may be missing in a row, and the log still be followed."""
_SPACE = " \t\n\r\f\v"
_IGNORED = re.compile(r"(?:[\s;]|--[^\n\r]*(?:[\n\r]|$)|/\*.*?\*/)*", re.DOTALL)
"""What may stand between the statements of one text."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One statement that the record says went to Postgres, or may have. `texts`: as typed, as rewritten."""

    n: int
    at: datetime
    protocol: str
    texts: tuple[str, ...]
    sqlstate: str | None

    @property
    def optional(self) -> bool:
        """Whether it may be missing in the log: it has an error, or is an Execute of nothing, which is not logged."""
        return self.sqlstate is not None or (self.protocol == "extended" and bool(_IGNORED.fullmatch(self.texts[0])))


@dataclass(slots=True)
class Recorded:
    """A recorded session, as far as it matters here."""

    session: str
    pid: int
    start: datetime
    end: datetime | None
    sent: list[Sent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that one side has and the other has not. `kind`: foreign (a whole connection), unrecorded, missing."""

    kind: str
    at: datetime
    session: str | None
    user: str
    database: str
    pid: int
    application: str
    address: str
    statements: int
    text: str


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The result. `uncovered` are sessions of which the logs do not tell; `own` counts daypass's own statements."""

    sessions: int
    statements: int
    roles: tuple[str, ...]
    uncovered: tuple[str, ...]
    own: int
    lines: int
    unreadable: int
    first: datetime | None
    last: datetime | None
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """As `recording reconcile -o json` prints it."""
        found: dict[str, Any] = msgspec.to_builtins({"ok": self.ok, **asdict(self)})
        return found


def recorded(path: Path, keys: Sequence[Identity] = ()) -> Recorded | None:
    """What a recording says was sent; None where it has no start or never had a backend. As `timeline.read` raises."""
    found: Recorded | None = None
    waiting: dict[int, tuple[Statement, datetime]] = {}
    outcomes: dict[int, Outcome] = {}
    for entry in timeline.read(path, keys):
        event = entry.event
        if isinstance(event, SessionStart) and event.upstream_pid is not None:
            found = Recorded(event.session, event.upstream_pid, entry.at, None)
        elif isinstance(event, Statement):
            if event.verdict not in timeline.REFUSED and event.protocol in ("simple", "extended"):
                waiting[event.n] = event, entry.at
        elif isinstance(event, Outcome):
            outcomes[event.n] = event
        elif isinstance(event, SessionEnd) and found is not None:
            found.end = entry.at
    for n, (statement, at) in waiting.items():
        outcome = outcomes.get(n)
        if found is not None and (outcome is None or outcome.sent):
            texts = (statement.sql.strip(_SPACE), *([statement.rewritten] if statement.rewritten else []))
            sqlstate = outcome.sqlstate if outcome is not None else "none yet"
            found.sent.append(Sent(n, at, statement.protocol, texts, sqlstate))
    return found


def reconcile(
    sessions: Iterable[Recorded], read: Callable[[set[int], set[str]], Log], *, roles: Iterable[str] = ()
) -> Reconciled:
    """Compare. `read` gives the log of these process ids and users; it is asked again when the sessions show roles that
    were not named."""
    known = list(sessions)
    named = set(roles)
    log = read({one.pid for one in known}, named)
    pairs = _pairs(known, log)
    shown = named | {backend.user for _, backend in pairs}
    if shown - named:
        log = read({one.pid for one in known}, shown)
        pairs = _pairs(known, log)
    differences: list[Difference] = []
    statements = 0
    for one, backend in pairs:
        statements += len(backend.ran)
        differences += _compare(one, backend)
    paired = {id(backend) for _, backend in pairs}
    own = 0
    for backend in log.backends.values():
        if id(backend) in paired or backend.user not in shown:
            continue
        if backend.application.startswith(OWN):
            own += len(backend.ran)
        elif backend.ran:
            differences.append(_difference("foreign", backend, None, backend.ran[0], len(backend.ran)))
    met = {one.session for one, _ in pairs}
    uncovered: list[Recorded] = []
    lost: list[Recorded] = []
    for one in known:
        if one.session not in met:
            (lost if _covered(one, log) and any(not sent.optional for sent in one.sent) else uncovered).append(one)
    differences += [_missing(one, None, sent) for one in lost for sent in one.sent if not sent.optional]
    return Reconciled(
        sessions=len(pairs) + len(lost),
        statements=statements,
        roles=tuple(sorted(shown)),
        uncovered=tuple(one.session for one in uncovered),
        own=own,
        lines=log.lines,
        unreadable=log.unreadable,
        first=log.first,
        last=log.last,
        differences=tuple(sorted(differences, key=lambda one: one.at)),
    )


def _pairs(sessions: list[Recorded], log: Log) -> list[tuple[Recorded, Backend]]:
    """Sessions and their connections: same process id, nearest start; each connection once."""
    by_pid: dict[int, list[Recorded]] = {}
    for one in sessions:
        by_pid.setdefault(one.pid, []).append(one)
    found, taken = [], set()
    for backend in log.backends.values():
        near = [
            one
            for one in by_pid.get(backend.pid, ())
            if one.session not in taken and pglog.near(one.start, backend.started, SLACK)
        ]
        if near and not backend.application.startswith(OWN):
            best = min(near, key=lambda one: abs(one.start - backend.started))
            taken.add(best.session)
            found.append((best, backend))
    return found


def _covered(one: Recorded, log: Log) -> bool:
    """Whether the logs tell of the whole time of a session."""
    return (
        log.first is not None and log.last is not None and log.first <= one.start <= (one.end or one.start) <= log.last
    )


def _compare(one: Recorded, backend: Backend) -> list[Difference]:
    plain = [ran for ran in backend.ran if not ran.audit]
    if not plain:  # pgAudit alone: it may log some classes only, so nothing can be missed in it
        texts = [text for sent in one.sent for text in sent.texts]
        strange = [ran for ran in backend.ran if not any(_has(text, ran.text) for text in texts)]
        return [_difference("unrecorded", backend, one.session, ran, 1) for ran in strange]
    strange, missing = align(plain, one.sent)
    return [_difference("unrecorded", backend, one.session, ran, 1) for ran in strange] + [
        _missing(one, backend, sent) for sent in missing
    ]


def _has(text: str, logged: str) -> bool:
    return logged.strip(_SPACE + ";") in text or text in logged


def align(ran: list[Ran], record: list[Sent]) -> tuple[list[Ran], list[Sent]]:
    """(executed and not recorded here, recorded as sent and well ended and not executed), both in order."""
    strange: list[Ran] = []
    missing: list[Sent] = []
    # Every place of the record that the log may have come to: some of what is recorded may be missing.
    places = {0}
    for line in ran:
        after = {end for place in places for at in _passing(record, place) if (end := _strike(line, record, at)) > at}
        if not after:
            last = max(places)
            ahead = ((at, _strike(line, record, at)) for at in range(last, min(last + _AHEAD, len(record))))
            found = next(((at, end) for at, end in ahead if end > at), None)
            if found is None:
                strange.append(line)
            else:  # what lies between was recorded, and is not here
                missing += [sent for sent in record[last : found[0]] if not sent.optional]
                after = {found[1]}
        places = after or places
    return strange, missing + [sent for sent in record[max(places) :] if not sent.optional]


def _passing(record: list[Sent], place: int) -> Iterator[int]:
    """`place`, and the places behind it that are reached by passing over what may be missing."""
    yield place
    while place < len(record) and record[place].optional:
        place += 1
        yield place


def _strike(line: Ran, record: list[Sent], at: int) -> int:
    """The place behind all statements of one line, `at` itself where the line does not begin there."""
    if at == len(record) or line.simple is not (record[at].protocol == "simple"):
        return at
    if not line.simple:
        return at + (line.text.strip(_SPACE) in record[at].texts)
    pos = 0
    while at < len(record) and record[at].protocol == "simple":
        ends = [end for text in record[at].texts if (end := _found(line.text, pos, text)) >= 0]
        if not ends or (pos and not record[at].texts[0]):
            return at
        pos = max(ends)
        at += 1
        if _IGNORED.fullmatch(line.text, pos):
            return at
    return at


def _found(text: str, pos: int, piece: str) -> int:
    """Where `piece` ends in `text`, when only what is ignored stands before it; -1 otherwise."""
    at = text.find(piece, pos)
    return at + len(piece) if at >= 0 and _IGNORED.fullmatch(text, pos, at) else -1


def _difference(kind: str, backend: Backend, session: str | None, ran: Ran, count: int) -> Difference:
    return Difference(
        kind=kind,
        at=ran.at,
        session=session,
        user=backend.user,
        database=backend.database,
        pid=backend.pid,
        application=backend.application,
        address=backend.address,
        statements=count,
        text=ran.text,
    )


def _missing(one: Recorded, backend: Backend | None, sent: Sent) -> Difference:
    return Difference(
        kind="missing",
        at=sent.at,
        session=one.session,
        user=backend.user if backend is not None else "",
        database=backend.database if backend is not None else "",
        pid=one.pid,
        application=backend.application if backend is not None else "",
        address=backend.address if backend is not None else "",
        statements=1,
        text=sent.texts[0],
    )
