"""CSV: one line a statement, for a spreadsheet.

A cell that a spreadsheet would take for a formula begins with an apostrophe instead. Invariant: no cell of what a
client or a server sent begins with a character that begins a formula, and none holds a control character.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

import msgspec

from recorder import timeline
from recorder.events import SessionStart
from recorder.exchanges import Exchange, exchanges
from recorder.scene import visible
from recorder.stored import Identity

HEAD: Final = (
    "session", "person", "vendor", "grant", "database", "n", "at", "verdict", "rule", "reason", "kind", "sql", "params",
    "rewritten", "tables", "columns", "functions", "rows", "bytes", "ms", "first_ms", "sqlstate", "error", "tx",
    "protocol", "name",
)  # fmt: skip
_FORMULA: Final = "=+-@\uff1d\uff0b\uff0d\uff20|%"


def write(path: Path, out: TextIO, keys: Sequence[Identity] = ()) -> None:
    """The statements of a recording."""
    lines = csv.writer(out, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    lines.writerow(HEAD)
    who = ["", "", "", "", ""]
    for one in exchanges(timeline.read(path, keys)):
        if isinstance(one, Exchange):
            lines.writerow([*who, *_row(one)])
        elif isinstance(one.event, SessionStart):
            start = one.event
            who = [cell(text) for text in (start.session, start.person, start.vendor, start.grant, start.database)]


def _row(one: Exchange) -> list[str | int | float]:
    said, outcome = one.statement, one.outcome
    params = "" if said.params is None else msgspec.json.encode(said.params).decode()
    text = [said.verdict, said.rule or "", said.reason, said.kind, said.sql, params, said.rewritten or ""]
    text += [" ".join(said.tables), " ".join(said.columns), " ".join(said.functions)]
    numbers: list[str | int | float] = ["", "", "", "", "", ""]
    if outcome is not None:
        first = "" if outcome.first_ms is None else outcome.first_ms
        numbers = [outcome.rows, outcome.bytes, outcome.ms, first, cell(outcome.sqlstate or ""), cell(outcome.error)]
    at = f"{one.entry.at:%Y-%m-%dT%H:%M:%S.%fZ}"
    return [said.n, at, *map(cell, text), *numbers, said.tx, said.protocol, cell(said.name or "")]


def cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.lstrip()[:1] and shown.lstrip()[0] in _FORMULA else shown
