"""What a grant's role can really do, compared with what its policy's plan says.

Asks Postgres itself (`has_…_privilege`), so it counts whatever way a privilege came: to the role, to the policy's role,
to PUBLIC, through a membership or by owning. Reads catalogs, changes nothing. Invariant: whatever is neither in the
plan nor given to PUBLIC by initdb or an extension's own script is found. Not looked at: functions, languages and TEMP
that PUBLIC has; `exposure` lists those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

if TYPE_CHECKING:  # asyncpg's class takes no type arguments at run time
    Connection = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection


class Named(Protocol):
    """A view of a plan."""

    @property
    def schema(self) -> str: ...
    @property
    def name(self) -> str: ...


class Allowed(Protocol):
    """What a plan gives: the part of it that privileges are compared with."""

    @property
    def role(self) -> str: ...
    @property
    def schema(self) -> str: ...
    @property
    def schemas(self) -> Sequence[str]: ...
    @property
    def tables(self) -> Sequence[tuple[str, str]]: ...
    @property
    def views(self) -> Sequence[Named]: ...
    @property
    def functions(self) -> Sequence[tuple[str, str]]: ...


# Each query: what it is, then schema and name of what it is about. $1 the grant's role, $2 the policy's.
_ROLES = """
SELECT 'attribute', r.rolname::text, x.attribute FROM pg_catalog.pg_roles r, LATERAL (VALUES
  (r.rolsuper, 'SUPERUSER'), (r.rolcreaterole, 'CREATEROLE'), (r.rolcreatedb, 'CREATEDB'),
  (r.rolreplication, 'REPLICATION'), (r.rolbypassrls, 'BYPASSRLS'),
  (r.rolcanlogin AND r.rolname = $2, 'LOGIN')) x(has, attribute)
WHERE r.rolname IN ($1, $2) AND x.has
UNION ALL
SELECT 'member', u.rolname::text, r.rolname::text || CASE WHEN m.admin_option THEN ' with ADMIN' ELSE '' END
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
JOIN pg_catalog.pg_roles u ON u.oid = m.member
WHERE u.rolname IN ($1, $2) AND (u.rolname <> $1 OR r.rolname <> $2 OR m.admin_option)"""
# Everything that names one of the two roles, in any database: it owns it, or was given something on it; default
# privileges, parameters and large objects too. The plan gives nothing to the grant's role itself.
_NAMED = """
SELECT x.what, coalesce(cn.nspname, pn.nspname, n.nspname)::text,
       CASE WHEN x.what IN ('relation', 'schema', 'function') THEN coalesce(c.relname, p.proname, n.nspname)::text
            WHEN x.what = 'elsewhere' THEN 'something in database ' || (
              SELECT o.datname FROM pg_catalog.pg_database o WHERE o.oid = d.dbid)
            ELSE pg_catalog.pg_describe_object(d.classid, d.objid, 0) END
FROM pg_catalog.pg_shdepend d
JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid AND r.rolname IN ($1, $2)
JOIN pg_catalog.pg_database b ON b.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_class c ON c.oid = d.objid AND d.dbid = b.oid
  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_proc p ON p.oid = d.objid AND d.dbid = b.oid
  AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.objid AND d.dbid = b.oid
  AND d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass,
LATERAL (SELECT CASE WHEN d.dbid NOT IN (0, b.oid) THEN 'elsewhere' WHEN d.deptype = 'o' THEN 'owns'
                     WHEN r.rolname = $1 OR d.deptype <> 'a' THEN 'named'
                     WHEN c.oid IS NOT NULL THEN 'relation' WHEN n.oid IS NOT NULL THEN 'schema'
                     WHEN p.oid IS NOT NULL THEN 'function' ELSE 'named' END) x(what)
WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass"""
# A privilege counts unless initdb or an extension's own script gave it to PUBLIC. A table in a schema without USAGE
# cannot be named; a sequence can, by its number: nextval(16400).
_RELATIONS = """
WITH first AS MATERIALIZED (
  SELECT i.objoid, pg_catalog.bool_or(x.privilege_type = 'SELECT' AND i.objsubid = 0) AS reads,
         pg_catalog.bool_or(x.privilege_type = 'SELECT' AND i.objsubid <> 0) AS reads_columns,
         pg_catalog.bool_or(x.privilege_type = 'UPDATE') AS updates
  FROM pg_catalog.pg_init_privs i, LATERAL pg_catalog.aclexplode(i.initprivs) x
  WHERE i.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND x.grantee = 0 GROUP BY 1
), relation AS MATERIALIZED (
  SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'S' AS sequence, first.reads, first.reads_columns,
         first.updates
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN first ON first.objoid = c.oid
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_(toast|temp)'
    AND (c.relkind = 'S' OR pg_catalog.has_schema_privilege($1, n.oid, 'USAGE'))
)
SELECT 'reads', nspname, relname FROM relation
WHERE NOT sequence AND NOT coalesce(reads, false) AND nspname <> 'information_schema'
  AND pg_catalog.has_any_column_privilege($1, oid, 'SELECT')
  AND NOT (coalesce(reads_columns, false) AND NOT pg_catalog.has_table_privilege($1, oid, 'SELECT'))
