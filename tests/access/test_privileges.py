"""Each way in which a grant's role could do more than its policy, on real servers: found, and nothing too much."""

from __future__ import annotations

import pytest

from proxy.access import privileges, roles
from proxy.demo.postgres import PostgresServer
from tests.access.test_roles import NAME, connect, make, planned
from tests.support.postgres import load_shop

SERVER = "create foreign data wrapper w; create server s foreign data wrapper w; "
LARGE = "select lo_create(4242); "
# What the owner did, and what is said of it. {login} and {plan} are the two roles.
HOLES = {
    "table": ("grant usage on schema hr to public; grant select on hr.salaries to public", "read hr.salaries"),
    "column": ("grant select (ssn) on app.customers to public", "read app.customers"),
    "partition": ("grant select on app.events_2026 to public", "read app.events_2026"),
    "view": ("grant select on app.customer_secrets to public", "read app.customer_secrets"),
    "materialized view": ("grant select on app.sales to public", "read app.sales"),
    "catalog": ("grant select on pg_catalog.pg_statistic to public", "read pg_catalog.pg_statistic"),
    "catalog column": ("grant select (rolpassword) on pg_catalog.pg_authid to public", "read pg_catalog.pg_authid"),
    "insert": ("grant insert on app.orders to public", "write app.orders"),
    "update": ("grant update on app.orders to public", "write app.orders"),
    "delete": ("grant delete on app.orders to public", "write app.orders"),
    "truncate": ("grant truncate on app.orders to public", "write app.orders"),
    "references": ("grant references on app.orders to public", "write app.orders"),
    "trigger": ("grant trigger on app.orders to public", "write app.orders"),
    "maintain": ("grant maintain on app.orders to public", "write app.orders"),
    "insert a column": ("grant insert (note) on app.orders to public", "write app.orders"),
    "update a column": ("grant update (note) on app.orders to public", "write app.orders"),
    "references a column": ("grant references (id) on app.orders to public", "write app.orders"),
    "grant option": ("grant select on app.orders to {plan} with grant option", "grant app.orders to others"),
    "sequence usage": ("grant usage on sequence app.invoice_seq to public", "sequence app.invoice_seq"),
    "sequence update": ("grant update on sequence app.invoice_seq to public", "sequence app.invoice_seq"),
    "sequence select": ("grant select on sequence app.invoice_seq to public", "sequence app.invoice_seq"),
    "sequence of a closed schema": (
        "create sequence hr.s; grant usage on sequence hr.s to public",
        "sequence hr.s",
    ),
    "create in a schema": ("grant create on schema app to public", "create in schema app"),
    "create schemas": (
        "do $$begin execute format('grant create on database %I to public', current_database()); end$$",
        "create schemas",
    ),
    "tablespace": ("grant create on tablespace pg_default to public", "tablespace pg_default"),
    "superuser": ("alter role {login} superuser", "{login} is SUPERUSER"),
    "createrole": ("alter role {login} createrole", "{login} is CREATEROLE"),
    "createdb": ("alter role {plan} createdb", "{plan} is CREATEDB"),
    "replication": ("alter role {login} replication", "{login} is REPLICATION"),
    "bypassrls": ("alter role {login} bypassrls", "{login} is BYPASSRLS"),
    "login": ("alter role {plan} login", "{plan} is LOGIN"),
    "predefined role": ("grant pg_read_all_data to {plan}", "{plan} is a member of pg_read_all_data"),
    "monitoring": ("grant pg_monitor to {login}", "{login} is a member of pg_monitor"),
    "admin option": ("grant {plan} to {login} with admin option", "{login} is a member of {plan} with ADMIN"),
    "owner of a table": ("alter table app.products owner to {login}", "owns table app.products"),
    "owner of a function": ("alter function app.vat(numeric) owner to {plan}", "owns function app.vat"),
    "owner of a schema": ("alter schema hr owner to {plan}", "owns schema hr"),
    "owner of the database": (
        "do $$begin execute format('alter database %I owner to {login}', current_database()); end$$",
        "owns database",
    ),
    "direct grant": ("grant select on app.order_items to {login}", "privilege on table app.order_items"),
    "direct grant to the policy's role": ("grant select on app.order_items to {plan}", "app.order_items"),
    "closed schema to the policy's role": ("grant usage on schema hr to {plan}", "privilege on schema hr"),
    "function to the policy's role": ("grant execute on function app.leak() to {plan}", "function app.leak"),
    "language": ("grant usage on language plpgsql to {login}", "privilege on language plpgsql"),
    "default privileges": (
        "alter default privileges in schema hr grant select on tables to {plan}",
        "default privileges",
    ),
    "large object": (LARGE + "grant select on large object 4242 to public", "large object 4242"),
    "large object of the role": (LARGE + "grant select on large object 4242 to {plan}", "large object 4242"),
    "lo_compat_privileges": (LARGE + "set lo_compat_privileges = on", "every large object"),
    "foreign server": (SERVER + "grant usage on foreign server s to public", "foreign server s"),
    "wrapper": (SERVER + "grant usage on foreign data wrapper w to public", "foreign-data wrapper w"),
    "parameter": ("grant set on parameter session_replication_role to public", "parameter session_replication_role"),
    "alter system": ("grant alter system on parameter work_mem to {plan}", "parameter work_mem"),
}
SINCE = {"maintain": 17, "parameter": 15, "alter system": 15}


def _filled(text: str, plan: str) -> str:
    return text.replace("{login}", NAME).replace("{plan}", plan)


@pytest.mark.parametrize("hole", HOLES)
async def test_each_hole_is_found_and_refuses(pg_every: PostgresServer, hole: str) -> None:
    done, said = HOLES[hole]
    if pg_every.version < SINCE.get(hole, 0):
        pytest.skip("this server has no such privilege")
    load_shop(pg_every, "privileges")
    connection = await connect(pg_every, "privileges")
    plan, _ = await planned(connection)
    everything = connection.transaction()
    await everything.start()
    try:
        await make(connection, plan)
        assert await privileges.beyond(connection, NAME, plan) == []
        await connection.execute(_filled(done, plan.role))
        found = await privileges.beyond(connection, NAME, plan)
        assert any(_filled(said, plan.role) in line for line in found), found
        if hole == "monitoring":  # a membership of the grant's own role is simply taken away
            await make(connection, plan)
        else:
            with pytest.raises(roles.RoleError, match="could do more than its policy says"):
                await make(connection, plan)
    finally:
        await everything.rollback()
        await connection.close()


async def test_what_extensions_and_initdb_give_to_everybody_is_no_hole(pg_every: PostgresServer) -> None:
    load_shop(pg_every, "privileges")
    connection = await connect(pg_every, "privileges")
    plan, _ = await planned(connection)
    everything = connection.transaction()
    await everything.start()
    try:
        await connection.execute("grant create on schema public to public")  # the default before 15
        there = {row[0] for row in await connection.fetch("select name from pg_available_extensions")}
        if "pg_stat_statements" not in there:
            pytest.skip("this server has no extension that gives PUBLIC a relation")
        await connection.execute("create extension pg_stat_statements schema public")
        assert await connection.fetchval("select has_table_privilege('public', 'public.pg_stat_statements', 'select')")
        await make(connection, plan)
        assert await privileges.beyond(connection, NAME, plan) == []
        await connection.execute("create table public.t(); grant select on public.t to public")
        assert await privileges.beyond(connection, NAME, plan) == ["it can read public.t"]
    finally:
        await everything.rollback()
        await connection.close()
