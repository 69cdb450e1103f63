"""The state: one SQLite file, or a Postgres database that several daypasses share.

Opens it, brings its tables up to date, and hands out transactions; what is in them is the business of `grants`. It
never shows a URL's password. The invariants: a write that returned is on the disk (WAL with synchronous=FULL), two
processes may open a new state at once, the file is readable by its owner alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.access.tables import installation
from proxy.clock import SystemClock

HEAD = "0007"
"""The newest migration; a test compares it with the folder."""

_LOCK = 0x64617970617373  # "daypass": Postgres's advisory lock of who writes
_PATIENCE = "10s"
"""As long as SQLite waits for another writer; and how long one that fell silent keeps the others waiting."""
_WRITE = "daypass_write"
SETTLED = 100_000
"""Microseconds after which a file's time tells that nothing was written since: it moves every few milliseconds."""


Connect = Callable[[dict[str, str]], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


class StoreError(Exception):
    """The state cannot be opened, read or written."""


class Store:
    """An open state. `await Store.open(url)`, and `close()` at the end."""

    def __init__(self, engine: AsyncEngine, name: str, file: str | None = None, alone: Connect | None = None) -> None:
        self._engine = engine
        self._name = name
        self._file = file
        self.alone = alone
        """Makes a connection that nobody else uses, with the settings given; None where the state is a file."""

    @classmethod
    async def open(cls, url: str) -> Self:
        """Opens `sqlite:///PATH` or `postgresql://…`, and migrates. Raises StoreError."""
        engine, name, alone = _engine(url)
        store = cls(engine, name, name if engine.dialect.name == "sqlite" else None, alone)
        try:
            await store._migrate()
        except BaseException:
            await engine.dispose()
            raise
        return store

    async def close(self) -> None:
        """Closes every connection."""
        await self._engine.dispose()

    async def identity(self) -> tuple[str, bytes]:
        """The installation's id, which names what it makes in databases, and the secret that its keys are made of."""
        async with self.read() as connection:
            row = (await connection.execute(sa.select(installation.c.id, installation.c.mock_key))).one()
        return row[0], row[1]

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads. Raises StoreError."""
        with self._named():
            async with self._connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, and sees one moment of the state however often it asks. Raises StoreError."""
        with self._named():
            async with self._connect() as connection:
                level = {"isolation_level": "REPEATABLE READ"} if connection.dialect.name == "postgresql" else {}
                yield await connection.execution_options(**level)

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, undone by an exception.

        One at a time, whatever the state is kept in: what was read in it is still so when it is committed, and steps
        are numbered in the order in which they happened. Raises StoreError.
        """
        with self._named():
            async with self._connect() as connection:
                # SQLite: takes the write lock at once. A transaction that reads first and writes later fails at once
                # with "database is locked" when another has written in between, however long it is willing to wait.
                writing = await connection.execution_options(**{_WRITE: True})
                async with writing.begin():
                    if writing.dialect.name == "postgresql":
                        await writing.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                    yield writing

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """The drivers' errors as StoreError, in one line, without statement and parameters."""
        try:
            yield
        except DBAPIError as error:
            raise StoreError(f"{self._name}: {_line(error.orig or error)}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"{self._name}: {_line(error)}") from error

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        try:
            connection = await self._engine.connect()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise StoreError(f"{self._name} cannot be reached: {_line(error)}") from error
        try:
            yield connection
        finally:
            await connection.close()

    def mark(self, now: int) -> tuple[int, ...] | None:
        """What is another value once anybody has written; None where only asking tells.

        `now`: microseconds of the wall. The time of a file moves in steps: in the one in which it was written last,
        more may follow unseen.
        """
        if self._file is None:
            return None
        found: list[int] = []
        for path in (self._file, f"{self._file}-wal"):
            try:
                state = os.stat(path)
            except FileNotFoundError:
                continue
            except OSError:
                return None
            if now - state.st_mtime_ns // 1000 < SETTLED:
                return None
            found += (state.st_ino, state.st_size, state.st_mtime_ns)
        return tuple(found)

    async def _migrate(self) -> None:
        async with self.read() as connection:
            version = await connection.run_sync(_version)
        if version != HEAD:
            async with self.write() as connection:
                await connection.run_sync(self._upgrade)
                if (await connection.execute(sa.select(installation.c.one))).first() is None:
                    row = {"one": 1, "id": secrets.token_hex(4), "mock_key": secrets.token_bytes(32)}
                    await connection.execute(installation.insert().values(created_at=SystemClock().now(), **row))

    def _upgrade(self, connection: sa.Connection) -> None:
        from alembic import command  # noqa: PLC0415  (slow to import, needed once in a state's life)
        from alembic.config import Config  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            found = _version(connection)
            message = f"{self._name}: made by a newer daypass (version {found} of its tables; this one knows {HEAD})"
            raise StoreError(message) from None


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sa.text("select version_num from alembic_version")).scalar()
    return found


def _engine(url: str) -> tuple[AsyncEngine, str, Connect | None]:
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        return _sqlite(path), str(path), None
    if re.match(r"postgres(ql)?://", url):

        async def connect(settings: dict[str, str]) -> asyncpg.Connection[asyncpg.Record]:
            # asyncpg reads the URL itself: sslmode, sslrootcert, PGPASSWORD and PGPASSFILE mean what libpq means.
            return await asyncpg.connect(url, timeout=10, server_settings={"application_name": "daypass", **settings})

        async def pooled() -> asyncpg.Connection[asyncpg.Record]:
            return await connect({"lock_timeout": _PATIENCE, "idle_in_transaction_session_timeout": _PATIENCE})

        engine = create_async_engine("postgresql+asyncpg://", async_creator=pooled, hide_parameters=True)
        return engine, "the state in Postgres", connect
    raise StoreError("the state's URL must begin with sqlite:/// or postgresql://")


def _sqlite(path: Path) -> AsyncEngine:
    try:
        # Made here and not by SQLite, whose files anybody may read. Its -wal and -shm take over the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    url = sa.URL.create("sqlite+aiosqlite", database=str(path))
    engine = create_async_engine(url, hide_parameters=True, connect_args={"isolation_level": None, "timeout": 10})
    sa.event.listen(engine.sync_engine, "connect", _prepare)
    sa.event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    """Python's sqlite3 would begin late and without the lock; with isolation_level None we say it ourselves."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


Emit = Callable[[str, dict[str, Any]], None]
"""Tells the record of a step: `emit(action, detail)`. An exception from it undoes the step."""


def untold(action: str, detail: dict[str, Any]) -> None:
    """The Emit of those who only look."""
