"""What was found, for people: one line for each statement.

Must not search. Invariant: text from recordings passes `visible` before it is shown.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recorder.replay import visible
from recorder.search import Hit, Page
from recorder.timeline import REFUSED

_NARROW = 110


def page(console: Console, found: Page) -> None:
    """A page of results. On a terminal a long statement is cut; a pipe gets what the index keeps of it."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("TIME", "SESSION", "PERSON"):
        table.add_column(name, no_wrap=True, overflow="fold")
    table.add_column("N", justify="right")
    table.add_column("VERDICT", no_wrap=True)
    table.add_column("ROWS", justify="right")
    table.add_column("STATEMENT", no_wrap=console.is_terminal, overflow="ellipsis", ratio=1)
    for hit in found.hits:
        table.add_row(
            f"{hit.at:%Y-%m-%d %H:%M:%SZ}",
            visible(hit.session),
            visible(hit.person or "-"),
            str(hit.n),
            _verdict(hit),
            "…" if hit.rows is None else f"{hit.rows:,}",
            Text(visible(" ".join(hit.sql.split())) + (" …" if hit.cut else ""), "red" if _refused(hit) else ""),
        )
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    elif console.width < _NARROW:  # too narrow for a table: the statement has a line of its own
        for hit in found.hits:
            _two_lines(console, hit)
        return
    if found.hits:
        console.print(table, soft_wrap=False, highlight=False)


def _two_lines(console: Console, hit: Hit) -> None:
    rows = "running" if hit.rows is None else f"{hit.rows:,} rows"
    head = Text.assemble(
        (f"{hit.at:%Y-%m-%d %H:%M:%SZ}", "dim"), "  ", (visible(hit.session), "bold"), f"#{hit.n}  ",
        visible(hit.person or "-"), "  ", _verdict(hit), f"  {rows}",
    )  # fmt: skip
    console.print(head, soft_wrap=True, highlight=False)
    sql = Text("    " + visible(" ".join(hit.sql.split())) + (" …" if hit.cut else ""), "red" if _refused(hit) else "")
    console.print(sql, soft_wrap=False, no_wrap=True, overflow="ellipsis", highlight=False)


def _refused(hit: Hit) -> bool:
    return hit.verdict in REFUSED


def _verdict(hit: Hit) -> Text:
    rule = f" {hit.rule}" if hit.rule and _refused(hit) else ""
    style = "bold red" if _refused(hit) else "yellow" if hit.verdict == "mask" else "green"
    return Text(visible(hit.verdict + rule) + (f" {hit.sqlstate}" if hit.sqlstate and not _refused(hit) else ""), style)
