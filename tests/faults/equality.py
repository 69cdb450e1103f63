"""The one law over all faults: what Postgres says it executed is what the recordings say was forwarded.

Postgres's side is its own log (`log_statement = all`), by backend; daypass's side is the recording of the session with
that backend, and what makes the two equal is the product's own `reconcile.align`: every line of the log is the next
statement of the record that is not passed over, and only what has an error for its outcome may be passed over.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from proxy.catalog import CATALOG_SETTINGS
from proxy.demo.postgres import PostgresServer
from proxy.policy.judgement import SPACE
from recorder.pglog import Ran
from recorder.reconcile import Sent, align
from tests.live.house import House, until

EXECUTED = re.compile(r"(statement|execute (?:fetch from )?[^:]*): (.*)", re.DOTALL)
CATALOG = CATALOG_SETTINGS["application_name"]
_marks = itertools.count(1)


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
                at = datetime.fromisoformat(row[0].replace(" UTC", "+00:00"))
                found.setdefault(int(row[3]), []).append(Ran(at, said[2], said[1] == "statement"))
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
            at = datetime.fromisoformat(event["at"])
            found.append(Sent(event["n"], at, event.get("protocol", "simple"), texts, outcome["sqlstate"]))
    return found


def differences(ran: list[Ran], record: list[Sent]) -> list[str]:
    """Where the log and the record of one session part; empty when they are equal."""
    strange, missing = align(ran, record)
    return [f"executed and not recorded as forwarded here: {line}" for line in strange] + [
        f"recorded as forwarded and well ended, not executed: {one}" for one in missing
    ]


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