UNION ALL
SELECT 'passes on', nspname, relname FROM relation
WHERE NOT sequence AND pg_catalog.has_any_column_privilege($1, oid, 'SELECT WITH GRANT OPTION')
UNION ALL
SELECT 'writes', nspname, relname FROM relation
WHERE NOT sequence AND NOT coalesce(updates, false)
  AND (pg_catalog.has_table_privilege($1, oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER{maintain}')
       OR pg_catalog.has_any_column_privilege($1, oid, 'INSERT, UPDATE, REFERENCES'))
UNION ALL
SELECT 'sequence', nspname, relname FROM relation
WHERE sequence AND pg_catalog.has_sequence_privilege($1, oid, 'SELECT, USAGE, UPDATE')"""
_OBJECTS = """
SELECT 'creates', NULL, n.nspname::text FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_(toast|temp)' AND pg_catalog.has_schema_privilege($1, n.oid, 'CREATE')
  AND NOT (n.nspname = 'public' AND EXISTS (  -- as every server before 15 was made; `database check` prints the REVOKE
    SELECT FROM pg_catalog.aclexplode(n.nspacl) x WHERE x.grantee = 0 AND x.privilege_type = 'CREATE'))
UNION ALL
SELECT 'creates schemas', NULL, d.datname::text FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database() AND pg_catalog.has_database_privilege($1, d.oid, 'CREATE')
UNION ALL
SELECT 'tablespace', NULL, t.spcname::text FROM pg_catalog.pg_tablespace t
WHERE pg_catalog.has_tablespace_privilege($1, t.oid, 'CREATE')
UNION ALL
SELECT 'server', NULL, s.srvname::text FROM pg_catalog.pg_foreign_server s
WHERE pg_catalog.has_server_privilege($1, s.oid, 'USAGE')
UNION ALL
SELECT 'wrapper', NULL, w.fdwname::text FROM pg_catalog.pg_foreign_data_wrapper w
WHERE pg_catalog.has_foreign_data_wrapper_privilege($1, w.oid, 'USAGE')
UNION ALL
(SELECT 'large object', NULL, l.oid::text FROM pg_catalog.pg_largeobject_metadata l
 WHERE l.lomacl IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) x WHERE x.grantee = 0) LIMIT 1)
UNION ALL
(SELECT 'large objects', NULL, NULL FROM pg_catalog.pg_largeobject_metadata
 WHERE pg_catalog.current_setting('lo_compat_privileges')::boolean LIMIT 1)"""
_PARAMETERS = """
UNION ALL
SELECT 'parameter', NULL, a.parname FROM pg_catalog.pg_parameter_acl a
WHERE EXISTS (SELECT FROM pg_catalog.aclexplode(a.paracl) x WHERE x.grantee = 0)"""
_TEXTS = {
    "attribute": "{schema} is {name}",
    "member": "{schema} is a member of {name}",
    "owns": "it owns {name}",
    "named": "it was given a privilege on {name}",
    "elsewhere": "it owns or was given {name}",
    "relation": "it was given a privilege on {schema}.{name}",
    "schema": "it was given a privilege on schema {name}",
    "function": "it was given a privilege on function {schema}.{name}",
    "reads": "it can read {schema}.{name}",
    "passes on": "it can grant {schema}.{name} to others",
    "writes": "it can write {schema}.{name}",
    "sequence": "it can use sequence {schema}.{name}",
    "creates": "it can create in schema {name}",
    "creates schemas": "it can create schemas in database {name}",
    "tablespace": "it can create in tablespace {name}",
    "server": "it can use foreign server {name}",
    "wrapper": "it can use foreign-data wrapper {name}",
    "large object": "it can use large object {name}",
    "large objects": "it can read every large object: lo_compat_privileges is on",
    "parameter": "it can set parameter {name}",
}


async def beyond(connection: Connection, name: str, plan: Allowed) -> list[str]:
    """What the role `name` could do beyond its plan, one line each. Raises asyncpg.PostgresError."""
    version = connection.get_server_version().major
    relations = _RELATIONS.replace("{maintain}", ", MAINTAIN" if version >= 17 else "")
    objects = _OBJECTS + (_PARAMETERS if version >= 15 else "")
    shown = {*plan.tables, *((view.schema, view.name) for view in plan.views)}
    allowed = {
        "reads": shown,
        "relation": shown,
        "schema": {(schema, schema) for schema in (*plan.schemas, plan.schema)},
        "function": set(plan.functions),
    }
    rows = await connection.fetch(f"{_ROLES} UNION ALL {_NAMED}", name, plan.role)
    rows += await connection.fetch(relations, name)
    rows += await connection.fetch(objects, name)
    return [
        _TEXTS[what].format(schema=schema, name=about)
        for what, schema, about in rows
        if (schema, about) not in allowed.get(what, ())
    ]
