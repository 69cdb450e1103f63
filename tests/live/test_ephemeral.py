"""Ephemeral roles through a running server: made with the grant, the wall behind the guard, gone with the grant."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from tests.live.house import House, until
from tests.live.signing import SIGN, policy, publish, shown
from tests.support.postgres import drop_roles, fresh_database, load_shop


def ephemeral(make_house: Callable[..., House], server: PostgresServer, workers: int = 1) -> House:
    # Tests of other files leave roles in this cluster, and `gone` looks at all of it.
    drop_roles(server)
    load_shop(server)
    database = fresh_database(server, template=load_shop(server, "ephemeral_template"))
    entry: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "dbname": database,
        "tls": "disable",
        "credential": {"mode": "ephemeral", "user": server.user, "password_env": "SHOP_PASSWORD"},
    }
    house = make_house(server, databases={"shop": entry}, workers=workers)
    house.dbname = database
    return house.start(password=server.password)


def our_roles(house: House) -> list[str]:
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        found = owner.execute("select rolname from pg_roles where rolname ~ '^daypass_' order by 1").fetchall()
        found += owner.execute("select nspname from pg_namespace where nspname ~ '^daypass_'").fetchall()
    return [row[0] for row in found]


def gone(house: House) -> bool:
    return any(not our_roles(house) for _ in until(30, 0.2))


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


@pytest.mark.thorough
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


@pytest.mark.slow
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


def daypass(house: House, *words: str) -> dict[str, Any]:
    done = house.run(*words, "-o", "json", env={"SHOP_PASSWORD": house.pg.password})
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("by_itself", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.thorough
def test_a_migration_passes_and_what_is_hidden_stays_hidden(
    make_house: Callable[..., House], pg_every: PostgresServer, *, by_itself: bool
) -> None:
    house = ephemeral(make_house, pg_every)
    grant = house.grant()
    psycopg.connect(house.dsn(grant)).close()
    alter = "alter table app.customers alter column email type varchar(77)"
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
            owner.execute(alter)
        view = re.search(r"view (daypass_\w+\.\w+)", refused.value.diag.message_detail or "")
        assert view is not None
        said = owner.execute("select obj_description(%s::regclass)", [view[1]]).fetchone()
        assert said is not None
        assert "daypass database release" in said[0]
        with psycopg.connect(house.dsn(grant)) as vendor:  # in a transaction that holds a lock on the view
            vendor.execute("select email from customers")
            words = ["database", "release", "shop", "--table", "app.customers"]
            released = daypass(house, *words, *([] if by_itself else ["--for", "1h"]))
            assert len(released["dropped"]) == 1
            with pytest.raises(psycopg.OperationalError, match=r"pauses: the owner .* changing app\.customers"):
                vendor.execute("select 1")
        with pytest.raises(psycopg.OperationalError, match=r"pauses.*changing app\.customers"):
            psycopg.connect(house.dsn(grant))
        reads = "select has_any_column_privilege(rolname, 'app.customers', 'select') from pg_roles "
        ours = reads + "where rolname ~ '^daypass_'"
        assert owner.execute(ours).fetchall() == [(False,), (False,)]
        owner.execute(alter)
        if not by_itself:
            assert daypass(house, *words, "--done")["taken_back"] == ["app.customers"]
        for _ in until(30, 0.2):
            try:
                vendor = psycopg.connect(house.dsn(grant), autocommit=True)
                break
            except psycopg.OperationalError:
                continue
        else:
            raise AssertionError("the grant never went on")
        with vendor:
            for _ in until(10, 0.2):
                found = vendor.execute("select * from customers where id = 1", prepare=False)
                row, kind = found.fetchone(), found.description[1 + 1].type_code if found.description else 0
                assert row is not None
                assert "c***@example.com" in row
                assert "900-00-0001" not in row
                if kind == 1043:
                    break
            else:
                raise AssertionError("the new type never came")
    house.revoke(grant[0])
    assert gone(house)


@pytest.mark.slow
def test_an_open_security_definer_function_is_told_once_for_each_change(
    make_house: Callable[..., House], pg: PostgresServer
) -> None:
    house = ephemeral(make_house, pg)
    assert house.wait_log("security_definer_open")["functions"] == ["app.leak()"]
    assert 'daypass_open_definers{database="shop"} 1.0' in house.http("/metrics")[1]
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        owner.execute("revoke execute on function app.leak() from public")
    house.wait_log("security_definer_open", functions=[], timeout=12)
    assert len([line for line in house.log() if line["event"] == "security_definer_open"]) == 2


def test_observing_and_a_role_for_each_grant_do_not_go_together(
    make_house: Callable[..., House], pg: PostgresServer
) -> None:
    house = ephemeral(make_house, pg)
    assert house.wait_log("policy_observes")["policy"] == "watcher"
    assert "daypass_observing_policies 1.0" in house.http("/metrics")[1]
    with pytest.raises(psycopg.OperationalError, match="only observes"):
        psycopg.connect(house.dsn(house.grant(policy="watcher")))


@pytest.mark.slow
def test_two_installations_in_one_cluster_leave_each_other_alone(
    make_house: Callable[..., House], pg: PostgresServer
) -> None:
    one, two = ephemeral(make_house, pg), ephemeral(make_house, pg)
    grant, other = one.grant(), two.grant()
    with psycopg.connect(one.dsn(grant), autocommit=True), psycopg.connect(two.dsn(other), autocommit=True) as stays:
        mine, theirs = (f"_{login[0].replace('-', '')}" for login in (grant, other))
        one.stop(signal.SIGKILL)  # its role stands, and perhaps its backend: PostgreSQL has not looked yet
        one.revoke(grant[0])
        with psycopg.connect(pg.dsn(one.dbname), autocommit=True) as owner:
            (login,) = [name for name in our_roles(one) if name.endswith(mine)]
            owner.execute(f"alter role \"{login}\" password 'open'")
            with psycopg.connect(pg.dsn(one.dbname, user=login, password="open"), autocommit=True) as left_open:
                one.start(password=pg.password)
                for _ in until(10, 0.2):
                    if not [name for name in our_roles(one) if name.endswith(mine)]:
                        break
                else:
                    raise AssertionError("the role of a grant that is over was never dropped")
                with pytest.raises(psycopg.OperationalError):
                    left_open.execute("select 1")
        assert [name for name in our_roles(two) if name.endswith(theirs)]
        assert stays.execute("select count(*) from orders").fetchone() == (200,)
    two.revoke(other[0])
    assert gone(two)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_table_that_changes_and_changes_back(
    make_house: Callable[..., House], pg: PostgresServer, workers: int
) -> None:
    """The grant's role goes to the views of the new columns and back to those of the old ones, in every worker."""
    house = ephemeral(make_house, pg, workers)
    login = house.grant()

    def columns() -> int:
        with psycopg.connect(house.dsn(login), autocommit=True) as conn:
            return len(conn.execute("select * from customers where id = 1").description or ())

    def all_see(wanted: int) -> bool:
        for _ in until(30, 0.2):
            with contextlib.suppress(psycopg.Error):
                if all(columns() == wanted for _ in range(6)):
                    return True
        return False

    before = columns()
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        owner.execute("alter table app.customers add nickname text")
        assert all_see(before + 1)
        daypass(house, "database", "release", "shop", "--table", "app.customers")
        owner.execute("alter table app.customers drop nickname")
    assert all_see(before)
    house.revoke(login[0])
    assert gone(house)


@pytest.mark.thorough
def test_a_signing_session_has_no_role(make_house: Callable[..., House], pg: PostgresServer) -> None:
    house = ephemeral(make_house, pg)
    (house.folder / "agreements").mkdir()
    publish(house, "nda", "Behave.\n")
    house.write_policy("signed", policy("signed", "nda"))
    house.wait_log("policies_loaded", after=len((house.folder / "serve.log").read_bytes()), timeout=10)
    login = house.grant(policy="signed")
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        assert "Behave." in shown(conn)
    assert not [role for role in our_roles(house) if login[0].removeprefix("g-") in role]
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        shown(conn)
        conn.execute(SIGN)
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        assert conn.execute("select count(*) from orders").fetchone()
    assert [role for role in our_roles(house) if login[0].removeprefix("g-") in role]
    house.revoke(login[0])
    assert gone(house)
