"""Tables that their owner is changing: daypass's views stand in the way of that, so they are dropped and stay away.

A view blocks ALTER COLUMN TYPE and DROP COLUMN. What is released stands as a comment on the schema of the
installation's views: it lies where it matters, every process sees it, and it changes under the lock under which views
are made. So no login can put a view back before the owner's ALTER. Invariant: nothing here shows more to anybody; a
role without its view reads nothing of the table.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.access.privileges import Connection

ALL: Final = "*"
"""Stands for every table."""
_LOCK: Final = 0x64617970617373  # "daypass": parallel GRANTs on one object fail with "tuple concurrently updated"
_PATIENCE: Final = 3.0
"""Seconds in which a running server ends the sessions of a released table by itself, and tells their clients why."""
_STEP: Final = 0.1


@dataclass(frozen=True, slots=True)
class Mark:
    """One release. `until` is epoch seconds by the database's clock; `was`: the columns at the time, where the release
    ends by itself once they are others."""

    until: float
    was: str | None = None


def schema_of(installation: str) -> str:
    """The schema of an installation's views in any database."""
    return f"daypass_{installation}_views"


async def lock(connection: Connection) -> None:
    """Held to the end of the transaction by all that makes or drops roles and views. Raises PostgresError."""
    await connection.execute("SET LOCAL lock_timeout = '5s'")  # a table under ALTER must not stop every other login
    await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", _LOCK)


async def standing(connection: Connection, schema: str) -> dict[str, Mark]:
    """What is released at this moment."""
    row = await connection.fetchrow(
        "SELECT pg_catalog.obj_description(oid, 'pg_namespace'), "
        "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) "
        "FROM pg_catalog.pg_namespace WHERE nspname = $1",
        schema,
    )
    if row is None or not row[0]:
        return {}
    try:
        found = {table: Mark(float(until), was) for table, (until, was) in json.loads(row[0])["released"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {table: mark for table, mark in found.items() if mark.until > row[1]}


async def release(
    connection: Connection, installation: str, table: str | None, seconds: float, *, by_itself: bool
) -> list[str]:
    """Drops the views of `table` (schema.name; None: all) and keeps them away for `seconds`. Returns their names.

    `by_itself`: it ends earlier, when the columns have changed (see `settled`). Raises asyncpg.PostgresError.
    """
    schema = schema_of(installation)
    async with connection.transaction():
        await lock(connection)
        if await connection.fetchval("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", schema) is None:
            await connection.execute(f'CREATE SCHEMA "{schema}"')
        now = await connection.fetchval("SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())")
        was = await _columns(connection, table) if by_itself else None
        marks = await standing(connection, schema) | {table or ALL: Mark(now + seconds, was)}
        await _write(connection, schema, marks)
        names = [row[0] for row in await connection.fetch(_VIEWS_OF, schema, table)]
    await _emptied(connection, schema, names)
    async with connection.transaction():
        await lock(connection)
        for name in names:
            quoted = name.replace('"', '""')
            await connection.execute(f'DROP VIEW IF EXISTS "{schema}"."{quoted}"')
    return names


async def lift(connection: Connection, installation: str, table: str | None) -> list[str]:
    """The owner is done with `table` (None: with all). Returns what was released."""
    schema = schema_of(installation)
    async with connection.transaction():
        await lock(connection)
        marks = await standing(connection, schema)
        over = [name for name in marks if table in (None, name)]
        if over:
            await _write(connection, schema, {name: mark for name, mark in marks.items() if name not in over})
    return over


async def settled(
    connection: Connection, installation: str, before: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Ends the releases of tables that have changed since, and not any more since the last look (`before`).

    A migration has often several steps, so the first change alone is not its end. Returns the tables, and what the
    next look is to be given.
    """
    over: list[str] = []
    seen: dict[str, str] = {}
    for table, mark in (await standing(connection, schema_of(installation))).items():
        if mark.was is not None:
            now = await _columns(connection, None if table == ALL else table)
            if now != mark.was and now == before.get(table):
                over += await lift(connection, installation, table)
            seen[table] = now
    return over, seen


async def _columns(connection: Connection, table: str | None) -> str:
    digest: str = await connection.fetchval(_COLUMNS, table)
    return digest


async def _write(connection: Connection, schema: str, marks: Mapping[str, Mark]) -> None:
    text = json.dumps({"released": {table: [mark.until, mark.was] for table, mark in marks.items()}}) if marks else ""
    literal = await connection.fetchval("SELECT pg_catalog.quote_literal($1::text)", text)
    await connection.execute(f'COMMENT ON SCHEMA "{schema}" IS {literal}')


async def _emptied(connection: Connection, schema: str, names: list[str]) -> None:
    """Waits for the sessions that may read these views to be ended by their server; ends those that are left."""
    for _ in range(round(_PATIENCE / _STEP)):
        if not await connection.fetchval(f"SELECT EXISTS ({_BACKENDS})", schema, names):
            return
        await asyncio.sleep(_STEP)
    await connection.execute(f"SELECT pg_catalog.pg_terminate_backend(x.pid) FROM ({_BACKENDS}) x", schema, names)


_VIEWS_OF = """
SELECT DISTINCT v.relname FROM pg_catalog.pg_class v JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
JOIN pg_catalog.pg_rewrite w ON w.ev_class = v.oid
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
 AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> v.oid
JOIN pg_catalog.pg_class t ON t.oid = d.refobjid JOIN pg_catalog.pg_namespace s ON s.oid = t.relnamespace
WHERE n.nspname = $1 AND v.relkind = 'v' AND ($2::text IS NULL OR s.nspname || '.' || t.relname = $2) ORDER BY 1"""
_BACKENDS = """
SELECT DISTINCT a.pid FROM pg_catalog.pg_class v JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace,
LATERAL pg_catalog.aclexplode(v.relacl) x JOIN pg_catalog.pg_auth_members m ON m.roleid = x.grantee
JOIN pg_catalog.pg_stat_activity a ON a.usesysid = m.member
WHERE n.nspname = $1 AND v.relname = ANY ($2::text[]) AND a.datname = pg_catalog.current_database()
  AND a.pid <> pg_catalog.pg_backend_pid() AND a.usename <> CURRENT_USER"""
_COLUMNS = """
SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, n.nspname, c.relname, a.attnum,
  a.attname, a.atttypid, a.atttypmod), ',' ORDER BY c.oid, a.attnum), ''))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^(pg_|daypass_)' AND n.nspname <> 'information_schema'
  AND ($1::text IS NULL OR n.nspname || '.' || c.relname = $1)"""
