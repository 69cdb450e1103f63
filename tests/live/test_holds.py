"""Held statements with real clients, two workers and the real command: nothing runs that nobody approved.

Covers proxy/cli/hold.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import psycopg
import pytest

from proxy.access.grants import GrantError
from proxy.access.holds import Hold, Holds
from proxy.access.store import Store
from proxy.clock import SystemClock
from proxy.wire import build
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw

HELD = POLICY + "hold: {tables: [app.customers], from: [owners], timeout: 2m}\n"
PEOPLE = {"groups": {"owners": ["olga"]}}
T = TypeVar("T")
SQL = "select count(*) from customers"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, pg_servers: Any) -> Iterator[House]:
    from tests.support.postgres import bindirs

    made = House(tmp_path_factory.mktemp("holds"), pg_servers.get(bindirs()[0]), policy=HELD, people=PEOPLE, workers=2)
    made.start()
    yield made
    made.hurry()


def daypass(house: House, *arguments: str, code: int = 0) -> Any:
    done = house.run("-o", "json", *arguments)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def on_state(house: House, what: Callable[[Holds], Awaitable[T]]) -> T:
    """As another process would, without the time that a command takes to start."""

    async def run() -> T:
        store = await Store.open(f"sqlite:///{house.folder / 'state.db'}")
        try:
            return await what(Holds(store, SystemClock(), None, PEOPLE["groups"]))
        finally:
            await store.close()

    return asyncio.run(run())


def waiting(house: House, count: int = 1) -> list[Hold]:
    found: list[Hold] = []
    for _ in until(20):
        found = on_state(house, lambda holds: holds.all())
        if len(found) == count:
            return found
    raise AssertionError(f"{found} wait, not {count}")


def decide(house: House, hold: Hold, *, approved: bool = True) -> None:
    on_state(house, lambda holds: holds.decide(hold.id, approved=approved, by="olga", reason="not these rows"))


def ended(house: House, hold: Hold, state: str) -> None:
    for _ in until(10):
        if on_state(house, lambda holds: holds.get(hold.id)).state == state:
            return
    raise AssertionError(f"not {state}")


class Asking(threading.Thread):
    """A client that sends one statement and waits."""

    def __init__(self, house: House, sql: str = SQL, **more: Any) -> None:
        super().__init__(daemon=True)
        self.notices: list[str] = []
        self.rows: list[tuple[Any, ...]] = []
        self.error: psycopg.Error | None = None
        self.sql = sql
        self.more = more
        self.conn = psycopg.connect(house.dsn(house.grant()), autocommit=True)
        self.conn.add_notice_handler(lambda notice: self.notices.append(notice.message_primary or ""))
        self.start()

    def run(self) -> None:
        try:
            self.rows = self.conn.execute(self.sql, **self.more).fetchall()
        except psycopg.Error as error:
            self.error = error

    def end(self) -> None:
        self.join(10)
        assert not self.is_alive()


@pytest.mark.thorough
def test_approved_by_another_process_for_a_session_of_any_worker(house: House) -> None:
    asking = Asking(house, "select name from customers where id = %s", params=[1])
    waiting(house)
    (hold,) = daypass(house, "hold", "list")
    assert hold["reason"] == "app.customers: needs another person's approval"
    assert "-- values: [1]" in hold["sql"]
    assert "-- as it would run:" in hold["sql"]
    assert "own session" in daypass(
        house, "hold", "approve", hold["hold"], "--reason", "r", "--by", "ana vendor", code=2
    )
    daypass(house, "hold", "approve", hold["hold"], "--reason", "agreed", "--by", "olga")
    asking.end()
    assert asking.error is None
    assert len(asking.rows) == 1
    assert f"waits for an approval, {hold['hold']}" in "".join(asking.notices)
    asking.conn.close()


def test_a_no_leaves_the_session(house: House) -> None:
    asking = Asking(house)
    (hold,) = waiting(house)
    decide(house, hold, approved=False)
    asking.end()
    assert asking.error is not None
    assert asking.error.sqlstate == "42501"
    assert str(asking.error).startswith("daypass: another person refused this statement: not these rows")
    assert "olga" not in str(asking.error)
    assert asking.conn.execute("select count(*) from orders").fetchone() is not None
    asking.conn.close()


def test_an_execute_of_an_execute_is_no_way_around(house: House) -> None:
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as conn:
        conn.pgconn.prepare(b"c", SQL.encode())
        conn.pgconn.prepare(b"b", b"execute c")
        with pytest.raises(
            psycopg.errors.FeatureNotSupported, match=r"b is itself a statement about names \(EXECUTE\)"
        ):
            conn.execute("execute b")


def test_a_fetch_from_a_bound_portal_is_no_way_around(house: House) -> None:
    with Raw(house.port, timeout=30).login(house.grant()) as raw:
        raw.send(build.query(b"begin"))
        raw.until("Z")
        raw.send(build.parse(b"c", SQL.encode()), build.bind(b"k", b"c"), build.SYNC)
        raw.until("Z")
        raw.send(build.query(b"fetch all from k"))
        (hold,) = waiting(house)
        assert SQL in hold.sql
        decide(house, hold)
        assert "D" in [kind for kind, _ in raw.until("Z")], "Postgres runs it like any cursor"


def test_ctrl_c_while_it_waits(house: House) -> None:
    asking = Asking(house)
    (hold,) = waiting(house)
    asking.conn.cancel()
    asking.end()
    assert isinstance(asking.error, psycopg.errors.QueryCanceled)
    assert asking.conn.execute("select 7").fetchone() == (7,)
    ended(house, hold, "cancelled")
    with pytest.raises(GrantError, match="no longer waits: cancelled"):
        decide(house, hold)
    asking.conn.close()


@pytest.mark.parametrize("how", ["the client leaves", "killed", "revoked"])
def test_a_session_that_ends_gives_up(house: House, how: str) -> None:
    asking = Asking(house)
    (hold,) = waiting(house)
    if how == "the client leaves":
        with socket.socket(fileno=os.dup(asking.conn.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    elif how == "killed":
        daypass(house, "session", "kill", hold.session, "--reason", "enough")
    else:
        house.revoke(hold.grant)
    asking.end()
    asking.conn.close()
    ended(house, hold, "cancelled")


def test_postgres_ran_what_was_approved_and_nothing_else(house: House) -> None:
    """By its own count of reads of the table."""

    def reads() -> int:
        with psycopg.connect(
            host=house.pg.host, port=house.pg.port, user=house.pg.user, password=house.pg.password, dbname=house.dbname,
            autocommit=True,
        ) as conn:  # fmt: skip
            row = conn.execute(
                "select coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::int from pg_stat_user_tables "
                "where schemaname = 'app' and relname = 'customers'"
            ).fetchone()
            assert row is not None
            return int(row[0])

    before = reads()
    tries = [Asking(house) for _ in range(6)]
    for index, hold in enumerate(waiting(house, 6)):
        decide(house, hold, approved=index < 2)
    for asking in tries:
        asking.end()
        asking.conn.close()  # a backend tells its counts when it ends, at the latest
    assert sorted(bool(asking.rows) for asking in tries) == [False] * 4 + [True] * 2
    for _ in until(5):
        if reads() >= before + 2:
            break
    assert reads() == before + 2


@pytest.mark.thorough
def test_a_worker_that_dies_lets_nothing_go(make_house: Callable[..., House]) -> None:
    house = make_house(policy=HELD, people=PEOPLE).start()
    asking = Asking(house)
    (hold,) = waiting(house)
    for _ in until(10):
        if any(line["event"] == "hold" for line in house.lines()):
            break
    assert house.process is not None
    house.process.kill()
    asking.end()
    assert isinstance(asking.error, psycopg.OperationalError)
    asking.conn.close()
    house.stop()
    house.start()
    decide(house, hold)
    lines = house.lines()
    assert [line["event"] for line in lines if line["event"] in ("statement", "hold")] == ["hold"]
