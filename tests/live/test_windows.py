"""Windows in a running daypass: hours that close and open, networks that no longer fit, a longest that got shorter.

Covers proxy/session/terms.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.wire import build
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw
from tests.live.test_ephemeral import ephemeral

ENDLESS = b"select count(*) from generate_series(1, 50000) r, generate_series(1, 50000) s"


def hours(*, closed: bool = False) -> str:
    """A window around now, or around midnight on the other side of the day, in UTC."""
    now = datetime.now(UTC) + timedelta(hours=12 if closed else 0)
    return f'hours: "{now - timedelta(hours=2):%H}:00-{now + timedelta(hours=3):%H}:00"'


def window(text: str) -> str:
    return POLICY + f"window: {{{text}}}\n"


def still_runs(house: House) -> bool:
    with psycopg.connect(house.pg.dsn("postgres"), autocommit=True) as conn:
        for _ in until(2):
            row = conn.execute(
                "select count(*) from pg_stat_activity where query like '%50000) s' and pid <> pg_backend_pid()"
                " and state = 'active'"
            ).fetchone()
            if row == (0,):
                return False
    return True


def test_hours_that_close_end_sessions_cancel_statements_and_refuse_logins_until_they_open(
    make_house: Callable[..., House],
) -> None:
    house = make_house(policy=window(hours())).start()
    login = house.grant(seconds=2 * 86_400)
    with psycopg.connect(house.dsn(login)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    with Raw(house.port) as busy:
        busy.login(login)
        busy.send(build.query(ENDLESS))
        house.write_policy("reader", window(hours(closed=True)))
        last = busy.until("E")[-1][1]
        assert b"57P01" in last
        assert b"pauses outside of its hours; it opens at " in last
        assert b" UTC" in last
    assert not still_runs(house)
    with pytest.raises(psycopg.OperationalError, match=r"FATAL:  daypass: grant g-\w+ pauses outside of its hours"):
        psycopg.connect(house.dsn(login))
    ends = [line for line in house.lines() if line["event"] == "session.end"]
    assert sorted(line["reason"] for line in ends) == ["client", "paused"]
    assert house.logins()[-1]["reason"] == "paused"
    house.wait_log("grant_paused", grant=login[0])
    house.write_policy("reader", window(hours()))
    house.wait_log("grant_active", grant=login[0])
    with psycopg.connect(house.dsn(login)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_a_network_of_the_policy_is_kept_at_the_door_and_while_sessions_are_open(
    make_house: Callable[..., House],
) -> None:
    house = make_house(policy=POLICY + "network: [127.0.0.0/8]\n").start()
    login = house.grant()
    with Raw(house.port) as open_:
        open_.login(login)
        house.write_policy("reader", POLICY + "network: [203.0.113.0/24]\n")
        assert b"no longer lets it be used from this address" in open_.until("E")[-1][1]
    with pytest.raises(psycopg.OperationalError, match=r"may not be used from \"127\.0\.0\.1\".*\n.*203\.0\.113\.0/24"):
        psycopg.connect(house.dsn(login))
    house.write_policy("reader", POLICY)
    for _ in until(5):
        try:
            psycopg.connect(house.dsn(login)).close()
            break
        except psycopg.OperationalError:
            continue
    else:
        raise AssertionError("still refused")


def test_a_longest_that_got_shorter_ends_the_grant(make_house: Callable[..., House]) -> None:
    house = make_house(policy=window("max: 7d")).start()
    login = house.grant()
    with Raw(house.port) as open_:
        open_.login(login)
        house.write_policy("reader", window("max: 2s"))
        began = time.monotonic()
        assert b"has expired" in open_.until("E")[-1][1]
        assert time.monotonic() - began < 4
    house.wait_log("grant_ended", grant=login[0], why="policy")
    before = len((house.folder / "serve.log").read_bytes())
    house.write_policy("reader", window("max: 7d"))
    house.wait_log("policies_loaded", after=before)
    with pytest.raises(psycopg.OperationalError, match="lets a grant last 2s at most by now"):
        psycopg.connect(house.dsn(login))


def test_at_its_end_what_runs_is_cancelled_and_sessions_close_within_a_second(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    before = datetime.now(UTC)
    login = house.grant(seconds=5)
    after = datetime.now(UTC)
    with Raw(house.port, timeout=15) as idle, Raw(house.port, timeout=15) as busy:
        idle.login(login)
        busy.login(login)
        busy.send(build.query(ENDLESS))
        for raw in (idle, busy):
            assert b"has expired" in raw.until("E")[-1][1]
            assert datetime.now(UTC) >= before + timedelta(seconds=5)
            late = (datetime.now(UTC) - after).total_seconds() - 5
            print(f"closed {late:.3f} s after its end")
            assert late < 1
    assert not still_runs(house)


@pytest.mark.slow
def test_at_the_end_of_hours_sessions_close_within_a_second_and_the_role_may_not_log_in(
    make_house: Callable[..., House], pg: PostgresServer
) -> None:
    house = ephemeral(make_house, pg)
    endless = POLICY.replace("statement_timeout: 20s", "statement_timeout: 5m")
    before = len((house.folder / "serve.log").read_bytes())
    house.write_policy("reader", endless)
    house.wait_log("policies_loaded", after=before)
    login = house.grant()
    with Raw(house.port, timeout=90) as idle, Raw(house.port, timeout=90) as busy:
        idle.login(login)
        busy.login(login)
        busy.send(build.query(ENDLESS))
        closes = (datetime.now(UTC) + timedelta(seconds=75)).replace(second=0, microsecond=0)
        begins = closes - timedelta(hours=3)
        house.write_policy("reader", endless + f'window: {{hours: "{begins:%H:%M}-{closes:%H:%M}"}}\n')
        for raw in (idle, busy):
            assert b"57P01" in raw.until("E")[-1][1]
            late = (datetime.now(UTC) - closes).total_seconds()
            print(f"closed {late:.3f} s after the end of its hours")
            assert 0 <= late < 1
    assert not still_runs(house)
    house.wait_log("role_suspended")
    house.wait_log("grant_paused", grant=login[0])
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as owner:
        role = "select rolcanlogin from pg_roles where rolname ~ '^daypass_.*_g'"
        assert owner.execute(role).fetchone() == (False,)
        house.write_policy("reader", endless)
        house.wait_log("grant_active", grant=login[0])
        with psycopg.connect(house.dsn(login)) as conn:
            assert conn.execute("select count(*) from orders").fetchone() == (200,)
        assert owner.execute(role).fetchone() == (True,)
