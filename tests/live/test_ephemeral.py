"""Ephemeral roles through a running server: made with the grant, the wall behind the guard, gone with the grant."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from tests.live.house import House, until
from tests.support.postgres import fresh_database, load_shop


def ephemeral(make_house: Callable[..., House], server: PostgresServer) -> House:
    load_shop(server)
    database = fresh_database(server, template=load_shop(server, "ephemeral_template"))
    entry: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "dbname": database,
        "tls": "disable",
        "credential": {"mode": "ephemeral", "user": server.user, "password_env": "SHOP_PASSWORD"},
    }
    house = make_house(server, databases={"shop": entry})
    house.dbname = database
    return house.start(password=server.password)


def our_roles(house: House) -> list[str]:
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        found = owner.execute("select rolname from pg_roles where rolname ~ '^daypass_' order by 1").fetchall()
        found += owner.execute("select nspname from pg_namespace where nspname ~ '^daypass_'").fetchall()
    return [row[0] for row in found]


def gone(house: House) -> bool:
    return any(not our_roles(house) for _ in until(10, 0.2))


def test_a_session_is_its_own_role_and_sees_what_the_policy_shows(
    make_house: Callable[..., House], pg_every: PostgresServer
) -> None:
    house = ephemeral(make_house, pg_every)
    grant = house.grant()
    with psycopg.connect(house.dsn(grant), autocommit=True) as conn:
        row = conn.execute("select current_user").fetchone()
        assert row is not None
        assert row[0].startswith("daypass_")
        first = conn.execute("select * from customers c where c.id = 1").fetchone()
        assert first is not None
        assert "c***@example.com" in first
        assert "900-00-0001" not in first
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"hr\.salaries"):
            conn.execute("select * from hr.salaries")
        with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
            asked = owner.execute(
                "select has_table_privilege(r, 'app.customers', 'select'), "
                "has_table_privilege(r, 'app.orders', 'select') "
                "from (select %s::name) x(r)",
                [row[0]],
            ).fetchone()
        assert asked == (False, True)
    house.revoke(grant[0])
    assert gone(house)


def test_a_role_survives_a_crash_and_ends_with_its_grant(make_house: Callable[..., House], pg: PostgresServer) -> None:
    house = ephemeral(make_house, pg)
    grant = house.grant()
    with psycopg.connect(house.dsn(grant), autocommit=True) as conn:
        conn.execute("select 1")
        house.stop(signal.SIGKILL)
    assert our_roles(house)
    house.revoke(grant[0])
    house.start(password=pg.password)
    assert gone(house)


def test_a_changed_table_gets_a_new_view_under_an_open_session(
    make_house: Callable[..., House], pg: PostgresServer
) -> None:
    house = ephemeral(make_house, pg)
    grant = house.grant()
    with psycopg.connect(house.dsn(grant), autocommit=True) as conn:
        row = conn.execute("select * from customers limit 1").fetchone()
        with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
            owner.execute("alter table app.customers add nickname text default 'x'")
        assert row is not None
        for _ in until(12, 0.2):
            now = conn.execute("select * from customers limit 1", prepare=False).fetchone()
            if now is not None and len(now) == len(row) + 1:
                break
        else:
            raise AssertionError("the new column never came")
    house.revoke(grant[0])
    assert gone(house)


def test_a_hole_in_the_owners_grants_refuses_the_login(make_house: Callable[..., House], pg: PostgresServer) -> None:
    house = ephemeral(make_house, pg)
    grant = house.grant()
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        owner.execute("grant usage on schema hr to public; grant select on hr.salaries to public")
    with pytest.raises(psycopg.OperationalError, match="role of this grant"):
        psycopg.connect(house.dsn(grant))
    assert "hr.salaries" in house.wait_log("role_refused")["reason"]
    house.revoke(grant[0])
    assert gone(house)
