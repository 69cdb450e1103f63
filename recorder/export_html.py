"""One HTML page of a recording: what was asked and what came of it, with search and filters, for any browser.

Every statement is in the page as it is written, so that it reads, prints and can be searched also without scripts.
Invariants: as `page` has them; results are shown as far as they were recorded, and the page says where they go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from recorder import charts, page, timeline
from recorder.charts import Moment
from recorder.events import Rows, SessionEnd, SessionStart
from recorder.exchanges import Exchange, exchanges
from recorder.page import text
from recorder.scene import Scene, clock, value
from recorder.stored import Identity
from recorder.timeline import Entry

SCRIPT: Final = "session.js"
MOST_ROWS: Final = 200
"""Rows of one result on the page."""


def write(path: Path, out: TextIO, keys: Sequence[Identity] = ()) -> None:
    """The page of a recording. Reads it twice: its sums stand above its statements."""
    sums = _Sums(timeline.read(path, keys))
    start = sums.start
    title = f"Session {start.session}" if start else path.stem
    out.write(page.head(f"{title} · daypass", script=SCRIPT))
    out.write(f"<h1>{text(title)}</h1>\n")
    if start is not None:
        out.write(f'<p class="sub">{text(start.person)} ({text(start.vendor)}) on {text(start.database)}</p>\n')
        out.write(page.facts(_facts(start, sums)))
    out.write(page.sums(sums.shown()))
    out.write(charts.over_time(sums.moments))
    out.write(_form(sums))
    scene = Scene()
    for one in exchanges(timeline.read(path, keys), rows=True):
        out.write(_exchange(one) if isinstance(one, Exchange) else _other(one, scene))
    out.write("<footer>Made by daypass from the recording. This page proves nothing by itself: ")
    out.write("<code>daypass recording verify</code> does.</footer>\n")
    out.write(page.end(script=SCRIPT))


class _Sums:
    """What stands above."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self.start: SessionStart | None = None
        self.end: SessionEnd | None = None
        self.began: Entry | None = None
        self.last: Entry | None = None
        self.moments: list[Moment] = []
        self.tables: set[str] = set()
        self.statements = self.refused = self.failed = self.rows = self.bytes = 0
        for one in exchanges(self._seen(entries)):
            if isinstance(one, Exchange):
                self.statements += 1
                self.refused += one.refused
                self.failed += one.failed
                self.tables.update(one.statement.tables)
                self.moments.append(Moment(one.entry.at, 1, int(one.refused)))
                if one.outcome is not None:
                    self.rows += one.outcome.rows
                    self.bytes += one.outcome.bytes

    def _seen(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self.began, self.last = self.began or entry, entry
            if isinstance(entry.event, SessionStart):
                self.start = entry.event
            elif isinstance(entry.event, SessionEnd):
                self.end = entry.event
            yield entry

    def shown(self) -> list[tuple[str, object, bool]]:
        lasted = self.last.offset if self.last else 0.0
        return [
            ("statements", f"{self.statements:,}", False),
            ("refused", f"{self.refused:,}", self.refused > 0),
            ("failed", f"{self.failed:,}", False),
            ("rows", f"{self.rows:,}", False),
            ("bytes", f"{self.bytes:,}", False),
            ("lasted", clock(lasted)[1:-5], False),
        ]


def _facts(start: SessionStart, sums: _Sums) -> list[tuple[str, object]]:
    end = sums.end
    return [
        ("Grant", start.grant),
        ("Policy", f"{start.policy} {start.policy_revision[:12]}"),
        ("Client", f"{start.application_name or 'unnamed'} {start.driver}".strip()),
        ("From", f"{start.client_address}, {start.tls or 'no TLS'}"),
        ("Started", f"{sums.began.at:%Y-%m-%d %H:%M:%S} UTC" if sums.began else None),
        ("Ended", f"{end.reason}{f' ({end.detail})' if end.detail else ''}" if end else "not in this recording"),
    ]


def _form(sums: _Sums) -> str:
    tables = "".join(f"<option>{text(name)}</option>" for name in sorted(sums.tables))
    kinds = (
        ("", "everything"),
        ("s", "statements"),
        ("refused", "refused"),
        ("masked", "masked"),
        ("failed", "failed"),
    )
    chosen = "".join(f'<option value="{name}">{said}</option>' for name, said in kinds)
    return (
        f'<form class="find" data-count="{sums.statements:,}">'
        '<input type="search" name="q" placeholder="Search ( / )" aria-label="Search" autocomplete="off">'
        f'<select name="kind" aria-label="Verdict">{chosen}</select>'
        f'<select name="table" aria-label="Table"><option value="">all tables</option>{tables}</select>'
        '<input type="number" name="rows" min="0" placeholder="rows ≥" aria-label="Rows at least" size="8">'
        f"<output>{sums.statements:,} statements</output></form>\n"
    )


def _exchange(one: Exchange) -> str:
    said, outcome, entry = one.statement, one.outcome, one.entry
    kind = "refused" if one.refused else "failed" if one.failed else "masked" if said.verdict == "mask" else "ok"
    rows = outcome.rows if outcome is not None else 0
    word = {"allow": "allowed", "deny": "refused", "hold": "held", "mask": "masked"}.get(said.verdict, said.verdict)
    meta = [f"<time>{clock(entry.offset)[1:-1]}</time>", f"<span>#{said.n}</span>"]
    meta.append(f"<b>{text('failed' if one.failed else word)}</b>")
    if outcome is None:
        meta.append("<span>no outcome</span>")
    elif not one.refused:
        meta += [f"<span>{outcome.rows:,} rows</span>", f"<span>{outcome.bytes:,} B</span>"]
        meta.append(f"<span>{outcome.ms:,.1f} ms</span>")
    if said.tables:
        meta.append(f"<span>{text(', '.join(said.tables))}</span>")
    if said.tx != "I":
        meta.append(f"<span>{'in a transaction' if said.tx == 'T' else 'in a failed transaction'}</span>")
    parts = [
        f'<div class="s {kind}" data-tables="{text(" ".join(said.tables))}" data-rows="{rows}">',
        f'<div class="meta">{"".join(meta)}</div><pre>{text(said.sql)}</pre>',
    ]
    if said.params:
        shown = ", ".join(f"${n} = {value(param)}" for n, param in enumerate(said.params, 1))
        parts.append(f'<div class="meta">{text(shown)}</div>')
    if one.refused:
        parts.append(f'<p class="why">{text(f"rule {said.rule}: {said.reason}")}</p>')
    elif said.verdict == "mask":
        parts.append(f'<p class="why">{text(said.reason)}</p>')
    elif outcome is not None and outcome.sqlstate is not None:
        parts.append(f'<p class="why">{text(f"{outcome.sqlstate} {outcome.error}")}</p>')
    parts.append(_result(one))
    return "".join(parts) + "</div>\n"


def _result(one: Exchange) -> str:
    if not one.rows:
        return ""
    columns = next((rows.columns for rows in one.rows if rows.columns is not None), None)
    out, left = ['<div class="result"><table>'], MOST_ROWS
    if columns:
        out.append("<tr>" + "".join(f"<th>{text(column.name)}</th>" for column in columns) + "</tr>")
    for row in _rows(one.rows):
        if left == 0:
            break
        left -= 1
        cells = ('<td class="null">null</td>' if cell is None else f"<td>{text(cell)}</td>" for cell in row)
        out.append(f"<tr>{''.join(cells)}</tr>")
    total = one.outcome.rows if one.outcome is not None else one.recorded
    out.append("</table>")
    if MOST_ROWS - left < total:
        out.append(
            f'<div class="meta">{MOST_ROWS - left:,} of {total:,} rows, of which {one.recorded:,} were recorded</div>'
        )
    return "".join(out) + "</div>"


def _rows(pieces: list[Rows]) -> Iterator[list[object]]:
    for piece in pieces:
        yield from piece.values or ()
        yield from ([line] for line in piece.copy or ())


def _other(entry: Entry, scene: Scene) -> str:
    if isinstance(entry.event, SessionStart):
        return ""
    said = " ".join(line.plain.strip() for line in scene.draw(entry))
    said = said.removeprefix(clock(entry.offset)).strip()
    return f'<div class="e"><time>{clock(entry.offset)[1:-1]}</time>{text(said)}</div>\n'
