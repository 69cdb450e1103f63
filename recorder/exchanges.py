"""A recording as questions and answers: each statement with its outcome and the rows that were recorded of it.

What is exported a statement at a time reads this. Must not write. Invariant: statements come in their own order, each
once, also those that have no outcome; memory is bounded by what was under way at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from recorder.events import Outcome, Rows, Statement
from recorder.timeline import REFUSED, Entry

KEPT_ROWS = 1000
"""Rows of one result that are kept for an export that shows them."""


class Exchange(msgspec.Struct, gc=False):
    """A statement, its place, what came of it, and how the session went on."""

    entry: Entry
    statement: Statement
    outcome: Outcome | None = None
    rows: list[Rows] = []
    recorded: int = 0

    @property
    def refused(self) -> bool:
        return self.statement.verdict in REFUSED

    @property
    def failed(self) -> bool:
        return not self.refused and self.outcome is not None and self.outcome.sqlstate is not None


def exchanges(entries: Iterable[Entry], *, rows: bool = False) -> Iterator[Exchange | Entry]:
    """The statements with their outcomes, and every other entry, in the order in which they began. `rows`: whether
    results are kept too."""
    waiting: deque[Exchange | Entry] = deque()
    running: dict[int, Exchange] = {}
    for entry in entries:
        event = entry.event
        match event:
            case Statement():
                one = Exchange(entry, event)
                running[event.n] = one
                waiting.append(one)
            case Outcome():
                found = running.pop(event.n, None)
                if found is not None:
                    found.outcome = event
                else:
                    waiting.append(entry)
            case Rows():
                found = running.get(event.n)
                if found is not None:
                    if rows and found.recorded < KEPT_ROWS:
                        found.rows.append(event)
                    found.recorded += len(event.values or event.copy or ())
            case _:
                waiting.append(entry)
        while waiting and not _is_open(waiting[0], running):
            yield waiting.popleft()
    yield from waiting


def _is_open(first: Exchange | Entry, running: dict[int, Exchange]) -> bool:
    return isinstance(first, Exchange) and first.statement.n in running
