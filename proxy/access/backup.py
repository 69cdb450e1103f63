"""The whole state as one file, whatever it is kept in, and back into an empty one.

JSON lines: a head, every row of every table, an end with a count and a SHA-256. Taken in one transaction while the
house serves. Knows no recordings. Invariants: a file that is cut or changed is refused before anything is written; a
restored state gives nobody anything: what lived in it is ended, unless somebody says that it may go on.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import IO, Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import steps, tables
from proxy.access.grants import Grants, grant_columns, grant_of
from proxy.access.model import clock_time, person_key, rfc3339
from proxy.access.store import HEAD, Emit, Store
from proxy.clock import Clock

FORM: Final = 1
_AT_ONCE: Final = 500


class BackupError(Exception):
    """The file is none, or not whole, or does not fit; the text says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What is in a backup."""

    installation: str
    at: datetime
    rows: int


@dataclasses.dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and what of it was ended at once."""

    backup: Told
    ended: list[str]
    lapsed: list[str]


async def dump(store: Store, file: IO[bytes], now: datetime) -> Told:
    """Writes the state as it is at this moment. Raises StoreError, OSError."""
    digest, count = hashlib.sha256(), 0

    def put(line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False, default=_plain).encode() + b"\n"
        digest.update(data)
        file.write(data)

    async with store.snapshot() as connection:
        installation = str((await connection.execute(sa.select(tables.installation.c.id))).scalar_one())
        put({"daypass_state": FORM, "version": HEAD, "installation": installation, "at": now})
        for table in tables.metadata.sorted_tables:
            rows = await connection.stream(sa.select(table).order_by(*table.primary_key.columns))
            async for row in rows.mappings():
                put({"table": table.name, "row": dict(row)})
                count += 1
    file.write(json.dumps({"end": True, "rows": count, "sha256": digest.hexdigest()}).encode() + b"\n")
    return Told(installation, now, count)


def check(file: IO[bytes]) -> Told:
    """Reads a backup to its end. Raises BackupError where it is not whole, or for another version."""
    digest, count, head, end = hashlib.sha256(), -1, None, None
    for line in file:
        data = _object(line)
        if end is not None:
            raise BackupError("something follows its end")
        if "end" in data:
            end = data
        else:
            digest.update(line)
            count += 1
            head = head or data
    if head is None or head.get("daypass_state") != FORM:
        raise BackupError("this is no backup of a daypass state")
    if end is None:
        raise BackupError("it has no end: it was cut, or is still being written")
    if (end.get("rows"), end.get("sha256")) != (count, digest.hexdigest()):
        raise BackupError("it was changed since it was written: its SHA-256 is another one")
    if head.get("version") != HEAD:
        found = head.get("version")
        raise BackupError(
            f"it has version {found} of the tables, and this daypass {HEAD}: restore it with the daypass that made it "
            "and open the state with this one, which brings it up to date"
        )
    return Told(str(head["installation"]), datetime.fromisoformat(head["at"]), count)


async def restore(
    store: Store,
    file: IO[bytes],
    clock: Clock,
    emit: Emit,
    *,
    by: str,
    keep_live: bool = False,
    ended_since: Iterable[str] = (),
    disabled_since: Iterable[tuple[str, str]] = (),
) -> Restored:
    """Puts a checked backup into an empty state, in one transaction, and ends what lived in it.

    A grant that was revoked, and a token that was replaced, after the backup would be good again; so would one-time
    links, and a person who was disabled would not be. `keep_live` leaves grants and requests as they were but for
    `ended_since`. `disabled_since`: person and reason. Raises BackupError, StoreError, and what `emit` raises.
    """
    file.seek(0)
    told = check(file)
    file.seek(0)
    async with store.write() as connection:
        await _refuse_a_full_one(connection)
        await _insert(connection, file)
        if connection.dialect.name == "postgresql":  # SQLite goes on behind the highest by itself
            await connection.execute(
                sa.text("select setval(pg_get_serial_sequence('steps', 'id'), greatest(max(id), 1)) from steps")
            )
        now = clock.now()
        detail = {"by": by, "installation": told.installation, "backup_at": told.at, "keep_live": keep_live}
        await steps.take(connection, emit, now, "state.restored", detail)
        for person, reason in disabled_since:
            await _disable(connection, person, reason, by, now)
        which = set(ended_since) if keep_live else None
        ended = await _end_grants(connection, Grants(store, clock, emit), told, by, which)
        lapsed = [] if keep_live else await _lapse(connection, emit, now, told)
    return Restored(told, ended, lapsed)


