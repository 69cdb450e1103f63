"""A result as psql shows it: columns side by side, as its rows come in pieces.

Must not know terminals; text is made harmless by whoever shows it. Invariant: what is shown of a result fits in the
lines it gives, whatever is in a cell.
"""

from __future__ import annotations

from typing import Any, Final

from rich.cells import cell_len, set_cell_size

from recorder.events import Rows

MOST_ROWS: Final = 100
"""Rows of a result that are shown; the rest is counted."""
WIDEST: Final = 40

Line = tuple[str, str]
"""A kind (`head`, `rule`, `row`, `note`) and the text."""


class Grid:
    """One statement's result."""

    def __init__(self) -> None:
        self.rows = 0
        """Rows that were recorded so far."""
        self._widths: list[int] = []
        self._told = False

    def take(self, rows: Rows) -> list[Line]:
        """The lines of the next piece."""
        lines: list[Line] = []
        values = rows.values or []
        if not self._widths and (rows.columns is not None or values):
            names = [column.name for column in rows.columns or ()] or [f"{n}" for n in range(1, len(values[0]) + 1)]
            shown = [[_cell(value) for value in row] for row in values[:MOST_ROWS]]
            self._widths = [
                min(WIDEST, max([cell_len(name), *(cell_len(row[at]) for row in shown if at < len(row)), 1]))
                for at, name in enumerate(names)
            ]
            lines.append(("head", self._row([_cell(name) for name in names], head=True)))
            lines.append(("rule", "-+-".join("-" * width for width in self._widths)))
        before = self.rows
        for row in values:
            self.rows += 1
            if self.rows <= MOST_ROWS:
                lines.append(("row", self._row([_cell(value) for value in row], right=[_number(v) for v in row])))
        for text in rows.copy or ():
            self.rows += 1
            if self.rows <= MOST_ROWS:
                lines.append(("row", _cell(text)))
        if rows.piece is not None and not rows.more:
            self.rows += 1
            lines.append(("note", "(a row too long to be shown)"))
        if self.rows > MOST_ROWS >= before and not self._told:
            self._told = True
            lines.append(("note", "(more rows are recorded; export has them all)"))
        return lines

    def _row(self, cells: list[str], *, head: bool = False, right: list[bool] | None = None) -> str:
        out = []
        for at, cell in enumerate(cells):
            width = self._widths[at] if at < len(self._widths) else WIDEST
            if cell_len(cell) > width:
                out.append(set_cell_size(cell, width - 1) + "…")
            elif right is not None and at < len(right) and right[at]:
                out.append(" " * (width - cell_len(cell)) + cell)
            elif head:
                space = width - cell_len(cell)
                out.append(" " * (space // 2) + cell + " " * (space - space // 2))
            else:
                out.append(set_cell_size(cell, width))
        return " | ".join(out).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    return text.replace("\n", "↵").replace("\t", " ").replace("\r", "")


def _number(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        return True
    return isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdigit()
