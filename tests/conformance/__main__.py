"""`make conformance`: the drivers' own test suites, directly and through daypass in observe mode.

    make conformance ARGS='--suites psycopg2,asyncpg --servers 15,18 --tls'

Ends with 1 when a test passes directly, fails through daypass (twice), and is not in `known`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from proxy.demo.postgres import version
from tests.conformance.front import Front, front
from tests.conformance.install import Installed, InstallError, install
from tests.conformance.known import KNOWN
from tests.conformance.outcome import Difference, Run, SuiteError, differences, run, still
from tests.conformance.suites import SUITES
from tests.support.postgres import bindirs


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: one suite on one server, one way."""

    suite: str
    server: int
    way: str
    direct: str
    through: str
    seconds: tuple[int, int]
    differences: tuple[Difference, ...]

    @property
    def unknown(self) -> list[Difference]:
        """What nobody knew of."""
        return [each for each in self.differences if each.cause is None]


def compare(installed: Installed, place: Front, ways: list[str], tests: list[str], console: Console) -> list[Row]:
    """One suite on one server: directly once, then each way, and what differs unexpectedly once more both ways."""
    suite = installed.suite
    direct, direct_seconds = _timed(installed, place, "direct", tests)
    rows = []
    for way in ways:
        through, seconds = _timed(installed, place, way, tests)
        found = differences(suite.name, way, direct, through, KNOWN)
        new = [each for each in found if each.cause is None]
        if new:
            again = sorted({suite.every(each.test) for each in new})
            console.print(f"[dim]{suite.name}, {way}: {len(new)} again: {' '.join(again)}[/dim]", soft_wrap=True)
            pair = [_timed(installed, place, each, again)[0] for each in ("direct", way)]
            flaky, new = new, still(new, *pair)
            for each in flaky:
                if each not in new:
                    console.print(f"flaky: {each.test}: {each.reason}", soft_wrap=True, markup=False)
            found = [each for each in found if each.cause is not None or each in new]
        took = (direct_seconds, seconds)
        rows.append(Row(suite.name, place.server.version, way, direct.counts, through.counts, took, tuple(found)))
    return rows


def _timed(installed: Installed, place: Front, way: str, tests: list[str]) -> tuple[Run, int]:
    place.renew(installed.suite)
    began = time.monotonic()
    found = run(installed, place.places[way], tests)
    return found, round(time.monotonic() - began)


def show(rows: list[Row], console: Console) -> None:
    """The table, then every difference with its cause or its reason."""
    table = Table(box=None, pad_edge=False)
    for column in ("suite", "server", "way", "direct", "through", "s direct", "s through", "known", "unknown"):
        table.add_column(column, justify="left" if column in ("suite", "way") else "right", no_wrap=True)
    for row in rows:
        known = len(row.differences) - len(row.unknown)
        seconds = map(str, row.seconds)
        counts = (str(known), str(len(row.unknown)))
        table.add_row(row.suite, str(row.server), row.way, row.direct, row.through, *seconds, *counts)
    console.print(table)
    console.print("direct, through: passed/failed/skipped\n")
    for row in rows:
        for each in row.differences:
            where = f"{row.suite} {row.server} {row.way}"
            console.print(f"{where} {each.test}: {each.cause or each.through}", soft_wrap=True, markup=False)
            if each.cause is None:
                console.print(each.reason, soft_wrap=True, markup=False)


def main() -> int:
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(prog="make conformance ARGS=…")
    parser.add_argument("--suites", default=",".join(names), help=f"of {', '.join(names)}; all of them by default")
    parser.add_argument("--servers", default="", help="major versions, such as 15,18; all that are found by default")
    parser.add_argument("--tls", action="store_true", help="also under TLS on the client's side")
    parser.add_argument("--only-tls", action="store_true", help="under TLS only")
    parser.add_argument("--tests", default="", help="what to run instead of all: files, Django's labels")
    parser.add_argument("--cache", type=Path, default=Path(".conformance"), help="where the suites are installed")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--keep-log", type=Path, help="copy what daypass logged to this file")
    options = parser.parse_args()
    chosen = options.suites.split(",")
    if wrong := set(chosen) - set(names):
        parser.error(f"no such suite: {', '.join(sorted(wrong))}")
    console = Console(width=160, highlight=False)
    ways = ["tls"] if options.only_tls else ["plain", "tls"] if options.tls else ["plain"]
    servers = {version(bindir): bindir for bindir in reversed(bindirs())}
    wanted = [int(each) for each in options.servers.split(",")] if options.servers else sorted(servers)
    if absent := set(wanted) - set(servers):
        parser.error(f"no such server here: {', '.join(map(str, sorted(absent)))}")
    rows: list[Row] = []
    failed = False
    try:
        suites = [install(suite, options.cache.absolute()) for suite in SUITES if suite.name in chosen]
    except InstallError as problem:
        console.print(str(problem), markup=False)
        return 2
    for server in wanted:
        with front(servers[server], [installed.suite for installed in suites]) as place:
            for installed in suites:
                try:
                    mine = compare(installed, place, ways, options.tests.split(), console)
                except SuiteError as problem:
                    console.print(str(problem), soft_wrap=True, markup=False)
                    failed = True
                    continue
                for row in mine:
                    console.print(f"[dim]{row.suite} {row.server} {row.way}: {row.direct}, {row.through}[/dim]")
                rows += mine
            if options.keep_log:
                options.keep_log.write_bytes((place.served.folder / "serve.log").read_bytes())
    show(rows, console)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 1 if failed or any(row.unknown for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
