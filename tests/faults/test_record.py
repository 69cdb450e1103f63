"""The record under fault: a full disk, an unwritable folder, kill -9 in the middle of everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg

from proxy.wire import build
from tests.faults.conftest import Figure
from tests.live.house import House, until
from tests.live.raw import Raw, fatal

LIMIT = 400_000
"""Bytes of a file: more than the state needs to begin with."""


def executed(house: House, word: str) -> Counter[str]:
    """The statements with `word` in them that Postgres says it executed for daypass's role."""
    texts = [line.message for line in house.pg.log() if line.user == house.role and line.severity == "LOG"]
    return Counter(
        text.split(": ", 1)[1] for text in texts if text.startswith(("statement: ", "execute ")) and word in text
    )


def recorded_texts(house: House) -> set[str]:
    """Every statement that stands in a recording; the last line of a file may be torn."""
    found: set[str] = set()
    for path in house.recordings():
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["event"] == "statement":
                    found.add(event["sql"])
    return found


def test_what_a_full_disk_cannot_record_is_not_sent(make_house: Callable[..., House], figure: Figure) -> None:
    """The file size limit stands for the full disk: writes fail in the same way, at any byte."""

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    house = make_house(recording={"reserve": 0}).start(prepare=small)
    login = house.grant()
    with Raw(house.port).login(login) as raw:
        last = 0
        for number in range(100_000):
            raw.send(build.query(b"select %d as filled_disk, '%s'" % (number, b"x" * 2000)))
            messages = raw.until("Z", "E")
            if messages[-1][0] == "E":
                break
            last = number
        assert fatal(messages)[0] == "58030"
        assert raw.rest() == b""
    ran = executed(house, "as filled_disk")
    assert len(ran) == last + 1
    assert not set(ran) - recorded_texts(house), "nothing unrecorded was sent"
    for _ in until(3):
        if house.http("/readyz")[0] == 503:
            break
    assert house.wait_log("recording_unwritable")
    figure(
        "the disk is full", f"{len(ran)} statements until a write failed", "0 sent unrecorded; 58030; /readyz 503", "0"
    )


def test_an_unwritable_folder_refuses_new_sessions_until_it_can_be_written(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    login = house.grant()
    with Raw(house.port).login(login) as raw:
        raw.send(build.query(b"select 1"))
        raw.until("Z")
    folder = house.folder / "recordings"
    moved = house.folder / "moved"
    folder.rename(moved)
    folder.write_text("in the way")
    try:
        assert house.http("/readyz")[0] == 503
        with Raw(house.port) as raw:
            raw.start(login[0])
            assert fatal(raw.prove(login[1]))[0] == "58030"
        assert house.http("/healthz")[0] == 200
    finally:
        folder.unlink()
        moved.rename(folder)
    for _ in until(5):
        if house.http("/readyz")[0] == 200:
            break
    with Raw(house.port) as raw:
        raw.login(login)


async def busy(house: House, login: tuple[str, str], number: int, ran: list[int]) -> None:
    """A session that never stops asking, by both protocols."""
    conn: Any = await asyncpg.connect(
        host="127.0.0.1", port=house.port, user=login[0], password=login[1], database="shop"
    )
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        step = 0
        while True:
            step += 1
            await conn.execute(f"select {number}, {step} as killed_{number}_{step}")
            await conn.fetchval(f"select $1::int as killed_{number}_{step}_x", step)
            ran.append(number)
    conn.terminate()


async def test_kill_9_in_the_middle_of_sixteen_busy_sessions(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    login = house.grant()
    progress: list[int] = []
    tasks = [asyncio.ensure_future(busy(house, login, number, progress)) for number in range(16)]
    # In the middle: every session has done something, and all of them together a lot.
    for _ in range(400):
        await asyncio.sleep(0.05)
        if len(set(progress)) == 16 and len(progress) > 400:
            break
    assert house.process is not None
    house.process.kill()
    house.process.wait()
    house.process = None
    await asyncio.gather(*tasks, return_exceptions=True)
    ran = executed(house, "killed_")
    assert len(ran) > 500
    assert not set(ran) - recorded_texts(house)
    house.start()
    verified = await asyncio.to_thread(house.run, "recording", "verify")
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout.count("interrupted") >= 16
    assert "damaged" not in verified.stdout


def test_what_postgres_executed_is_what_was_recorded_as_sent(house: House) -> None:
    login = house.grant()
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        for number in range(50):
            conn.execute(f"select {number} as same_{number}")
            with contextlib.suppress(psycopg.Error):
                conn.execute(f"delete from orders where id = {number} and 'same' = 'same_'")
            with contextlib.suppress(psycopg.Error):
                conn.execute(f"select 1/0 as same_error_{number}")
            conn.execute("select %s::text as same_value", [str(number)], prepare=True)
    ran = executed(house, "same_")
    sent = Counter(sql for sql in house.statements() if "same_" in sql)
    assert sent == ran
