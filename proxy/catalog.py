"""The catalog snapshot: what a database holds, as one frozen value that judging can rely on.

asyncpg reads relations with their columns, the functions, types, operators and collations that are not Postgres's own,
and the names of those that are. Nothing here knows of policies or of sessions. Invariant: a snapshot is read in one
REPEATABLE READ transaction, without daypass's own schemas, and never changes; its `revision` (SHA-256 of its content)
changes whenever anything that a verdict may depend on does.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg
import msgspec

RELATIONS = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text,
       coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}'),
       coalesce((SELECT array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
                 FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}'),
       coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_index i
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
                 WHERE i.indrelid = c.oid AND i.indisprimary), '{}'),
       coalesce((SELECT array_agg(DISTINCT d.refobjid::bigint) FROM pg_catalog.pg_rewrite r
                 JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                  AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.refobjid <> c.oid
                 WHERE r.ev_class = c.oid AND n.nspname NOT IN ('pg_catalog', 'information_schema')), '{}'),
       coalesce((SELECT array_agg(DISTINCT d.refobjid::bigint) FROM pg_catalog.pg_rewrite r
                 JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                  AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                 WHERE r.ev_class = c.oid AND n.nspname NOT IN ('pg_catalog', 'information_schema')), '{}'),
       coalesce((SELECT array_agg(i.inhparent::bigint) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid), '{}')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND n.nspname !~ '^(pg_(toast|temp)|daypass_)'
ORDER BY n.nspname, c.relname"""
FUNCTIONS = """
SELECT n.nspname, p.proname,
       ARRAY(SELECT pg_catalog.format_type(t.o, NULL) FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY t(o, i)
             ORDER BY i),
       p.provolatile::text, p.prosecdef,
       coalesce((SELECT e.extname FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                 WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
                   AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'), ''),
       l.lanname, p.oid, p.provariadic <> 0
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE n.nspname <> 'pg_catalog' AND n.nspname !~ '^(pg_(toast|temp)|daypass_)'
ORDER BY n.nspname, p.proname, p.oid"""
BUILTIN_FUNCTIONS = """
SELECT p.proname,
       ARRAY(SELECT pg_catalog.format_type(t.o, NULL) FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY t(o, i)
             ORDER BY i)
FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace ORDER BY p.proname, p.oid"""
OPERATORS = """
SELECT n.nspname, o.oprname, pn.nspname, p.proname
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2, o.oid"""
# A type runs code where a domain's check hangs on it or on a part of it, however deep.
TYPES = """
WITH RECURSIVE parts(whole, part) AS (
  SELECT oid, typbasetype FROM pg_catalog.pg_type WHERE typbasetype <> 0
  UNION ALL SELECT oid, typelem FROM pg_catalog.pg_type WHERE typelem <> 0
  UNION ALL SELECT rngtypid, rngsubtype FROM pg_catalog.pg_range
  UNION ALL SELECT rngmultitypid, rngtypid FROM pg_catalog.pg_range
  UNION ALL SELECT t.oid, a.atttypid FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
), found(oid) AS (
  SELECT k.contypid FROM pg_catalog.pg_constraint k WHERE k.contypid >= 16384
  UNION SELECT p.whole FROM parts p JOIN found f ON f.oid = p.part
)
SELECT n.nspname, t.typname, t.typtype::text,
       coalesce((SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                 WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
                   AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'), ''),
       t.oid IN (SELECT found.oid FROM found), t.oid, t.typarray
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname <> 'pg_catalog' AND n.nspname !~ '^(pg_(toast|temp)|daypass_)'
  AND NOT (t.typtype = 'b' AND t.typelem <> 0 AND t.typname LIKE '\\_%') ORDER BY 1, 2"""
