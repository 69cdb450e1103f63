"""Asking the search index: a person's query and filters in, a page of statements out, the newest first.

Must not read recordings, and must not fill the index (that is `search_feed`). Invariant: a page ends where the next one
begins, also while the index grows: the place between them is a time, not a count.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder import search_store, stored
from recorder.reading import microseconds, moment
from recorder.search_words import key, matching, power, spelled

LIMIT: Final = 50
FEW: Final = 20_000
"""Results of at least so many rows, up to which all of them are looked up before any word."""

_FOUND: Final = """
select s.id, f.session, f.person, f.vendor, f."grant", f."database", s.n, s.seq, s.verdict, s.rule, s.kind, s.tables,
       s.functions, s.sql, s.length, s.rows, s.bytes, s.ms, s.sqlstate, f.recording
"""
_LARGE: Final = "s.rows >= ?"
# The plus: a set that each statement with the words is looked up in, not a search for the words in each of the set.
_ONE_OF_FEW: Final = "+w.rowid in (select id from statement indexed by by_rows where rows >= ?)"


class QuerySyntaxError(Exception):
    """The query cannot be read; says where."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: words, and filters that must all hold. `since` ≤ time < `until`; `after` is the `next` of the
    page before."""

    text: str = ""
    session: str | None = None
    grant: str | None = None
    person: str | None = None
    vendor: str | None = None
    database: str | None = None
    table: str | None = None
    function: str | None = None
    column: str | None = None
    verdict: str | None = None
    rule: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_rows: int = 0
    limit: int = LIMIT
    after: str | None = None


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that was found. `sql` is its beginning where it is longer (`cut`); results are None while it runs."""

    session: str
    n: int
    seq: int
    at: datetime
    person: str | None
    vendor: str | None
    grant: str | None
    database: str | None
    verdict: str
    rule: str | None
    kind: str
    tables: list[str]
    functions: list[str]
    sql: str
    cut: bool
    rows: int | None
    bytes: int | None
    ms: float | None
    sqlstate: str | None
    recording: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the newest first; `next` is None on the last page."""

    hits: list[Hit]
    next: str | None

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values


def search(folder: Path, query: Query, *, path: Path | None = None) -> Page:
    """Ask the index of a recordings folder as it is now. QuerySyntaxError; SearchIndexError where there is none."""
    path = path or search_store.place(folder)
    try:
        sql, values = _statement(query)
    except ValueError as cause:
        raise QuerySyntaxError(str(cause)) from cause
    with search_store.asking(path), contextlib.closing(search_store.connect(path, create=False)) as db:
        try:
            large = _large(db, query.min_rows) if query.min_rows > 0 else FEW + 1
            if not large:
                _read(query.text)
                return Page(hits=[], next=None)
            if large <= FEW:
                sql = sql.replace(_LARGE, _ONE_OF_FEW)
            rows = db.execute(sql, values).fetchmany(query.limit + 1)
        except sqlite3.Error as cause:
            _read(query.text)
            raise search_store.SearchIndexError(f"cannot search in {path}: {cause}; rebuild it") from cause
    hits = [_hit(row, folder) for row in rows[: query.limit]]
    return Page(hits=hits, next=str(rows[query.limit - 1][0]) if len(rows) > query.limit else None)


def _statement(query: Query) -> tuple[str, list[Any]]:
    first, end = 0, 2**62
    if query.since is not None:
        first = microseconds(query.since.isoformat())
    if query.until is not None:
        end = microseconds(query.until.isoformat())
    if query.after is not None:
        if not query.after.isdigit():
            raise ValueError(f"{query.after!r} is not the `next` of a page")
        end = min(end, int(query.after))
    match = matching(query.text, _keys(query))
    exact = f" and {_LARGE}" if query.min_rows > 0 else ""
    least = [query.min_rows] if query.min_rows > 0 else []
    if match:
        return (
            f"{_FOUND} from words w cross join statement s on s.id = w.rowid cross join file f on f.id = s.file "
            f"where words match ? and w.rowid >= ? and w.rowid < ?{exact} order by w.rowid desc limit ?",
            [match, first, end, *least, query.limit + 1],
        )
    return (
        f"{_FOUND} from statement s cross join file f on f.id = s.file where s.id >= ? and s.id < ?"
        " order by s.id desc limit ?",
        [first, end, query.limit + 1],
    )


def _large(db: sqlite3.Connection, rows: int) -> int:
    """How many results were that large, as far as FEW and one more. Where they are few it costs less to know them all
    than to look at each statement that has the words."""
    large = "select count(*) from (select 1 from statement indexed by by_rows where rows >= ? limit ?)"
    return int(db.execute(large, (rows, FEW + 1)).fetchone()[0])


def _keys(query: Query) -> Iterator[str]:
    for kind in ("session", "grant", "person", "vendor", "database", "table", "function", "column", "verdict", "rule"):
        value = getattr(query, kind)
        if value is not None:
            yield key(kind, value)
    word = power(query.min_rows)
    if word is not None:
        yield word


def _read(text: str) -> None:
    """QuerySyntaxError says what is wrong with the person's own words, if anything is."""
    if not text.strip():
        return
    with contextlib.closing(search_store.empty()) as db:
        try:
            db.execute("select 1 from words where words match ?", [spelled(text)]).fetchone()
        except sqlite3.OperationalError as cause:
            said = str(cause).removeprefix("fts5: ")
            if said.startswith("no such column: "):
                said = f"there is no field {said.removeprefix('no such column: ')!r}"
            raise QuerySyntaxError("it ends too soon" if said == 'syntax error near ""' else said) from cause


def _hit(row: tuple[Any, ...], folder: Path) -> Hit:
    (
        id_, session, person, vendor, grant, database, n, seq, verdict, rule, kind, tables, functions, sql, length,
        rows, bytes_, ms, sqlstate, recording,
    ) = row  # fmt: skip
    return Hit(
        session=session,
        n=n,
        seq=seq,
        at=moment(id_),
        person=person,
        vendor=vendor,
        grant=grant,
        database=database,
        verdict=verdict,
        rule=rule,
        kind=kind,
        tables=tables.split(),
        functions=functions.split(),
        sql=sql,
        cut=length > len(sql),
        rows=rows,
        bytes=bytes_,
        ms=ms,
        sqlstate=sqlstate,
        recording=str(stored.locate(folder / recording)),
    )
