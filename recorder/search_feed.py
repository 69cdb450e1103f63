"""Filling the search index from the recordings: whatever was added to them since the last time, and nothing twice.

Reads sealed recordings and those that still grow; a statement's result is entered when it comes. Must not interpret
queries. Invariants: how far a recording was read and what was read of it are one transaction; the index never holds a
statement of a recording that is gone.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from recorder import reading, search_store, stored
from recorder.reading import Number
from recorder.search_store import SearchIndexError
from recorder.search_words import Of, Said, Words, powers
from recorder.stored import BrokenError, Identity, SealedError

BATCH: Final = 50_000
"""Statements in one transaction."""
HELD: Final = 64 << 20
"""Characters of statements that are held for one transaction, about."""
SHOWN: Final = 1_000
"""Characters of a statement that are kept to be shown; all of them can be searched."""

_INSERT: Final = "insert into statement values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TABLES: Final = search_store.WORDS.index("tables")
_FUNCTIONS: Final = search_store.WORDS.index("functions")
_COLUMNS: Final = ", ".join(search_store.WORDS)
_HOLES: Final = ", ".join("?" * len(search_store.WORDS))
_ENTER: Final = f"insert into words (rowid, {_COLUMNS}) values (?, {_HOLES})"
_TAKE_OUT: Final = f"insert into words (words, rowid, {_COLUMNS}) values ('delete', ?, {_HOLES})"

Progress = Callable[[int, int], None]
"""Called now and then with the statements so far and the recordings left."""


class _Result(msgspec.Struct, frozen=True, gc=False):
    n: Number
    rows: Number = 0
    bytes: Number = 0
    ms: float = 0.0
    sqlstate: str | None = None


class _Start(msgspec.Struct, frozen=True):
    person: str | None = None
    vendor: str | None = None
    grant: str | None = None
    database: str | None = None


class _Row(msgspec.Struct, gc=False):  # gc=False: no cycles, and very many of them
    """A statement on its way into the index."""

    id: int
    file: int
    said: Said
    seq: int
    words: tuple[str, ...]
    result: _Result | None = None


_said = msgspec.json.Decoder(Said)
_result = msgspec.json.Decoder(_Result)
_start = msgspec.json.Decoder(_Start)


class Filled(msgspec.Struct, frozen=True):
    """What a run did: statements that were entered, and recordings that no key opened. `more`: it was ended before all
    were read."""

    statements: int
    encrypted: int
    more: bool = False


def update(
    folder: Path,
    *,
    path: Path | None = None,
    keys: Sequence[Identity] = (),
    patience: float = 0.0,
    progress: Progress | None = None,
    most: int | None = None,
) -> Filled | None:
    """Bring the index of a recordings folder up to date, at least by `most` statements where that is given; None where
    another process does that. SearchIndexError."""
    path = path or search_store.place(folder)
    with search_store.filling(path, patience=patience) as ours:
        if not ours:
            return None
        with contextlib.closing(search_store.connect(path, create=True)) as db:
            try:
                return Feed(db, folder, progress, keys, most).run()
            except sqlite3.Error as cause:
                raise SearchIndexError(f"cannot fill the search index {path}: {cause}; rebuild it") from cause


def rebuild(
    folder: Path, *, path: Path | None = None, keys: Sequence[Identity] = (), progress: Progress | None = None
) -> Filled:
    """Make the index anew from the recordings alone. Searches go on with the old one meanwhile. SearchIndexError where
    another process fills it."""
    path = path or search_store.place(folder)
    with search_store.filling(path, patience=5.0) as ours:
        if not ours:
            raise SearchIndexError(f"another process fills {path}; try again when it is done")
        new = path.with_suffix(".new")
        search_store.remove(new)
        with contextlib.closing(search_store.connect(new, create=True)) as db:
            try:
                db.execute("pragma journal_mode = off")  # a half-made one is thrown away
                db.execute("pragma synchronous = off")
                db.execute("insert into words (words, rank) values ('automerge', 0)")
                db.execute("insert into words (words, rank) values ('hashsize', 67108864)")
                filled = Feed(db, folder, progress, keys).run()
                db.execute("insert into words (words, rank) values ('automerge', 4)")
                db.execute("insert into words (words) values ('optimize')")
                db.execute("pragma journal_mode = wal")
            except sqlite3.Error as cause:
                raise SearchIndexError(f"cannot make the search index {new}: {cause}") from cause
        search_store.replace(new, path)
        return filled


class Feed:
    """One run over a recordings folder."""

    def __init__(
        self,
        db: sqlite3.Connection,
        folder: Path,
        progress: Progress | None = None,
        keys: Sequence[Identity] = (),
        most: int | None = None,
    ) -> None:
        self._db = db
        self._folder = folder
        self._progress = progress
        self._rows: list[_Row] = []
        self._late: list[tuple[int, _Result]] = []
        self._places: dict[int, tuple[int, int, bool]] = {}
        self._keys = keys
        self._held = 0
        self._left = 0
        self._most = most
        self._batch = BATCH if most is None else min(BATCH, most)
        self.encrypted = 0
        self.statements = 0

    def run(self) -> Filled:
        """Read what is new. Recordings that cannot be read are left for the next time."""
        known = {
            session: (id_, place, size, done)
            for id_, session, place, size, done in self._db.execute("select id, session, place, size, done from file")
        }
        there = {stored.session_id(file): file for file in stored.session_files(self._folder)}
        self._db.execute("begin immediate")
        self._forget([known[session][0] for session in known.keys() - there.keys()])
        left, more = len(there), False
        for session, file in there.items():
            if more := self._enough():
                break
            left -= 1
            id_, place, size, done = known.get(session, (0, 0, -1, False))
            path = self._folder / file
            try:
                now = path.stat().st_size
                if done or now == size:
                    continue
                self._file(id_, session, path, file, place, now)
            except SealedError:
                self.encrypted += 1
            except (OSError, BrokenError):
                pass  # verify says what is wrong with it
            self._left = left
            if len(self._rows) >= self._batch:
                self._write()
        self._write()
        self._db.execute("commit")
        return Filled(self.statements, self.encrypted, more or self._enough())

    def _enough(self) -> bool:
        return self._most is not None and self.statements >= self._most

    def _file(self, id_: int, session: str, path: Path, file: str, place: int, size: int) -> None:
        """One recording, from byte `place` on."""
        of = self._of(id_, session, path)
        if of is None:
            return
        if not id_:
            values = (session, of.person, of.vendor, of.grant, of.database, file)
            found = self._db.execute(
                'insert into file (session, place, size, done, person, vendor, "grant", "database", recording)'
                " values (?, 0, -1, 0, ?, ?, ?, ?, ?)",
                values,
            )
            id_ = found.lastrowid or 0
        words, running, done = Words(of), dict[int, _Row](), False
        for start, raw in reading.lines(path, place, self._keys):
            place = start + len(raw) + 1
            self._places[id_] = (place, -1, False)  # also where the file cannot be read to its end
            head = reading.head(raw)
            if head is None:
                continue
            done = head.event in ("session.end", "recovered")
            try:
                if head.event == "statement":
                    said = _said.decode(raw)
                    row = _Row(reading.microseconds(head.at), id_, said, head.seq, words.of(said))
                    running[said.n] = row
                    self._rows.append(row)
                    self._held += len(said.sql)
                elif head.event == "outcome":
                    result = _result.decode(raw)
                    begun = running.pop(result.n, None)
                    if begun is not None:
                        begun.result = result
                    else:
                        self._late.append((id_, result))
            except (msgspec.DecodeError, ValueError):
                continue
            if len(self._rows) >= self._batch or self._held >= HELD:
                running.clear()
                self._write()
                if self._enough():
                    return  # what is left of it is read the next time
        self._places[id_] = (place, size, done)

    def _of(self, id_: int, session: str, path: Path) -> Of | None:
        if id_:
            row = self._db.execute(
                'select person, vendor, "grant", "database" from file where id = ?', (id_,)
            ).fetchone()
            return Of(session, *row)
        for _, raw in reading.lines(path, keys=self._keys):
            try:
                start = _start.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                start = _Start()
            return Of(session, start.person, start.vendor, start.grant, start.database)
        return None  # not one whole line yet

    def _write(self) -> None:
        """Enter what was read, and how far."""
        rows = sorted(self._rows, key=lambda row: row.id)
        self._number(rows)
        db = self._db
        db.executemany(_INSERT, map(_stored, rows))
        db.executemany(_ENTER, ((row.id, *_all_words(row.words, row.result)) for row in rows))
        db.executemany(
            "insert or replace into running values (?, ?, ?, ?)",
            (
                (row.file, row.said.n, row.id, msgspec.json.encode(row.words).decode())
                for row in rows
                if row.result is None
            ),
        )
        for file, result in self._late:
            self._finish(file, result)
        for file, (place, size, done) in self._places.items():
            db.execute("update file set place = ?, size = ?, done = ? where id = ?", (place, size, done, file))
            if done:
                db.execute("delete from running where file = ?", (file,))
        db.execute("commit")
        db.execute("begin immediate")
        self.statements += len(rows)
        self._rows, self._late, self._held = [], [], 0
        if self._progress is not None:
            self._progress(self.statements, self._left)
        self._places.clear()

    def _number(self, rows: list[_Row]) -> None:
        """Two statements of one microsecond, and those of an earlier batch, get the next free number."""
        if not rows:
            return
        most = rows[-1].id
        between = self._db.execute("select id from statement where id between ? and ?", (rows[0].id, most))
        taken = {id_ for (id_,) in between}
        last = 0
        for row in rows:
            row.id = max(row.id, last + 1)
            while row.id in taken or (row.id > most and self._is_there(row.id)):
                row.id += 1
            last = row.id

    def _is_there(self, id_: int) -> bool:
        return self._db.execute("select 1 from statement where id = ?", (id_,)).fetchone() is not None

    def _finish(self, file: int, result: _Result) -> None:
        """The result of a statement that was entered while it ran."""
        found = self._db.execute("select id, words from running where file = ? and n = ?", (file, result.n)).fetchone()
        if found is None:
            return
        id_, kept = found
        self._db.execute(
            "update statement set rows = ?, bytes = ?, ms = ?, sqlstate = ? where id = ?",
            (result.rows, result.bytes, result.ms, result.sqlstate, id_),
        )
        before = msgspec.json.decode(kept, type=tuple[str, ...])
        after = _all_words(before, result)
        if after != before:
            self._db.execute(_TAKE_OUT, (id_, *before))
            self._db.execute(_ENTER, (id_, *after))
        self._db.execute("delete from running where file = ? and n = ?", (file, result.n))

    def _forget(self, gone: list[int]) -> None:
        """Recordings that are no longer there: their statements are found no more. Their words, without a place, go
        when the index is rebuilt."""
        for id_ in gone:
            self._db.execute("delete from statement where file = ?", (id_,))
            self._db.execute("delete from running where file = ?", (id_,))
            self._db.execute("delete from file where id = ?", (id_,))


def _all_words(of_statement: tuple[str, ...], result: _Result | None) -> tuple[str, ...]:
    """A statement's words with those of its result."""
    if result is None or (not result.rows and result.sqlstate is None):
        return of_statement
    *rest, facts, keys = of_statement
    return (
        *rest,
        f"{facts} {result.sqlstate}" if result.sqlstate else facts,
        f"{keys} {powers(result.rows)}",
    )


def _stored(row: _Row) -> tuple[object, ...]:
    said, result = row.said, row.result
    return (
        row.id,
        row.file,
        said.n,
        row.seq,
        said.verdict,
        said.rule,
        said.kind,
        row.words[_TABLES],
        row.words[_FUNCTIONS],
        said.sql[:SHOWN],
        len(said.sql),
        *((result.rows, result.bytes, result.ms, result.sqlstate) if result else (None, None, None, None)),
    )