async def _refuse_a_full_one(connection: AsyncConnection) -> None:
    for table in tables.metadata.sorted_tables:
        if table is not tables.installation:
            count = (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
            if count:
                raise BackupError(
                    f"the state is not empty: {count} rows in {table.name}; name a new one in config.yaml"
                )


async def _insert(connection: AsyncConnection, file: IO[bytes]) -> None:
    await connection.execute(sa.delete(tables.installation))
    waiting: list[dict[str, Any]] = []
    current: sa.Table | None = None
    for line in file:
        data = _object(line)
        table = tables.metadata.tables[data["table"]] if "table" in data else None
        if waiting and current is not None and (table is not current or len(waiting) >= _AT_ONCE):
            await connection.execute(current.insert(), waiting)
            waiting = []
        if table is not None:
            waiting.append(_typed(table, data["row"]))
        current = table


async def _end_grants(
    connection: AsyncConnection, grants: Grants, told: Told, by: str, which: Collection[str] | None
) -> list[str]:
    """Revokes those of `which` that live; None: all that live."""
    columns = tables.grants.c
    live = sa.select(*grant_columns()).where(columns.revoked_at.is_(None), columns.ended_at.is_(None))
    ended = []
    for row in (await connection.execute(live.order_by(columns.id))).mappings().all():
        grant = grant_of(row)
        if which is None or grant.id in which:
            reason = f"the state was restored from a backup of {clock_time(told.at)}"
            await grants.revoke(grant.id, reason=reason, by=by, connection=connection)
            ended.append(grant.id)
    return ended


async def _lapse(connection: AsyncConnection, emit: Emit, now: datetime, told: Told) -> list[str]:
    """Requests that waited: they may have been denied or withdrawn since."""
    requests = tables.requests
    query = sa.select(requests.c.id, requests.c.person).where(requests.c.state == "requested").order_by(requests.c.id)
    rows = (await connection.execute(query)).all()
    why = f"the state was restored from a backup of {clock_time(told.at)}"
    values = {"state": "lapsed", "decided_at": now, "decided_by": steps.BY, "decided_why": why}
    for row in rows:
        mine = sa.update(requests).where(requests.c.id == row.id)
        await connection.execute(mine.values(**values, version=requests.c.version + 1))
        detail = {"request": row.id, "by": steps.BY, "person": row.person, "reason": why}
        await steps.take(connection, emit, now, "request.lapsed", detail)
    return [row.id for row in rows]


async def _disable(connection: AsyncConnection, person: str, reason: str, by: str, now: datetime) -> None:
    key, people = person_key(person), tables.people
    await connection.execute(sa.delete(people).where(people.c.key == key))
    values = {"key": key, "person": person, "disabled_at": now, "disabled_by": by, "disable_reason": reason}
    await connection.execute(people.insert().values(values))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(type(value).__name__)


def _typed(table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    return {key: _value(table.c[key].type, value) for key, value in row.items()}


def _value(kind: Any, value: Any) -> Any:
    if value is not None and isinstance(kind, tables.Utc):
        return datetime.fromisoformat(value)
    if value is not None and isinstance(kind, sa.LargeBinary):
        return base64.b64decode(value)
    return value


def _object(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise BackupError("this is no backup of a daypass state, or it was cut")
    return data
