"""What Postgres executed equals what was recorded as forwarded, in order, for each session of a mixed workload.

Real clients (psycopg, its pipelines, asyncpg) and random conversations byte by byte, with refusals, errors,
PREPARE and EXECUTE, cursors, several statements in a message, cancels, under a policy and in observe mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import pytest

from proxy.wire import build
from tests.faults.conftest import Figure
from tests.faults.equality import ServerLog, compare
from tests.faults.scale import LONG, SEED
from tests.faults.streams import likely, stream
from tests.live.house import POLICY, House
from tests.live.raw import Raw

Login = tuple[str, str]


def typed(house: House, login: Login, chance: random.Random) -> None:
    """A person at psql: both protocols, names, cursors, several statements, refusals, errors."""
    texts = (
        "select 1; select 2; select 'three'", "select 1; delete from orders; select 2", "select 1/0; select 2",
        "prepare p as select name from customers where id = $1", "execute p(1)", "execute p(2); select 5",
        "deallocate p",
        "begin", "declare c cursor for select * from orders", "fetch 3 from c", "close c", "commit", "rollback",
        "select * from hr.salaries", "select email from customers limit 2", " select 6 ; ; -- seven", "execute unknown",
        "copy (select id from orders) to stdout", "savepoint s", "select 'begin; not'", "/* 1 */ select /* 2 */ 3;",
    )  # fmt: skip
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        for _ in range(60):
            text = chance.choice(texts)
            with contextlib.suppress(psycopg.Error):
                if text.startswith("copy"):
                    with conn.cursor().copy(text) as copy:
                        list(copy)
                else:
                    conn.execute(text)
            with contextlib.suppress(psycopg.Error):
                conn.execute("select %s::int", [chance.choice(("1", "x"))], prepare=True)


def pipelined(house: House, login: Login, chance: random.Random) -> None:
    """A driver's pipelines, some with an error or a refusal in the middle."""
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        for _ in range(15):
            with contextlib.suppress(psycopg.Error), conn.pipeline() as pipeline:
                for number in range(12):
                    draw = chance.random()
                    if draw < 0.1:
                        conn.execute("select 1/%s", [0])
                    elif draw < 0.2:
                        conn.execute("delete from orders")
                    elif draw < 0.3:
                        pipeline.sync()
                    else:
                        conn.execute(f"select %s::int, {number % 3}", [number], prepare=chance.choice((True, None)))


def cancelled(house: House, login: Login, chance: random.Random) -> None:
    """Statements that are cancelled while they run, and some that were over before."""
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        for number in range(6):
            timer = threading.Timer(chance.random() * 0.1, conn.cancel_safe)
            timer.start()
            with contextlib.suppress(psycopg.Error):
                conn.execute(f"select count(*), {number} from generate_series(1, 3000000)")
            timer.join()
            with contextlib.suppress(psycopg.Error):
                conn.execute("select 'after'")


def loops(house: House, login: Login, chance: random.Random) -> None:
    """An asyncio driver: its own statement cache, cursors in portals, resets."""

    async def run() -> None:
        conn: Any = await asyncpg.connect(
            host="127.0.0.1", port=house.port, user=login[0], password=login[1], database="shop"
        )
        for number in range(20):
            with contextlib.suppress(asyncpg.PostgresError):
                await conn.fetch("select $1::int + $2::int", number, chance.choice((1, 2)))
                await conn.execute("select 1; select 2")
                if chance.random() < 0.3:
                    await conn.fetch("select * from hr.salaries")
                async with conn.transaction():
                    rows = [row async for row in conn.cursor("select id from orders", prefetch=40)]
                    assert len(rows) == 200
        await conn.reset()
        await conn.close()

    asyncio.run(run())


def random_conversation(house: House, login: Login, chance: random.Random) -> None:
    """Messages in any order, well formed, sent without waiting; then a goodbye."""
    with Raw(house.port, timeout=20) as raw:
        raw.login(login)
        reader = threading.Thread(target=raw.rest)
        reader.start()
        try:
            for message in likely(chance, 25) + stream(chance):
                raw.send(message)
            raw.send(build.SYNC, build.TERMINATE)
        except OSError:
            pass
        reader.join()


CLIENTS = (typed, pipelined, cancelled, loops)


def converse(house: House, login: Login, clients: list[Any], seed: str) -> None:
    """All of them at once, four at a time."""
    seats = threading.Semaphore(4)
    problems: list[BaseException] = []

    def one(number: int, client: Any) -> None:
        with seats:
            try:
                client(house, login, random.Random(f"{seed}/{number}"))
            except BaseException as problem:
                problems.append(problem)

    threads = [threading.Thread(target=one, args=task) for task in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems


@pytest.mark.parametrize("policy", ["reader", "watcher"])
@pytest.mark.thorough
def test_a_mixed_workload_is_recorded_as_postgres_ran_it(
    make_house: Callable[..., House], figure: Figure, policy: str
) -> None:
    house = make_house().start()
    log = ServerLog(house.pg)
    converse(house, house.grant(policy=policy), [*CLIENTS, *CLIENTS], SEED)
    sessions, statements, found = compare(house, log.settled(house.role))
    assert not found, "\n".join(found[:10])
    assert sessions >= 8
    figure(
        f"the server's log equals the record, {'a policy' if policy == 'reader' else 'observe mode'}",
        f"psycopg, pipelines with errors, cursors, cancels, asyncpg: {sessions} sessions, {statements:,} statements",
        "0 differences",
        "0",
    )


MODES = {"a policy": "reader", "observe mode": "watcher", "a limit of 3 rows": "reader"}


def random_conversations(make_house: Callable[..., House], mode: str, count: int, figure: Figure) -> None:
    policy = POLICY.replace("limits: {", "limits: {rows_per_statement: 3, ") if "limit" in mode else POLICY
    house = make_house(policy=policy).start()
    log = ServerLog(house.pg)
    login = house.grant(policy=MODES[mode])
    converse(house, login, [random_conversation] * count, f"{SEED}/{mode}")
    sessions, statements, found = compare(house, log.settled(house.role))
    assert not found, "\n".join(found[:10])
    assert not [line.message for line in house.pg.log() if "terminated by signal" in line.message]
    assert not [line for line in house.log() if line["event"] in ("session_bug", "judge_bug", "task_crashed")]
    figure(
        f"random conversations against a real server, {mode}",
        f"{sessions} sessions, {statements:,} statements executed",
        "0 differences of log and record",
        "0",
    )


@pytest.mark.parametrize("mode", MODES)
def test_random_conversations_are_recorded_as_postgres_ran_them(
    make_house: Callable[..., House], figure: Figure, mode: str
) -> None:
    random_conversations(make_house, mode, 16, figure)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_many_random_conversations_are_recorded_as_postgres_ran_them(
    make_house: Callable[..., House], figure: Figure, mode: str
) -> None:
    random_conversations(make_house, mode, 2_000 if LONG else 300, figure)
