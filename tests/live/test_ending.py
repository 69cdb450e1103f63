"""The end of access through a running server: proven, by a real login and a look into the database; and who guesses,
shares or uses a token twice on the way there.

Covers proxy/session/proofs.py, proxy/session/sharing.py, proxy/session/patience.py,
proxy/session/backend.py and proxy/access/tokens.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.access.grants import Grants
from proxy.access.model import Terms
from proxy.access.store import Store
from proxy.clock import SystemClock
from proxy.demo.postgres import PostgresServer
from tests.live.house import House, until
from tests.live.raw import Raw, fatal
from tests.live.test_ephemeral import ephemeral, our_roles
from tests.live.test_workers import daypass
from tests.support.postgres import bindirs


def terms(house: House, user: str, **values: Any) -> None:
    """Give a grant other terms."""
    with sqlite3.connect(house.folder / "state.db") as state:
        state.execute("update grants set terms = ? where id = ?", [Terms(**values).encode(), user])


def proofs(house: House, user: str) -> dict[str, tuple[bool, str]]:
    with sqlite3.connect(house.folder / "state.db") as state:
        rows = state.execute('select proof, ok, why from removals where "grant" = ?', [user]).fetchall()
    return {proof: (bool(ok), why) for proof, ok, why in rows}


def stage(house: House, user: str) -> str:
    with sqlite3.connect(house.folder / "state.db") as state:
        (found,) = state.execute("select stage from grants where id = ?", [user]).fetchone()
    return str(found)


def removed(house: House, user: str, seconds: float = 20) -> bool:
    return any(stage(house, user) == "removed" for _ in until(seconds, 0.1))


@pytest.mark.parametrize("workers", [1, 2])
def test_removal_is_proven_with_roles_of_its_own(
    make_house: Callable[..., House], pg: PostgresServer, workers: int
) -> None:
    house = ephemeral(make_house, pg, workers)
    login = house.grant()
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        conn.execute("select * from customers")
        assert our_roles(house)
        house.revoke(login[0])
        assert removed(house, login[0]), proofs(house, login[0])
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select 1")
    found = proofs(house, login[0])
    assert {name for name, (ok, _) in found.items() if ok} == {"token", "backends", "role", "views"}
    assert f"28000: daypass: grant {login[0]} was revoked" in found["token"][1]
    assert "is not in pg_roles" in found["role"][1]
    assert our_roles(house) == []
    # Who has the token is told why it opens nothing: it was put back after the proof.
    with pytest.raises(psycopg.OperationalError, match="was revoked"):
        psycopg.connect(house.dsn(login))


@pytest.mark.thorough
def test_a_database_that_is_away_keeps_the_proof_waiting(make_house: Callable[..., House], pg: PostgresServer) -> None:
    house = ephemeral(make_house, pg)
    login = house.grant()
    with psycopg.connect(house.dsn(login), autocommit=True) as conn:
        conn.execute("select 1")
    pg.stop()
    try:
        house.revoke(login[0])
        for _ in until(20, 0.1):
            if len(proofs(house, login[0])) == 4:
                break
        found = proofs(house, login[0])
        assert found["token"][0], "the door needs no database for its no"
        assert not found["role"][0]
        assert "cannot be looked at" in found["role"][1]
        assert stage(house, login[0]) == "ended"
    finally:
        pg.start()
    assert removed(house, login[0], 40), proofs(house, login[0])


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory, pg_servers: Any) -> Any:
    house = House(tmp_path_factory.mktemp("crew"), pg_servers.get(bindirs()[0]), workers=2)
    house.start()
    yield house
    house.hurry()


@pytest.mark.thorough
def test_removal_is_proven_with_a_shared_role(crew: House) -> None:
    login = crew.grant(seconds=2)
    with psycopg.connect(crew.dsn(login), autocommit=True) as conn:
        conn.execute("select 1")
        assert removed(crew, login[0]), proofs(crew, login[0])
    found = proofs(crew, login[0])
    assert f"grant {login[0]} expired at" in found["token"][1]
    assert found["backends"] == (True, "0 sessions of the grant are open, over all processes of this host")
    assert "none was made" in found["role"][1]
    for _ in until(5):
        page = crew.http("/metrics")[1]
        if "daypass_removals_pending 0.0" in page:
            break
    assert "daypass_removals_pending 0.0" in page


def test_a_token_for_one_session_opens_one_of_many_at_once(crew: House) -> None:
    login = crew.grant()
    terms(crew, login[0], single_use=True)
    with Raw(crew.port) as wrong:
        wrong.start(login[0])
        assert fatal(wrong.prove("dp_wrong"))[0] == "28P01"

    def attempt(_: int) -> str:
        try:
            with psycopg.connect(crew.dsn(login), autocommit=True) as conn:
                time.sleep(0.5)
                conn.execute("select 1")
                return "in"
        except psycopg.OperationalError as refused:
            return str(refused)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(attempt, range(8)))
    assert found.count("in") == 1
    assert sum("was for one session" in text for text in found) == 7
    assert "was for one session" in attempt(0)

    async def mint() -> str:
        store = await Store.open(f"sqlite:///{crew.folder / 'state.db'}")
        try:
            return await Grants(store, SystemClock()).rotate(login[0], by="operator")
        finally:
            await store.close()

    with psycopg.connect(crew.dsn((login[0], asyncio.run(mint())))) as conn:
        conn.execute("select 1")


def test_the_grants_own_limit_of_sessions_holds_over_all_workers(crew: House) -> None:
    login = crew.grant()
    terms(crew, login[0], max_sessions=2)
    with psycopg.connect(crew.dsn(login)), psycopg.connect(crew.dsn(login)):
        for _ in range(4):
            with pytest.raises(psycopg.OperationalError, match="already has 2 open sessions, and 2 are allowed"):
                psycopg.connect(crew.dsn(login))


@pytest.mark.thorough
def test_guessing_gets_slow_and_the_owner_gets_in(make_house: Callable[..., House], pg: PostgresServer) -> None:
    house = make_house(pg).start()
    login = house.grant()

    def guess(user: str) -> float:
        began = time.monotonic()
        with Raw(house.port, timeout=15) as raw:
            raw.start(user)
            assert fatal(raw.prove("dp_wrong"))[0] == "28P01"
        return time.monotonic() - began

    known = [guess(login[0]) for _ in range(6)]
    assert max(known[:3]) < 0.25
    assert known[5] > 0.9
    unknown = [guess("g-00000000") for _ in range(6)]
    assert [seconds > 0.9 for seconds in unknown] == [seconds > 0.9 for seconds in known]
    began = time.monotonic()
    psycopg.connect(house.dsn(login)).close()
    assert time.monotonic() - began < 2.5, "at most a second more, from the very address that guessed"
    assert "daypass_logins_slowed_total 0.0" not in house.http("/metrics")[1]


def test_two_addresses_at_once_are_told_and_not_stopped(crew: House) -> None:
    login = crew.grant()
    with Raw(crew.port).login(login, application_name="psql"):
        other = Raw.__new__(Raw)
        other.sock = socket.create_connection(("127.0.0.1", crew.port), timeout=5, source_address=("127.0.0.2", 0))
        other.binding, other.minor = None, 0
        with other.login(login, application_name="psql"):
            told = crew.wait_log("grant_shared", grant=login[0], what="address")
    assert {told["first"]["address"], told["second"]["address"]} == {"127.0.0.1", "127.0.0.2"}
    assert 'daypass_alerts_total{alert="sharing"}' in crew.http("/metrics")[1]


def test_a_session_that_ended_is_not_taken_for_those_that_go_on(make_house: Callable[..., House]) -> None:
    house = make_house().start()
    login = house.grant()
    with Raw(house.port).login(login, application_name="psql"):
        with Raw(house.port).login(login, application_name="psql"):
            pass
        house.wait_log("session_end")
        with Raw(house.port).login(login, application_name="pg_dump"):
            told = house.wait_log("grant_shared", grant=login[0])
    assert told["what"] == "client"


def test_no_token_in_logs_records_arguments(crew: House) -> None:
    login = crew.grant()
    psycopg.connect(crew.dsn(login)).close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(crew.dsn((login[0], login[1] + "x")))
    done = daypass(crew, "grant", "token", login[0], "--form", "pgpass", "--form", "env", "-o", "json")
    assert done.returncode == 0, done.stderr
    minted = json.loads(done.stdout)["token"]
    said = b"".join(path.read_bytes() for path in crew.folder.rglob("*") if path.is_file())
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said += line.read_bytes()
        except OSError:
            continue
    for token in (login[1], minted):
        assert token.encode() not in said


def last_word(conn: psycopg.Connection[Any]) -> tuple[str, str]:
    """SQLSTATE and text of what a client is told when its session is ended."""
    for _ in until(15, 0.05):
        try:
            conn.execute("select 1")
        except psycopg.OperationalError as ended:
            return ended.sqlstate or "", str(ended)
    raise AssertionError("the session goes on")


def test_the_last_word_says_the_reason(crew: House) -> None:
    login = crew.grant()
    with psycopg.connect(crew.dsn(login), autocommit=True) as conn:
        crew.revoke(login[0], reason="the work is done")
        code, text = last_word(conn)
    assert (code, f"grant {login[0]} was revoked: the work is done" in text) == ("57P01", True), text
    assert login[1] not in text
    with psycopg.connect(crew.dsn(login := crew.grant(seconds=2)), autocommit=True) as conn:
        code, text = last_word(conn)
    assert (code, f"grant {login[0]} has expired" in text) == ("57P01", True), text


def test_the_last_word_of_a_policy_that_is_gone(crew: House) -> None:
    reader = (crew.folder / "policies" / "reader.yaml").read_text()
    crew.write_policy("going", reader.replace("name: reader", "name: going"))
    for _ in until(10, 0.1):  # both workers have read it
        login = crew.grant(policy="going")
        try:
            conn = psycopg.connect(crew.dsn(login), autocommit=True)
        except psycopg.OperationalError:
            continue
        break
    with conn:
        conn.execute("select 1")
        (crew.folder / "policies" / "going.yaml").unlink()
        code, text = last_word(conn)
    assert code == "57P01", text
    assert f'the policy "going" of grant {login[0]} no longer exists' in text


def test_a_disabled_person_is_out_within_a_second(crew: House) -> None:
    login = crew.grant(person="Lee Vendor")
    first, second = Raw(crew.port, timeout=60), Raw(crew.port, timeout=60)
    with first.login(login) as one, second.login(login) as other, ThreadPoolExecutor(2) as pool:

        def out(raw: Raw) -> float:
            said = raw.until("E")[-1][1]
            assert f"grant {login[0]} was revoked: LEE vendor was disabled: left".encode() in said
            assert b"57P01" in said
            return time.time()

        waiting = [pool.submit(out, raw) for raw in (one, other)]
        done = daypass(crew, "person", "disable", "LEE vendor", "--reason", "left", "--by", "olga", "-o", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["grants"] == [login[0]]
        with sqlite3.connect(crew.folder / "state.db") as state:
            (text,) = state.execute("select disabled_at from people where key = 'lee vendor'").fetchone()
        since = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        assert max(one.result(10) for one in waiting) - since < 2, "a second, and what a busy machine adds"
    with pytest.raises(psycopg.OperationalError, match="LEE vendor was disabled: left"):
        psycopg.connect(crew.dsn(login))
