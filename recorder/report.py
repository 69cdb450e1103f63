"""A report for people: what a grant, a person, a vendor did in a period, as Markdown or as a page to be printed.

Says what `summary` counted, in words, tables and charts. Must not read recordings. Invariants: names of objects and
counts only, no statement's text; what is shortened says how much is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from recorder import charts, page
from recorder.charts import Moment
from recorder.oddities import GRAVEST, Odd
from recorder.page import text
from recorder.scene import count, visible
from recorder.summary import Summary

MOST: Final = 25
"""Lines of a table."""
MOST_ODD: Final = 5
"""Lines of one kind of unusual things."""
Table = tuple[str, tuple[str, ...], list[tuple[str, ...]], int]
"""A heading, the columns, the rows that are shown, and how many are left out."""


def title(total: Summary) -> str:
    """What the report is of."""
    parts = [f"{kind} {name}" for kind, name in _asked(total) if name is not None]
    return f"Access report: {', '.join(parts) or 'all sessions'}"


def period(total: Summary) -> str:
    """From when to when: as asked, or as it was."""
    begin, end = total.since or total.first, total.until or total.last
    return f"{_time(begin)} to {_time(end)}" if begin or end else "nothing was recorded"


def markdown(total: Summary, *, made: datetime) -> str:
    """The report in Markdown."""
    lines = [f"# {_md(title(total))}", "", f"{period(total)}; made {_time(made)}.", ""]
    lines += [f"- {name}: **{number}**" for name, number, _ in _sums(total)]
    for name, values in _people(total):
        lines.append(f"- {name}: {_md(values)}")
    if total.unusual:
        lines += ["", "## Unusual", ""]
        lines += [f"- {_md(said)}" for said in _unusual(total)]
    for heading, columns, rows, left in _tables(total):
        lines += ["", f"## {heading}", "", f"| {' | '.join(columns)} |"]
        lines.append(f"|---{'|---:' * (len(columns) - 1)}|")
        lines += [f"| {' | '.join(_md(cell) for cell in row)} |" for row in rows]
        if left:
            lines += ["", f"{left} more."]
    if total.statements:
        lines += ["", "## Statements by hour", "", "| hour | statements | refused |", "|---|---:|---:|"]
        hours = sorted(total.hours.items())
        lines += [f"| {hour} | {of.statements:,} | {of.refused:,} |" for hour, of in hours[-200:]]
        if len(hours) > 200:
            lines += ["", f"The last 200 of {len(hours):,} hours."]
    return "\n".join(lines) + "\n"


def html(total: Summary, *, made: datetime) -> str:
    """The report as one page, made to be printed or kept as PDF."""
    out = [page.head(f"{title(total)} · daypass"), f"<h1>{text(title(total))}</h1>\n"]
    out.append(f'<p class="sub">{text(period(total))}; made {text(_time(made))}</p>\n')
    out.append(page.sums(_sums(total)))
    out.append(page.facts(_people(total)))
    if total.unusual:
        items = "".join(f"<li>{text(said)}</li>" for said in _unusual(total))
        out.append(f'<h2>Unusual</h2>\n<ul class="odd">{items}</ul>\n')
    if total.hours:
        moments = [Moment(datetime.fromisoformat(at), of.statements, of.refused) for at, of in total.hours.items()]
        out.append(f"<h2>Statements over time</h2>\n{charts.over_time(moments, least=timedelta(hours=1))}")
    by_rows = sorted(total.tables.items(), key=lambda item: (-item[1].rows, item[0]))
    bars = [(name, use.rows, f"{use.rows:,} rows") for name, use in by_rows[:12] if use.rows]
    if bars:
        out.append(f"<h2>Tables by rows</h2>\n{charts.beside(bars, title='Tables by rows')}")
    refusals = [(name, number, f"{number:,}") for name, number in _most(total.refusals)[:12]]
    if refusals:
        out.append(f"<h2>Refusals by rule</h2>\n{charts.beside(refusals, title='Refusals by rule', kind='refused')}")
    for heading, columns, rows, left in _tables(total):
        cells = "".join(f"<th{' class=n' if at else ''}>{text(name)}</th>" for at, name in enumerate(columns))
        out.append(f"<h2>{text(heading)}</h2>\n<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n")
        for row in rows:
            out.append("<tr>")
            out += [f"<td{' class=n' if at else ''}>{text(cell)}</td>" for at, cell in enumerate(row)]
            out.append("</tr>\n")
        out.append(f"</tbody></table>\n{f'<p class=sub>{left:,} more.</p>' if left else ''}\n")
    out.append("<footer>Made by daypass from the recordings; statements' texts and values are not in it. ")
    out.append("<code>daypass recording verify</code> proves that the recordings are what was written.</footer>\n")
    out.append(page.end())
    return "".join(out)


def _asked(total: Summary) -> Iterable[tuple[str, str | None]]:
    named = [("database", name) for name in total.of_databases]
    return [("grant", total.grant), ("person", total.person), ("vendor", total.vendor), *named]


def _sums(total: Summary) -> list[tuple[str, object, bool]]:
    shown: list[tuple[str, object, bool]] = [
        (f"sessions{f' ({total.open} open)' if total.open else ''}", f"{total.sessions:,}", False),
        ("statements", f"{total.statements:,}", False),
        ("refused", f"{total.refused:,}", total.refused > 0),
        ("masked", f"{total.masked:,}", False),
        ("failed", f"{total.failed:,}", False),
        ("rows", f"{total.rows:,}", False),
        ("bytes", _size(total.bytes), False),
        ("connected", _lasted(total.seconds), False),
    ]
    if total.logins_refused:
        shown.append(("logins refused", f"{total.logins_refused:,}", True))
    return shown


def _people(total: Summary) -> list[tuple[str, str]]:
    named: list[tuple[str, Mapping[str, int]]] = [
        ("Persons", total.persons),
        ("Vendors", total.vendors),
        ("Grants", total.grants),
        ("Databases", total.databases),
        ("Policies", total.policies),
        ("Addresses", total.addresses),
        ("Clients", total.applications),
    ]
    return [(name, _named(counts)) for name, counts in named if counts]


def _named(counts: Mapping[str, int], most: int = 8) -> str:
    ordered = _most(counts)
    shown = ", ".join(visible(name) for name, _ in ordered[:most])
    return f"{shown} and {len(ordered) - most} more" if len(ordered) > most else shown


def _unusual(total: Summary) -> Iterable[str]:
    """The gravest first; of each kind a few, so that one does not hide another."""
    kinds: dict[str, list[Odd]] = {}
    for odd in total.unusual:
        kinds.setdefault(odd.kind, []).append(odd)
    for kind in sorted(kinds, key=lambda kind: (GRAVEST.index(kind) if kind in GRAVEST else len(GRAVEST), kind)):
        found = kinds[kind]
        for odd in found[:MOST_ODD]:
            where = f"{odd.session}, {_time(odd.at)}" if odd.session and odd.at else odd.session or ""
            yield f"{odd.text}{f' ({where})' if where else ''}"
        if len(found) > MOST_ODD:
            yield f"… the same in {count(len(found) - MOST_ODD, 'more session')}"


def _tables(total: Summary) -> list[Table]:
    by_rows = sorted(total.tables.items(), key=lambda item: (-item[1].rows, -item[1].statements, item[0]))
    used = [(name, f"{use.statements:,}", f"{use.rows:,}") for name, use in by_rows]
    found: list[Table] = []
    if len(total.work) > 1:
        by_statements = sorted(total.work.items(), key=lambda item: (-item[1].statements, item[0]))
        did = [
            (f"{grant} ({', '.join(filter(None, (of.person, of.vendor, of.database)))})",
             f"{of.sessions:,}", f"{of.statements:,}", f"{of.refused:,}", f"{of.rows:,}")
            for grant, of in by_statements
        ]  # fmt: skip
        columns = ("grant", "sessions", "statements", "refused", "rows")
        found.append(("By grant", columns, [*did[:MOST]], max(0, len(did) - MOST)))
    if used:
        found.append(("Tables", ("table", "statements", "rows"), [*used[:MOST]], max(0, len(used) - MOST)))
    for heading, column, counts in (
        ("Columns", "column", total.columns),
        ("Functions", "function", total.functions),
        ("Refusals", "rule", total.refusals),
        ("Errors of the database", "SQLSTATE", total.errors),
        ("How sessions ended", "end", total.ends),
    ):
        rows = [(name, f"{number:,}") for name, number in _most(counts)]
        if rows:
            last = "sessions" if column == "end" else "statements"
            found.append((heading, (column, last), [*rows[:MOST]], max(0, len(rows) - MOST)))
    return found


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _md(of: str) -> str:
    """Text in a cell or a line of Markdown: what it would take for its own is escaped."""
    shown = " ".join(visible(of).split())
    for mark in "\\`*_[]<>|#!":
        shown = shown.replace(mark, f"\\{mark}")
    return shown


def _time(at: datetime | None) -> str:
    return "now" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def _size(size: int) -> str:
    amount, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:,.0f} {units[0]}" if units[0] == "B" else f"{amount:,.1f} {units[0]}"


def _lasted(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{minutes}:{int(seconds) % 60:02d} min"