BUILTIN_TYPES = """
SELECT typname, typtype::text FROM pg_catalog.pg_type
WHERE typnamespace = 'pg_catalog'::pg_catalog.regnamespace ORDER BY 1"""
CASTS = """
SELECT pg_catalog.format_type(x.castsource, NULL), pg_catalog.format_type(x.casttarget, NULL), n.nspname, f.proname,
       x.castcontext = 'i'
FROM pg_catalog.pg_cast x JOIN pg_catalog.pg_proc f ON f.oid = x.castfunc
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2"""
COLLATIONS = """
SELECT DISTINCT n.nspname, c.collname FROM pg_catalog.pg_collation c
JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2"""
FINGERPRINT = """
SELECT pg_catalog.md5(pg_catalog.concat_ws('|',
  (SELECT pg_catalog.md5(pg_catalog.string_agg(c.oid::text || c.xmin::text, ',' ORDER BY c.oid))
   FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
     AND c.oid >= 16384 AND c.relnamespace <> ALL (
       SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '^(pg_(toast|temp)|daypass_)')),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(a.attrelid::text || a.attnum::text || a.xmin::text, ','
     ORDER BY a.attrelid, a.attnum)) FROM pg_catalog.pg_attribute a WHERE a.attrelid >= 16384 AND a.attnum > 0
     AND a.attrelid IN (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
       AND c.relnamespace <> ALL (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '^daypass_'))),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(p.oid::text || p.xmin::text, ',' ORDER BY p.oid))
   FROM pg_catalog.pg_proc p WHERE p.oid >= 16384),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(o.oid::text || o.xmin::text, ',' ORDER BY o.oid))
   FROM pg_catalog.pg_operator o WHERE o.oid >= 16384),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(t.oid::text || t.xmin::text, ',' ORDER BY t.oid))
   FROM pg_catalog.pg_type t WHERE t.oid >= 16384 AND t.typnamespace <> ALL (
     SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '^daypass_')),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(n.oid::text || n.xmin::text, ',' ORDER BY n.oid))
   FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^(pg_(toast|temp)|daypass_)'),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(x.oid::text || x.xmin::text, ',' ORDER BY x.oid))
   FROM pg_catalog.pg_cast x WHERE x.oid >= 16384)))"""


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation. `kind` is pg_class.relkind.

    `reads` and `calls` are the oids of the relations and functions that a view's rule depends on; `parents` those of
    the tables that it is a partition or an inheritance child of.
    """

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    primary_key: tuple[str, ...] = ()
    reads: tuple[int, ...] = ()
    calls: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Function:
    """One overload of a function that is not Postgres's own. `volatility` is pg_proc.provolatile."""

    schema: str
    name: str
    args: tuple[str, ...]
    volatility: str
    security_definer: bool
    extension: str = ""
    language: str = ""
    oid: int = 0
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that is not Postgres's own, with the function that carries it out."""

    schema: str
    name: str
    function_schema: str
    function: str


@dataclass(frozen=True, slots=True)
class Type:
    """A type that is not Postgres's own. `runs_code`: a domain's check hangs on it or on a part of it."""

    schema: str
    name: str
    kind: str
    extension: str = ""
    runs_code: bool = False
    oid: int = 0
    array_oid: int = 0


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast that a function which is not Postgres's own carries out. Types in format_type's words."""

    source: str
    target: str
    function_schema: str
    function: str
    implicit: bool


@dataclass(frozen=True)
class Catalog:
    """All of it. `builtin_functions` maps a name to the argument types of each of its pg_catalog overloads."""

    database: str
    server_version_num: int
    relations: tuple[Relation, ...]
    functions: tuple[Function, ...]
    operators: tuple[Operator, ...]
    types: tuple[Type, ...]
    casts: tuple[Cast, ...]
    collations: tuple[tuple[str, str], ...]
    builtin_functions: dict[str, tuple[tuple[str, ...], ...]]
    builtin_types: dict[str, str]
    fingerprint: str = field(default="", compare=False)

    @cached_property
    def revision(self) -> str:
        """SHA-256 of the content, hex."""
        return hashlib.sha256(self.dump()).hexdigest()

    def dump(self) -> bytes:
        """The snapshot as JSON: what `policy explain --catalog FILE` reads."""
        return msgspec.json.encode({f.name: getattr(self, f.name) for f in fields(self) if f.name != "fingerprint"})

    @cached_property
    def functions_by_oid(self) -> dict[int, Function]:
        return {f.oid: f for f in self.functions}

    @cached_property
    def type_names(self) -> frozenset[str]:
        """Names of types that are not Postgres's own, whatever their schema."""
        return frozenset(t.name for t in self.types)

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Relation]:
        return {(r.schema, r.name): r for r in self.relations}

    @cached_property
    def by_oid(self) -> dict[int, Relation]:
        return {r.oid: r for r in self.relations}

    @cached_property
    def functions_by_name(self) -> dict[str, tuple[Function, ...]]:
        found: dict[str, list[Function]] = {}
        for f in self.functions:
            found.setdefault(f.name, []).append(f)
        return {name: tuple(overloads) for name, overloads in found.items()}

    @cached_property
    def operators_by_name(self) -> dict[str, tuple[Operator, ...]]:
        found: dict[str, list[Operator]] = {}
        for o in self.operators:
            found.setdefault(o.name, []).append(o)
        return {name: tuple(same) for name, same in found.items()}

    @cached_property
    def types_by_oid(self) -> dict[int, Type]:
        """Types that are not Postgres's own by their oid and by that of their array type."""
        return {oid: t for t in self.types for oid in (t.oid, t.array_oid) if oid}

    @cached_property
    def type_names_by_oid(self) -> dict[int, str]:
        """The qualified names of types that are not Postgres's own, and of their arrays."""
        own = {t.oid: f"{t.schema}.{t.name}" for t in self.types}
        return own | {t.array_oid: f"{t.schema}.{t.name}[]" for t in self.types if t.array_oid}

    @cached_property
    def enum_oids(self) -> frozenset[int]:
        return frozenset(t.oid for t in self.types if t.kind == "e")

    @cached_property
    def types_by_name(self) -> dict[tuple[str, str], Type]:
        return {(t.schema, t.name): t for t in self.types}


