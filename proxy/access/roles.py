"""Ephemeral roles: carries out a role plan in a database, makes and drops one LOGIN role for each grant.

Works over asyncpg connections of the administering role; what the plan contains is the policy's business. Invariants:
only names of this installation are touched; a grant's role is handed out only after its effective privileges were
looked at and found to be exactly the plan's; no password reaches Postgres in the clear (it gets a SCRAM verifier).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from proxy.access import privileges, releases
from proxy.access.privileges import Connection
from proxy.scram import Verifier

_ROLE = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1"


class RoleError(Exception):
    """A role cannot be made or must not be used; the text says why."""


class Released(RoleError):
    """The owner changes `table`: until that is done, no view may stand on it."""

    def __init__(self, table: str) -> None:
        super().__init__(f"{table} is being changed by its owner (`daypass database release`)")
        self.table = table


class View(Protocol):
    """One view of a plan."""

    @property
    def schema(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def create(self) -> str: ...
    @property
    def comment(self) -> str: ...
    @property
    def table(self) -> str: ...


class Plan(Protocol):
    """A role plan, as proxy.policy makes it."""

    @property
    def role(self) -> str: ...
    @property
    def schema(self) -> str: ...
    @property
    def schemas(self) -> Sequence[str]: ...
    @property
    def tables(self) -> Sequence[tuple[str, str]]: ...
    @property
    def views(self) -> Sequence[View]: ...
    @property
    def functions(self) -> Sequence[tuple[str, str]]: ...
    @property
    def grants(self) -> Sequence[str]: ...


def login_name(installation: str, grant: str) -> str:
    """The name of a grant's role."""
    return f"daypass_{installation}_{grant.replace('-', '')}"


def password(secret: bytes, grant: str) -> str:
    """The password of a grant's role: derived, so that it is stored nowhere and every process knows it."""
    return hmac.new(secret, b"role " + grant.encode(), hashlib.sha256).hexdigest()


async def carry_out(connection: Connection, plan: Plan) -> None:
    """Makes a plan's role, views and grants, unless they stand already. Raises Released, asyncpg.PostgresError."""
    async with connection.transaction():
        await releases.lock(connection)
        refuse_released(plan, await releases.standing(connection, plan.schema))
        known = await connection.fetchval(
            "SELECT pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles WHERE rolname = $1",
            plan.role,
        )
        standing = {
            row[0]
            for row in await connection.fetch(
                "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = $1 AND c.relkind = 'v'",
                plan.schema,
            )
        }
        missing = [view for view in plan.views if view.name not in standing]
        if known == plan.role and not missing:
            return
        if await connection.fetchval("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", plan.schema) is None:
            await connection.execute(f'CREATE SCHEMA "{plan.schema}"')
        if await connection.fetchval(_ROLE, plan.role) is None:
            await connection.execute(f'CREATE ROLE "{plan.role}" NOLOGIN')
            await _inherit(connection, plan.role)
        for view in missing:
            await connection.execute(view.create)
            await connection.execute(view.comment)
        for grant in plan.grants:
            await connection.execute(grant)
        for schema, name in plan.functions:
            for signature in await connection.fetch(
                "SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p "
                "JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace "
                "WHERE n.nspname = $1 AND p.proname = $2 AND p.prokind <> 'p'",
                schema,
                name,
            ):
                await connection.execute(f'GRANT EXECUTE ON FUNCTION {signature[0]} TO "{plan.role}"')
        await connection.execute(f"COMMENT ON ROLE \"{plan.role}\" IS '{plan.role}'")


async def make_login(
    connection: Connection, name: str, plan: Plan, *, verifier: Verifier, until: datetime, sessions: int | None
) -> None:
    """Makes a grant's role, or brings it up to date, and looks at what it can do. Raises RoleError, PostgresError."""
    async with connection.transaction():
        await releases.lock(connection)
        new = await connection.fetchval(_ROLE, name) is None
        verb = "CREATE" if new else "ALTER"
        await connection.execute(
            f"{verb} ROLE \"{name}\" LOGIN PASSWORD '{verifier.encode()}' "
            f"VALID UNTIL '{until:%Y-%m-%d %H:%M:%S.%f+00}' CONNECTION LIMIT {sessions or -1}"
        )
        if new:
            await _inherit(connection, name)
        held = await plans_of(connection, name)
        if plan.role not in held:
            await connection.execute(f'GRANT "{plan.role}" TO "{name}"{_options(connection)}')
        for role in held - {plan.role}:
            await connection.execute(f'REVOKE "{role}" FROM "{name}"')
        await connection.execute(f'ALTER ROLE "{name}" SET default_transaction_read_only = on')
        found = await privileges.beyond(connection, name, plan)
        if found:
            raise RoleError(f"the role of this grant could do more than its policy says: {'; '.join(found[:5])}")


