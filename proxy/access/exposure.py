"""What anybody may do in a database whatever the policy says: the rights of PUBLIC, each with the SQL to close it.

The ephemeral role keeps hidden data; these doors stay open to it because Postgres gives them to everybody, and only the
guard stands in them. Reads catalogs, changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from proxy.access.privileges import Connection

DEFINERS = """
SELECT n.nspname, p.proname, p.oid::pg_catalog.regprocedure::text,
       CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
       pg_catalog.has_schema_privilege('public', n.oid, 'USAGE')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^(pg_|daypass_)'
  AND pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')
  AND p.prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
ORDER BY 3"""
READABLE = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^(pg_|daypass_)' AND pg_catalog.has_schema_privilege('public', n.oid, 'USAGE')
  AND pg_catalog.has_any_column_privilege('public', c.oid, 'SELECT') ORDER BY 1"""
CREATABLE = """
SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_namespace
WHERE nspname !~ '^(pg_|daypass_)' AND pg_catalog.has_schema_privilege('public', oid, 'CREATE') ORDER BY 1"""
BUILTIN = """
SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.proname ~ $1
  AND pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY 1"""
_DOORS = (
    ("large objects", r"^(lo_|loread$|lowrite$)", "can make large objects, also in READ ONLY transactions"),
    ("advisory locks", r"^pg_(try_)?advisory_", "can take advisory locks that the application may wait for"),
    ("NOTIFY", r"^pg_notify$", "can send notifications to the application"),
    ("sleeping", r"^pg_sleep", "can hold connections"),
    ("WAL messages", r"^pg_logical_emit_message$", "can write messages to the WAL"),
    ("snapshots", r"^pg_export_snapshot$", "can export snapshots"),
)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One right of PUBLIC. `severity` is `warning` where it can reach hidden data, else `notice`."""

    severity: str
    what: str
    why: str
    sql: tuple[str, ...]


async def open_definers(connection: Connection, schemas: Collection[str]) -> list[str]:
    """The SECURITY DEFINER functions that a grant's role could call: they read with their owner's rights."""
    rows = await connection.fetch(DEFINERS)
    return [signature for schema, _, signature, _, usable in rows if usable or schema in schemas]


async def exposures(connection: Connection, schemas: Collection[str]) -> list[Exposure]:
    """All of them in the connection's database; `schemas` are those that policies give USAGE on."""
    found = []
    for schema, name, signature, kind, usable in await connection.fetch(DEFINERS):
        reach = usable or schema in schemas
        found.append(
            Exposure(
                "warning" if reach else "notice",
                f"SECURITY DEFINER {schema}.{name}",
                "runs with its owner's rights for everybody"
                + ("" if reach else ", once somebody has USAGE on its schema"),
                (f"REVOKE EXECUTE ON {kind} {signature} FROM PUBLIC;",),
            )
        )
    for (relation,) in await connection.fetch(READABLE):
        found.append(
            Exposure(
                "warning", f"table {relation}", "everybody can read it", (f"REVOKE SELECT ON {relation} FROM PUBLIC;",)
            )
        )
    for (schema,) in await connection.fetch(CREATABLE):
        sql = f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC;"
        found.append(Exposure("warning", f"schema {schema}", "everybody can create in it", (sql,)))
    database = await connection.fetchval("SELECT pg_catalog.quote_ident(pg_catalog.current_database())")
    if await connection.fetchval(
        "SELECT pg_catalog.has_database_privilege('public', pg_catalog.current_database(), 'TEMP')"
    ):
        sql = f"REVOKE TEMP ON DATABASE {database} FROM PUBLIC;"
        found.append(Exposure("notice", "TEMP", "everybody can make temporary tables", (sql,)))
    for (language,) in await connection.fetch(
        "SELECT lanname FROM pg_catalog.pg_language WHERE lanpltrusted AND lanname <> 'internal' "
        "AND pg_catalog.has_language_privilege('public', oid, 'USAGE') ORDER BY 1"
    ):
        sql = f'REVOKE USAGE ON LANGUAGE "{language}" FROM PUBLIC;'
        found.append(
            Exposure("notice", f"language {language}", "everybody can run DO blocks or make functions", (sql,))
        )
    for what, pattern, why in _DOORS:
        signatures = [row[0] for row in await connection.fetch(BUILTIN, pattern)]
        if signatures:
            sql_lines = tuple(f"REVOKE EXECUTE ON FUNCTION pg_catalog.{s} FROM PUBLIC;" for s in signatures)
            found.append(Exposure("notice", what, f"everybody {why}", sql_lines))
    return found