def load(data: bytes) -> Catalog:
    """A snapshot from what `Catalog.dump` wrote. Raises ValueError when it is not one."""
    try:
        return msgspec.json.decode(data, type=Catalog)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a catalog snapshot: {error}") from None


async def fingerprint(connection: asyncpg.Connection[Any]) -> str:
    """A cheap value that changes when a snapshot would: compare it, and take a snapshot only when it differs."""
    value: str = await connection.fetchval(FINGERPRINT)
    return value


def _relation(row: asyncpg.Record) -> Relation:
    oid, schema, name, kind, columns, types, key, reads, calls, parents = row
    return Relation(
        oid,
        schema,
        name,
        kind,
        tuple(columns),
        tuple(types),
        tuple(key),
        tuple(sorted(reads)),
        tuple(sorted(calls)),
        tuple(sorted(parents)),
    )


async def read(connection: asyncpg.Connection[Any]) -> Catalog:
    """A snapshot over an open connection."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        mark = await fingerprint(connection)
        relations = tuple(_relation(r) for r in await connection.fetch(RELATIONS))
        functions = tuple(
            Function(r[0], r[1], tuple(r[2]), r[3], r[4], r[5], r[6], r[7], r[8])
            for r in await connection.fetch(FUNCTIONS)
        )
        builtin: dict[str, list[tuple[str, ...]]] = {}
        for row in await connection.fetch(BUILTIN_FUNCTIONS):
            builtin.setdefault(row[0], []).append(tuple(row[1]))
        return Catalog(
            database=await connection.fetchval("SELECT pg_catalog.current_database()"),
            server_version_num=int(await connection.fetchval("SHOW server_version_num")),
            relations=relations,
            functions=functions,
            operators=tuple(Operator(*r) for r in await connection.fetch(OPERATORS)),
            types=tuple(Type(*r) for r in await connection.fetch(TYPES)),
            casts=tuple(Cast(*r) for r in await connection.fetch(CASTS)),
            collations=tuple((r[0], r[1]) for r in await connection.fetch(COLLATIONS)),
            builtin_functions={name: tuple(overloads) for name, overloads in builtin.items()},
            builtin_types={r[0]: r[1] for r in await connection.fetch(BUILTIN_TYPES)},
            fingerprint=mark,
        )


def tls_context(mode: str, ca: Path | None) -> ssl.SSLContext | bool:
    """The TLS setting of an upstream connection: `verify-full | verify-ca | require | disable`.

    `require` encrypts and checks nothing, as libpq's does. Never falls back to plain text.
    """
    if mode == "disable":
        return False
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode != "verify-full":
        context.check_hostname = False
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context


CATALOG_SETTINGS: Final[Mapping[str, str]] = {"application_name": "daypass catalog", "search_path": "pg_catalog"}


async def connect(
    *,
    host: str,
    port: int,
    dbname: str,
    user: str,
    password: str,
    tls: str,
    ca: Path | None,
    settings: Mapping[str, str] = CATALOG_SETTINGS,
    within: float = 10.0,
) -> asyncpg.Connection[Any]:
    """daypass's own connection to a database: for the catalog, roles, plan costs and prechecks. `within` in seconds."""
    async with asyncio.timeout(within):
        return await asyncpg.connect(
            host=host,
            port=port,
            database=dbname,
            user=user,
            password=password,
            ssl=tls_context(tls, ca),
            timeout=within,
            server_settings=dict(settings),
        )


async def snapshot(
    *, host: str, port: int, dbname: str, user: str, password: str, tls: str, ca: Path | None = None
) -> Catalog:
    """Connect, read, close. Raises OSError, TimeoutError or asyncpg.PostgresError when that fails."""
    connection = await connect(host=host, port=port, dbname=dbname, user=user, password=password, tls=tls, ca=ca)
    try:
        return await read(connection)
    finally:
        await connection.close(timeout=5)


class _Credential(Protocol):
    @property
    def user(self) -> str: ...
    def password(self) -> str: ...


class Entry(Protocol):
    """A database of config.yaml, as far as connecting to it goes."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def dbname(self) -> str: ...
    @property
    def tls(self) -> str: ...
    @property
    def ca(self) -> Path | None: ...
    @property
    def credential(self) -> _Credential: ...


async def connect_to(entry: Entry) -> asyncpg.Connection[Any]:
    """`connect` with what a configuration says. Its password may raise ConfigError."""
    return await connect(
        host=entry.host,
        port=entry.port,
        dbname=entry.dbname,
        user=entry.credential.user,
        password=entry.credential.password(),
        tls=entry.tls,
        ca=entry.ca,
    )


async def snapshot_of(entry: Entry) -> Catalog:
    """`snapshot` with what a configuration says."""
    connection = await connect_to(entry)
    try:
        return await read(connection)
    finally:
        await connection.close(timeout=5)
