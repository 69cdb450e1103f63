"""Time: grants that expire or are revoked while their sessions are open, idle sessions, policies that change."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.live.house import POLICY, House, until
from tests.live.raw import Raw


def ends(conn: psycopg.Connection[tuple[object, ...]], within: float) -> tuple[float, str]:
    """(seconds until the session ended, what the server said)."""
    began = time.monotonic()
    for _ in until(within):
        try:
            conn.execute("select 1")
        except psycopg.OperationalError as error:
            return time.monotonic() - began, str(error)
    raise AssertionError("the session is still open")


def test_an_idle_session_ends_within_a_second_of_its_revocation(house: House) -> None:
    login = house.grant()
    with Raw(house.port) as raw:
        raw.login(login)
        house.revoke(login[0], "done")
        began = time.monotonic()
        messages = raw.until("E")
        assert time.monotonic() - began < 1.0
        assert b"revoked" in messages[-1][1]
        assert b"57P01" in messages[-1][1]
        assert raw.rest() == b""
    for _ in until(2):
        found = [line for line in house.lines() if line["event"] == "session.end" and line["reason"] == "revoked"]
        if found:
            break
    assert found


def test_a_busy_session_ends_within_a_second_of_its_revocation_and_so_does_its_backend(house: House) -> None:
    login = house.grant()
    with Raw(house.port) as raw:
        from proxy.wire import build

        raw.login(login)
        raw.send(build.query(b"select count(*) from generate_series(1, 50000) r, generate_series(1, 50000) s"))
        house.revoke(login[0])
        began = time.monotonic()
        assert raw.until("E")[-1][0] == "E"
        assert time.monotonic() - began < 1.0
    with psycopg.connect(house.pg.dsn("postgres"), autocommit=True) as conn:
        for _ in until(2):
            row = conn.execute(
                "select count(*) from pg_stat_activity where query like '%50000) s' and pid <> pg_backend_pid()"
                " and state = 'active'"
            ).fetchone()
            if row == (0,):
                break
    assert row == (0,)


def test_a_session_is_warned_and_ends_when_its_grant_does(house: House) -> None:
    login = house.grant(seconds=1.5)
    notices: list[str] = []
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        conn.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
        seconds, said = ends(conn, 4)
    assert seconds < 2.5
    assert "has expired" in said
    with pytest.raises(psycopg.OperationalError, match="expired"):
        psycopg.connect(house.dsn(login))


def test_a_restart_revives_nothing(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    over, gone, good = house.grant(seconds=0.3), house.grant(), house.grant()
    house.revoke(gone[0])
    house.stop(9)
    house.start()
    for login, word in ((over, "expired"), (gone, "revoked")):
        with pytest.raises(psycopg.OperationalError, match=word):
            psycopg.connect(house.dsn(login))
    with psycopg.connect(house.dsn(good)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_an_idle_limit_ends_only_idle_sessions(make_house: Callable[..., House]) -> None:
    house = make_house(policy=POLICY.replace("limits: {", "limits: {idle: 1s, ")).start()
    login = house.grant()
    with psycopg.connect(house.dsn(login), autocommit=True) as busy, Raw(house.port) as idle:
        idle.login(login)
        began = time.monotonic()
        busy.execute("select count(*) from generate_series(1, 2000) a, generate_series(1, 2000) b")
        messages = idle.until("E")
        assert 0.5 < time.monotonic() - began < 3
        assert b"57P05" in messages[-1][1]


def test_a_policy_that_changes_reaches_open_sessions_and_a_broken_one_does_not(
    make_house: Callable[..., House],
) -> None:
    house = make_house().start()
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as conn:
        assert conn.execute("select count(*) from orders", prepare=True).fetchone() == (200,)
        house.write_policy("reader", "name: reader\ndatabases: [shop]\ntables: {app.products: {colums: [x]}}\n")
        found = house.wait_log("policy_broken")
        assert found["file"].endswith("reader.yaml")
        assert found["line"] == 3
        assert conn.execute("select count(*) from orders", prepare=True).fetchone() == (200,)
        house.write_policy("reader", POLICY.replace("  app.orders: {}\n", ""))
        for _ in until(5):
            try:
                conn.execute("select count(*) from orders", prepare=True)
            except psycopg.errors.InsufficientPrivilege:
                break
        else:
            raise AssertionError("the new policy never came into force")
        assert conn.execute("select count(*) from products").fetchone() == (20,)
        (house.folder / "policies" / "reader.yaml").unlink()
        assert "no longer exists" in ends(conn, 5)[1]


def test_sighup_reads_the_policies_at_once(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    assert house.process is not None
    before = len([entry for entry in house.log() if entry["event"] == "policies_loaded"])
    house.process.send_signal(1)
    for _ in until(1):
        if len([entry for entry in house.log() if entry["event"] == "policies_loaded"]) > before:
            return
    raise AssertionError("nothing was read")


@pytest.mark.slow
def test_a_changed_table_reaches_the_judge(make_house: Callable[..., House]) -> None:
    house = make_house()
    from tests.support.postgres import load_shop, read_only_role

    house.dbname = load_shop(house.pg, "shop_that_changes")
    read_only_role(house.pg, house.dbname)
    house.configure()
    house.start()
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as conn:
        row = conn.execute("select * from customers limit 1", prepare=False).fetchone()
        with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
            owner.execute("alter table app.customers add nickname text default 'x'")
        for _ in until(10, 0.2):
            now = conn.execute("select * from customers limit 1", prepare=False).fetchone()
            assert row is not None
            assert now is not None
            if len(now) > len(row):
                return
    raise AssertionError("the new column never came")


@pytest.mark.thorough
def test_what_was_approved_and_what_the_file_says_must_both_allow(make_house: Callable[..., House]) -> None:
    """A policy file that was edited after the approval may take from a grant, and may add nothing to it."""
    narrow = POLICY.replace("  app.orders: {}\n", "")
    house = make_house(policy=narrow).start()

    def answer(*words: str) -> dict[str, Any]:
        done = house.run("-o", "json", *words)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    wish = ["--vendor", "Acme", "--database", "shop", "--policy", "reader", "--for", "1h", "--purpose", "ticket 7"]
    asked = answer("request", "create", "--person", "ana@acme.example", *wish, "--by", "paul")["request"]
    answer("request", "approve", asked, "--reason", "agreed", "--by", "olga")
    grant = answer("request", "show", asked)["grant"]
    token = answer("grant", "token", grant, "--by", "olga")["token"]

    def reads(conn: psycopg.Connection[Any], table: str) -> bool:
        try:
            conn.execute(f"select count(*) from {table}")
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    with psycopg.connect(house.dsn((grant, token)), autocommit=True) as before:
        assert (reads(before, "products"), reads(before, "orders")) == (True, False)
        house.write_policy("reader", POLICY.replace("  app.products: {}\n", ""))  # orders come, products go
        for _ in until(5):
            if not reads(before, "products"):
                break
        with psycopg.connect(house.dsn((grant, token)), autocommit=True) as after:
            for conn in (before, after):
                assert not reads(conn, "products"), "the file no longer allows it"
                assert not reads(conn, "orders"), "nobody has approved it"
                assert reads(conn, "customers")
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as anew:
        assert (reads(anew, "products"), reads(anew, "orders")) == (False, True)
