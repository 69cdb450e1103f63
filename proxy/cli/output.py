"""What a command says: the answer on standard output, everything else on standard error.

Three things are written once here: the choice between JSON and a table, the form of an error (`error: …`, `hint: …`),
and colour (none where NO_COLOR is set or nobody looks). It knows no command. The invariant: with `-o json` standard
output holds one JSON document and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.yaml_file import FindingsError

NO = 1  # the answer is no
USAGE = 2  # usage or configuration
UNREACHABLE = 3  # cannot reach what it needs


class Output(StrEnum):
    """The two forms of an answer."""

    JSON = "json"
    TABLE = "table"


class Failure(Exception):
    """A command ends here: exit code, what happened, what to do."""

    def __init__(self, code: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def fail(code: int, message: str, hint: str | None = None) -> NoReturn:
    """Ends the command with `error: message` and `hint: hint` on standard error."""
    raise Failure(code, message, hint)


def show_failure(error: Failure | FindingsError) -> int:
    """Prints an error in the one form; returns the exit code."""
    if isinstance(error, FindingsError):
        for finding in error.findings:
            _labelled("error", "red", str(finding))
        return USAGE
    _labelled("error", "red", error.message)
    if error.hint:
        _labelled("hint", "cyan", error.hint)
    return error.code


def note(text: str) -> None:
    """A remark on standard error."""
    _plain(stderr(), text)


def warn(text: str) -> None:
    """A warning on standard error."""
    _labelled("warning", "yellow", text)


def stdout() -> Console:
    """Standard output for people: no markup in data, no guessed highlighting."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)


def stderr() -> Console:
    """Standard error, likewise."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def emit(data: Any, output: Output, table: Callable[[Console], None] | None = None) -> None:
    """The answer: `data` as JSON, or what `table` draws."""
    if output is Output.JSON or table is None:
        sys.stdout.write(json.dumps(data, indent=2 if sys.stdout.isatty() else None, default=_jsonable) + "\n")
    else:
        table(stdout())


def grid(columns: Iterable[str], rows: Iterable[Iterable[str | Text]], *, empty: str) -> Callable[[Console], None]:
    """A table for people: bold head, no frame. On a narrow terminal cells fold, nothing is cut off."""
    cells = [[_cell(value) for value in row] for row in rows]
    heads = list(columns)

    def draw(console: Console) -> None:
        if not cells:
            note(empty)
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in cells:
            table.add_row(*row)
        if not console.is_terminal:  # a file or a pipe has no width: one line for each row
            console.width = sum(max(len(head), *(c.cell_len for c in col)) + 2 for head, col in _columns(heads, cells))
        console.print(table, soft_wrap=False)

    return draw


def _columns(heads: list[str], cells: list[list[Text]]) -> Iterable[tuple[str, tuple[Text, ...]]]:
    return zip(heads, zip(*cells, strict=True), strict=True)


def fields(pairs: Iterable[tuple[str, str | Text | None]]) -> Callable[[Console], None]:
    """Names and values below each other; a None is left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)

    def draw(console: Console) -> None:
        for name, value in shown:
            console.print(Text.assemble((f"{name:<{width}}  ", "bold"), value))

    return draw


def rfc3339(moment: datetime | None) -> str | None:
    """A time as the interface has it: UTC, to the second, with a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None


def _cell(value: str | Text) -> Text:
    if isinstance(value, Text):
        return value
    # What people typed once is printed again here: no control character may drive the reader's terminal.
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value))


def _labelled(label: str, style: str, text: str) -> None:
    first, *rest = text.splitlines() or [""]
    console = stderr()
    console.print(Text.assemble((f"{label}: ", f"bold {style}"), _cell(first)))
    for line in rest:
        console.print(_cell(f"  {line}"))


def _plain(console: Console, text: str) -> None:
    for line in text.splitlines():
        console.print(_cell(line))


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def styled(word: str, style: str) -> Text:
    """A word in a colour."""
    return Text(word, style=style)
