"""Ephemeral roles on real servers: the wall stands without a guard, and nothing is left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import psycopg
import pytest

from proxy import catalog
from proxy.access import privileges, releases, roles
from proxy.access.privileges import Connection
from proxy.demo.postgres import PostgresServer
from proxy.policy import ddl
from proxy.policy.ddl import RolePlan
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from proxy.scram import Verifier
from tests.support.postgres import fresh_database, load_shop

INSTALLATION = "0a1b2c3d"
POLICY = """
name: shop
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn], mask: {email: email}, rows: "country = 'DE'"}
  app.orders: {}
  app.products: {}
functions: {allow: [app.vat]}
"""
NAME = roles.login_name(INSTALLATION, "g-00000001")


async def connect(pg: PostgresServer, database: str) -> Connection:
    return await catalog.connect(
        host=pg.host, port=pg.port, dbname=database, user=pg.user, password=pg.password, tls="disable", ca=None
    )


async def planned(connection: Connection, text: str = POLICY) -> tuple[RolePlan, Judge]:
    snapshot = await catalog.read(connection)
    views = ddl.views_schema(INSTALLATION)
    judge = Judge(parse(text, "p"), snapshot, views=views)
    return ddl.plan(judge.bound, INSTALLATION), judge


async def make(connection: Connection, plan: RolePlan, password: str = "vendor-pw") -> None:
    await roles.carry_out(connection, plan)
    await roles.make_login(
        connection,
        NAME,
        plan,
        verifier=Verifier.make(password, salt=b"0123456789abcdef"),
        until=datetime.now(UTC) + timedelta(hours=1),
        sessions=5,
    )


def database_of(pg: PostgresServer) -> str:
    load_shop(pg, "roles_template")
    return fresh_database(pg, template="roles_template")


async def test_the_role_reads_what_the_policy_shows_and_nothing_else(pg_every: PostgresServer) -> None:
    database = database_of(pg_every)
    connection = await connect(pg_every, database)
    try:
        plan, judge = await planned(connection)
        await make(connection, plan)
        await make(connection, plan)  # twice is once
        with psycopg.connect(pg_every.dsn(database, user=NAME, password="vendor-pw"), autocommit=True) as vendor:
            for sql in (
                "select ssn from app.customers",
                "select * from app.customers",
                "select id from app.customers",
                "select * from hr.salaries",
                "select * from app.order_items",
                "insert into app.products(name, price) values ('x', 1)",
                "create table app.x()",
                "create schema x",
            ):
                with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                    vendor.execute(sql)
            forward = judge.judge(b"select * from customers c order by id").forward
            rows = vendor.execute(forward).fetchall()
            assert rows
            assert all("***@" in row[2] and "900-00" not in str(row) for row in rows)
            assert vendor.execute("select count(*) from app.orders").fetchone() == (200,)
            assert vendor.execute("select app.vat(100)").fetchone() == (19,)
        assert await privileges.beyond(connection, NAME, plan) == []
        assert await roles.logins(connection, INSTALLATION) == [NAME]
        assert await roles.drop_login(connection, NAME)
        await roles.drop_unused(connection, INSTALLATION, [])
        left = await connection.fetch("select rolname from pg_roles where rolname ~ '^daypass_0a1b2c3d'")
        schemas = await connection.fetch("select nspname from pg_namespace where nspname ~ '^daypass_0a1b2c3d'")
        assert (left, schemas) == ([], [])
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("hole", "said", "mend"),
    [
        ("grant select on hr.salaries to public; grant usage on schema hr to public", "hr.salaries", "select 1"),
        ("grant select (ssn) on app.customers to public", "app.customers", "select 1"),
        ("grant update on app.orders to public", "write app.orders", "select 1"),
        ("grant create on schema app to public", "create in schema app", "select 1"),
    ],
)
async def test_a_role_that_could_do_more_is_not_served(pg: PostgresServer, hole: str, said: str, mend: str) -> None:
    connection = await connect(pg, database_of(pg))
    try:
        await connection.execute(hole)
        plan, _ = await planned(connection)
        with pytest.raises(roles.RoleError, match=said):
            await make(connection, plan)
        assert await roles.logins(connection, INSTALLATION) == []  # nothing was left half made
    finally:
        await roles.drop_unused(connection, INSTALLATION, [])
        await connection.close()


async def test_a_new_revision_takes_the_old_roles_place(pg: PostgresServer) -> None:
    connection = await connect(pg, database_of(pg))
    try:
        first, _ = await planned(connection)
        second, judge = await planned(connection, POLICY.replace("  app.products: {}\n", ""))
        assert first.role != second.role
        assert first.views == second.views  # shown alike: the same view
        await make(connection, first)
        await make(connection, second)
        assert await privileges.beyond(connection, NAME, second) == []
        await roles.drop_unused(connection, INSTALLATION, [second])
        await make(connection, second)
        assert judge.judge(b"select name from customers").allowed
        await roles.drop_login(connection, NAME)
    finally:
        await roles.drop_unused(connection, INSTALLATION, [])
        await connection.close()


@pytest.mark.thorough
async def test_two_at_once_do_not_collide(pg: PostgresServer) -> None:
    import asyncio

    database = database_of(pg)
    connections = [await connect(pg, database) for _ in range(4)]
    try:
        plan, _ = await planned(connections[0])
        await asyncio.gather(*(make(connection, plan) for connection in connections))
        await roles.drop_login(connections[0], NAME)
    finally:
        await roles.drop_unused(connections[0], INSTALLATION, [])
        for connection in connections:
            await connection.close()


async def test_the_view_says_whose_it_is(pg: PostgresServer) -> None:
    connection = await connect(pg, database_of(pg))
    try:
        plan, _ = await planned(connection)
        await roles.carry_out(connection, plan)
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await connection.execute("alter table app.customers alter column name type varchar(10)")
        (view,) = plan.views
        comment = await connection.fetchval("select obj_description($1::regclass)", f'{view.schema}."{view.name}"')
        assert "daypass database release" in comment
    finally:
        await roles.drop_unused(connection, INSTALLATION, [])
        await connection.close()


def test_names_and_passwords_are_derived() -> None:
    bound_name = roles.login_name("ab", "g-x")
    assert bound_name == "daypass_ab_gx"
    assert roles.password(b"s", "g-1") == roles.password(b"s", "g-1") != roles.password(b"s", "g-2")


ADMIN_HERE = """
do $$begin execute format('grant create on database %I to daypass_test_admin', current_database()); end$$;
grant usage on schema app to daypass_test_admin with grant option;
grant select on all tables in schema app to daypass_test_admin with grant option;
grant execute on all functions in schema app to daypass_test_admin with grant option
"""


@pytest.mark.thorough
async def test_an_administering_role_needs_no_superuser(pg_every: PostgresServer) -> None:
    database = database_of(pg_every)
    owner = await connect(pg_every, database)
    if not await owner.fetchval("select 1 from pg_roles where rolname = 'daypass_test_admin'"):
        await owner.execute("create role daypass_test_admin login createrole password 'admin-pw'")
    await owner.execute(ADMIN_HERE)
    connection = await catalog.connect(
        host=pg_every.host, port=pg_every.port, dbname=database, user="daypass_test_admin", password="admin-pw",
        tls="disable", ca=None,
    )  # fmt: skip
    try:
        first, _ = await planned(connection)
        await make(connection, first)
        with psycopg.connect(pg_every.dsn(database, user=NAME, password="vendor-pw"), autocommit=True) as vendor:
            (view,) = first.views
            assert vendor.execute(f'select count(*) from "{view.schema}"."{view.name}"').fetchone() != (0,)
            plan, _ = await planned(connection, POLICY.replace("app.orders: {}", "app.orders: {deny: [note]}"))
            await make(connection, plan)
            await roles.drop_unused(connection, INSTALLATION, [plan])
            left = await owner.fetch("select rolname from pg_roles where rolname ~ '^daypass_0a1b2c3d_p'")
            assert [row[0] for row in left] == [plan.role]
            assert len(await releases.release(connection, INSTALLATION, "app.orders", 60, by_itself=False)) == 1
            with pytest.raises(roles.Released, match=r"app\.orders"):
                await make(connection, plan)
            assert await releases.lift(connection, INSTALLATION, None) == ["app.orders"]
            await make(connection, plan)
            assert await roles.drop_login(connection, NAME)
            with pytest.raises(psycopg.OperationalError):
                vendor.execute("select pg_sleep(5)")
        await roles.drop_unused(connection, INSTALLATION, [])
        assert await owner.fetch("select rolname from pg_roles where rolname ~ '^daypass_0a1b2c3d'") == []
        assert await owner.fetch("select nspname from pg_namespace where nspname ~ '^daypass_0a1b2c3d'") == []
    finally:
        await connection.close()
        await owner.execute("drop owned by daypass_test_admin")
        await owner.close()