async def plans_of(connection: Connection, name: str) -> set[str]:
    """The plan roles that a grant's role is a member of; none where it may not log in."""
    return {row[0] for row in await connection.fetch(_MEMBER_OF, name)}


async def _inherit(connection: Connection, role: str) -> None:
    """Who made a role may not end its backends or drop what it was given, unless it is a member itself."""
    if not await connection.fetchval("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"):
        await connection.execute(f'GRANT "{role}" TO CURRENT_USER{_options(connection)}')


def _options(connection: Connection) -> str:
    return " WITH INHERIT TRUE, SET FALSE" if connection.get_server_version().major >= 16 else ""


_MEMBER_OF = """
SELECT r.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
JOIN pg_catalog.pg_roles u ON u.oid = m.member WHERE u.rolname = $1 AND u.rolcanlogin"""


def refuse_released(plan: Plan, released: Collection[str]) -> None:
    """Raises Released where a view of the plan would stand on a table that is released."""
    for view in plan.views:
        if view.table in released or releases.ALL in released:
            raise Released(view.table)


async def drop_login(connection: Connection, name: str) -> bool:
    """Ends a role's backends and drops it. Returns whether it is gone."""
    if await connection.fetchval(_ROLE, name) is None:
        return True
    await connection.execute(f'ALTER ROLE "{name}" NOLOGIN')
    await connection.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = $1", name
    )
    async with connection.transaction():
        await releases.lock(connection)
        await connection.execute(f'DROP ROLE IF EXISTS "{name}"')
    return await connection.fetchval(_ROLE, name) is None


async def suspend(connection: Connection, names: Collection[str]) -> list[str]:
    """Lets these roles log in no more until `make_login` is called for them. Returns those that could."""
    rows = await connection.fetch(
        "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY ($1) AND rolcanlogin", list(names)
    )
    for (name,) in rows:
        await connection.execute(f'ALTER ROLE "{name}" NOLOGIN')
    return [row[0] for row in rows]


async def logins(connection: Connection, installation: str) -> list[str]:
    """The grants' roles of this installation that stand in the cluster."""
    rows = await connection.fetch(
        "SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.starts_with(rolname, $1)", f"daypass_{installation}_g"
    )
    return [row[0] for row in rows]


async def drop_unused(connection: Connection, installation: str, keep: Sequence[Plan]) -> None:
    """Drops this installation's plan roles and views in this database that nothing uses and `keep` does not have."""
    schema = releases.schema_of(installation)
    async with connection.transaction():
        await releases.lock(connection)
        rows = await connection.fetch(
            _PLANS_HERE, f"daypass_{installation}_p_", [plan.role for plan in keep], f"daypass_{installation}_g"
        )
        for (role,) in rows:
            await connection.execute(f'DROP OWNED BY "{role}"')
            await connection.execute(f'DROP ROLE "{role}"')
        views = await connection.fetch(
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = $1 AND c.relkind = 'v' AND c.relname <> ALL ($2) AND NOT EXISTS ("
            "SELECT FROM pg_catalog.aclexplode(c.relacl) a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee "
            "WHERE pg_catalog.starts_with(r.rolname, $3))",
            schema,
            [view.name for plan in keep for view in plan.views],
            f"daypass_{installation}_p_",
        )
        for (name,) in views:
            quoted = name.replace('"', '""')
            await connection.execute(f'DROP VIEW "{schema}"."{quoted}"')
        if not await releases.standing(connection, schema) and not await connection.fetchval(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = $1 LIMIT 1",
            schema,
        ):
            await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}"')


# Plan roles with a privilege in this database (their ACL entries hang on it), in no grant's use and not to be kept.
_PLANS_HERE = """
SELECT r.rolname FROM pg_catalog.pg_roles r
WHERE pg_catalog.starts_with(r.rolname, $1) AND r.rolname <> ALL ($2)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles u ON u.oid = m.member
                  WHERE m.roleid = r.oid AND pg_catalog.starts_with(u.rolname, $3))
  AND EXISTS (SELECT FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_database b ON b.oid = d.dbid
              WHERE d.refobjid = r.oid AND b.datname = pg_catalog.current_database())"""
