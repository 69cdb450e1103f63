"""The search index's file: its tables, who may write it, and how a new one takes the place of an old one.

A cache in SQLite beside the recordings, mode 0600: what it holds stands in the recordings too, and it can be thrown
away at any time. A statement's number in it is the time at which it was recorded, in microseconds, so that the order of
results, a period and a page's end are all the same number. Must not know what a query means. Invariant: one process
fills it at a time, and readers never wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from recorder import files

FOLDER: Final = ".index"
NAME: Final = "search.db"
VERSION: Final = 2
PATIENCE: Final = 10.0
"""Seconds for searches that go on when a new index is ready."""
WORDS: Final = ("sql", "params", "said", "tables", "functions", "columns", "facts", "keys")
"""The columns of words. `keys` holds whole values, hashed, for filters; people search in the others."""

_WORDS: Final = f"""create virtual table words using fts5 (
  {", ".join(WORDS)}, content='', tokenize="unicode61 remove_diacritics 0 tokenchars '_$'"
)"""
_SCHEMA: Final = f"""
create table file (
  id integer primary key, session text not null unique, place integer not null, size integer not null,
  done integer not null, person text, vendor text, "grant" text, "database" text, recording text not null
);
create table statement (
  id integer primary key, file integer not null, n integer not null, seq integer not null, verdict text not null,
  rule text, kind text, tables text, functions text, sql text not null, length integer not null,
  rows integer, bytes integer, ms real, sqlstate text
);
create index by_rows on statement (rows);
create table running (
  file integer not null, n integer not null, id integer not null, words text not null, primary key (file, n)
) without rowid;
{_WORDS};
pragma user_version = {VERSION};
"""


class SearchIndexError(Exception):
    """The index cannot be used; says why and what to do."""


def place(folder: Path) -> Path:
    """Where the index of a recordings folder lies."""
    return folder / FOLDER / NAME


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """The index, open. SearchIndexError where there is none (and `create` is not said) or it is none of ours."""
    if create:
        try:
            files.make_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as cause:
            raise SearchIndexError(f"cannot make the search index {path}: {cause.strerror}") from cause
    elif not path.exists():
        raise SearchIndexError(f"there is no search index at {path}")
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=10)
        db.execute("pragma busy_timeout = 10000")
        version = db.execute("pragma user_version").fetchone()[0]
        if version == 0 and create:
            db.execute("pragma journal_mode = wal")
            db.executescript(_SCHEMA)
        elif version != VERSION:
            db.close()
            raise SearchIndexError(f"{path} was made by another version of daypass; rebuild it")
        db.execute("pragma synchronous = normal")
        db.execute("pragma cache_size = -65536")
        db.execute("pragma mmap_size = 1073741824")
    except sqlite3.Error as cause:
        if db is not None:
            db.close()
        raise SearchIndexError(f"cannot read the search index {path}: {cause}; rebuild it") from cause
    return db


def empty() -> sqlite3.Connection:
    """An index of nothing, in memory: whether a query can be read is cheap to try there."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute(_WORDS)
    return db


@contextlib.contextmanager
def filling(path: Path, *, patience: float) -> Iterator[bool]:
    """Hold the right to fill the index at `path`; False where another process has it after `patience` seconds."""
    files.make_folder(path.parent)
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield files.hold(fd, patience=patience)
    finally:
        os.close(fd)


@contextlib.contextmanager
def asking(path: Path) -> Iterator[None]:
    """For as long as somebody reads the index at `path`: it is not replaced under a reader, whose last act would be to
    take away the write-ahead file of the new one."""
    try:
        fd = os.open(path.with_suffix(".asked"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:  # a folder that cannot be written: nobody replaces anything there
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def replace(new: Path, path: Path) -> None:
    """Put a finished index in the place of the old one. SearchIndexError where that is read all the time."""
    fd = os.open(path.with_suffix(".asked"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not files.hold(fd, patience=PATIENCE):
            raise SearchIndexError(f"{path} is being searched; try again")
        for side in ("-wal", "-shm"):
            Path(f"{path}{side}").unlink(missing_ok=True)
        new.rename(path)
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Take an index away, with what SQLite keeps beside it."""
    for side in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{side}").unlink(missing_ok=True)
