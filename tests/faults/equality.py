"""The one law over all faults: what Postgres says it executed is what the recordings say was forwarded.

Postgres's side is its own log (`log_statement = all`), by backend; daypass's side is the recording of the session with
that backend. In order: every line of the log is the next statement of the record that is not passed over, and only
what has an error for its outcome may be passed over (it was skipped behind an error, or failed before it ran).
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from proxy.catalog import CATALOG_SETTINGS
from proxy.demo.postgres import PostgresServer
from proxy.policy.judgement import SPACE
from tests.live.house import House, until

EXECUTED = re.compile(r"(statement|execute (?:fetch from )?[^:]*): (.*)", re.DOTALL)
IGNORED = re.compile(r"(?:[\s;]|--[^\n\r]*(?:[\n\r]|$)|/\*.*?\*/)*", re.DOTALL)
"""What may stand between the statements of one text."""
CATALOG = CATALOG_SETTINGS["application_name"]
_marks = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Ran:
    """One line of Postgres's log. `simple`: a whole Query message, of one or several statements."""

    simple: bool
    text: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One statement of a record that went upstream, or may have. `texts`: as typed, as rewritten."""

    n: int
    protocol: str
    texts: tuple[str, ...]
    sqlstate: str | None

    @property
    def optional(self) -> bool:
        """Whether it may be missing in the log: it has an error, or is an Execute of nothing, which is not logged."""
        return self.sqlstate is not None or (self.protocol == "extended" and bool(IGNORED.fullmatch(self.texts[0])))


class ServerLog:
    """Postgres's log, read from where the last look ended."""

    def __init__(self, pg: PostgresServer) -> None:
        self._pg = pg
        self._path = pg.data / "log" / "postgres.csv"
        self._at = self._path.stat().st_size if self._path.exists() else 0

    def settled(self, role: str, timeout: float = 20) -> dict[int, list[Ran]]:
        """What each backend of `role` executed since the last look, once none of them is left."""
        mark = f"log mark {next(_marks)}"
        with psycopg.connect(self._pg.dsn(), autocommit=True) as owner:
            for _ in until(timeout, 0.05):
                sql = "select count(*) from pg_stat_activity where usename = %s and application_name <> %s"
                left = owner.execute(sql, [role, CATALOG]).fetchone()
                if left == (0,):
                    break
            owner.execute(f"select '{mark}'")
        for _ in until(timeout, 0.05):
            # The log's own process writes it, some time after the fact.
            if mark.encode() in self._path.read_bytes()[self._at :]:
                return self.since(role)
        raise AssertionError("the mark never appeared in the server's log")

    def since(self, role: str) -> dict[int, list[Ran]]:
        """What each backend of `role` executed since the last look."""
        data = self._path.read_bytes()
        text = data[self._at :].decode(errors="replace")
        self._at = len(data)
        found: dict[int, list[Ran]] = {}
        for row in csv.reader(io.StringIO(text, newline="")):
            if len(row) < 23 or row[1] != role or row[11] != "LOG" or row[22] == CATALOG:
                continue
            if said := EXECUTED.fullmatch(row[13]):
                found.setdefault(int(row[3]), []).append(Ran(said[1] == "statement", said[2]))
        return found


def events_of(path: Path) -> list[dict[str, Any]]:
    """The events of a recording; a torn last line is left out."""
    found = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def sent(events: Iterable[dict[str, Any]]) -> list[Sent]:
    """What a recording says was forwarded to be executed, in order."""
    events = list(events)
    outcomes = {event["n"]: event for event in events if event["event"] == "outcome"}
    found = []
    for event in events:
        if event["event"] != "statement" or event["verdict"] == "deny":
            continue
        if event.get("protocol", "simple") not in ("simple", "extended"):
            continue
        outcome = outcomes.get(event["n"], {"sqlstate": "none yet"})
        if outcome.get("sent", True):
            texts = (event["sql"].strip(SPACE), *([event["rewritten"]] if event["rewritten"] else []))
            found.append(Sent(event["n"], event.get("protocol", "simple"), texts, outcome["sqlstate"]))
    return found


def differences(ran: list[Ran], record: list[Sent]) -> list[str]:
    """Where the log and the record of one session part; empty when they are equal."""
    found: list[str] = []
    # Every place of the record that the log may have come to: some of what is recorded may be missing.
    places = {0}
    for line in ran:
        after = {end for place in places for at in _passing(record, place) if (end := _strike(line, record, at)) > at}
        if not after:
            found.append(f"executed and not recorded as forwarded here: {line}; next {record[min(places) :][:3]}")
        places = after or places
    rest = record[max(places) :]
    return found + [f"recorded as forwarded and well ended, not executed: {s}" for s in rest if not s.optional]


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
        return at + (line.text.strip(SPACE) in record[at].texts)
    pos = 0
    while at < len(record) and record[at].protocol == "simple":
        ends = [end for text in record[at].texts if (end := _found(line.text, pos, text)) >= 0]
        if not ends or (pos and not record[at].texts[0]):
            return at
        pos = max(ends)
        at += 1
        if IGNORED.fullmatch(line.text, pos):
            return at
    return at


def _found(text: str, pos: int, piece: str) -> int:
    """Where `piece` ends in `text`, when only what is ignored stands before it; -1 otherwise."""
    at = text.find(piece, pos)
    return at + len(piece) if at >= 0 and IGNORED.fullmatch(text, pos, at) else -1


def compare(house: House, log: dict[int, list[Ran]]) -> tuple[int, int, list[str]]:
    """(sessions, statements executed, differences) of all recordings of a house whose backends stand in `log`."""
    sessions = statements = 0
    found: list[str] = []
    unknown = set(log)
    for path in house.recordings():
        events = events_of(path)
        pid = events[0].get("upstream_pid") if events else None
        if pid not in log:
            continue
        unknown.discard(pid)
        sessions += 1
        statements += len(log[pid])
        found += [f"{path.stem}: {text}" for text in differences(log[pid], sent(events))]
    found += [f"backend {pid} has no recording: {log[pid][:2]}" for pid in unknown]
    return sessions, statements, found
