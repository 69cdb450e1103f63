"""The record of real clients' sessions: whole where it should be, and without what it must not hold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from recorder import timeline, verify
from recorder.results import data_row, matches, read
from tests.live.house import OBSERVE, POLICY, House, until
from tests.support.postgres import Servers, bindirs

PSQL = "/usr/bin/psql"
SECRET = "Ketanserin"
POLICIES = {
    "full": "recording: {results: full}\n",
    "sample": "recording: {results: 'sample:2', literals: drop}\n",
    "hash": "recording: {literals: hash}\n",
    "drop": "recording: {literals: drop}\n",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, pg_servers: Servers) -> Iterator[House]:
    """A daypass that records digests, and policies that ask for more."""
    made = House(tmp_path_factory.mktemp("house"), pg_servers.get(bindirs()[0]), recording={"results": "digest"})
    for name, more in POLICIES.items():
        text = POLICY if name in ("full", "sample") else POLICY.replace("transaction: 5m", "plan_cost: 5000")
        made.write_policy(name, text.replace("name: reader", f"name: {name}") + more)
    made.write_policy("heard", OBSERVE.replace("watcher", "heard") + POLICIES["full"])
    made.start()
    yield made
    made.hurry()


def recording(house: House, user: str) -> Path:
    """The recording of the one session of a grant."""
    return next(path for path in house.recordings() if f'"grant":"{user}"' in path.read_text().partition("\n")[0])


def ended(house: House, login: tuple[str, str]) -> list[dict[str, Any]]:
    """Its lines, once it has ended."""
    for _ in until(20):
        lines = [json.loads(line) for line in recording(house, login[0]).read_text().splitlines()]
        if lines and lines[-1]["event"] == "session.end":
            return lines
    raise AssertionError("the session does not end")


def of(lines: list[dict[str, Any]], event: str, **facts: Any) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event and facts.items() <= line.items()]


def shown(house: House, login: tuple[str, str], n: int | None = None) -> list[Any]:
    """All its rows, or those of one statement, as recorded."""
    rows = read(entry.event for entry in timeline.read(recording(house, login[0])))  # type: ignore[misc]
    return [row.copy if row.values is None else row.values for row in rows if n in (None, row.n)]


def connect(house: House, login: tuple[str, str]) -> psycopg.Connection[Any]:
    return psycopg.connect(house.dsn(login), autocommit=True)


def everything(house: House) -> str:
    """All that daypass has written."""
    files = [path for path in house.folder.rglob("*") if path.is_file() and "state" not in path.name]
    return "".join(path.read_text(errors="replace") for path in files if path.suffix in (".jsonl", ".log"))


def test_what_psql_showed_is_what_is_recorded(house: House) -> None:
    login = house.grant(policy="full")
    sql = "select id, email, born from customers where id < 4 order by id"
    done = subprocess.run(
        [PSQL, "-XAt", house.dsn(login), "-c", sql, "-c", f"copy ({sql}) to stdout", "-c", "rollback"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ended(house, login)
    printed = [line.split("|") for line in done.stdout.splitlines()[:3]]
    copied = [f"{line}\n" for line in done.stdout.splitlines()[3:6]]
    assert shown(house, login) == [*printed, *copied]
    assert printed[0][1].startswith("c***@")
    assert "customer1@" not in everything(house)
    start = lines[0]
    assert (start["driver"], start["results"], start["application_name"]) == ("libpq", "full", "psql")
    assert of(lines, "notice", severity="NOTICE")[0]["text"].startswith("daypass: Ana Vendor")
    (warning,) = of(lines, "notice", severity="WARNING")
    assert (warning["source"], warning["sqlstate"]) == ("server", "25P01")
    first = of(lines, "statement")[0]
    assert first["columns"] == [f"app.customers.{name}" for name in ("born", "email", "id")]
    assert [c["type"] for c in of(lines, "rows")[0]["columns"]] == ["int4", "text", "date"]


def test_binary_results_of_psycopg_are_recorded_as_values(house: House) -> None:
    login = house.grant(policy="sample")
    with connect(house, login) as conn:
        for binary in (False, True):
            cursor = conn.cursor(binary=binary)
            cursor.execute("select id, name, price, null::int, array[id, 2] from products where id > %s", [17])
            assert len(cursor.fetchall()) == 3
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("select 1/(id - 3) from products order by id")
    lines = ended(house, login)
    price = "22.50"
    assert shown(house, login)[:4] == [
        ["18", "Product 18", price, None, "{18,2}"],
        ["19", "Product 19", "23.75", None, "{19,2}"],
        [18, "Product 18", price, None, [18, 2]],
        [19, "Product 19", "23.75", None, [19, 2]],
    ]
    text, binary_result, failed = of(lines, "outcome")
    assert text["digest"] != binary_result["digest"]
    assert (failed["sqlstate"], failed["error"]) == ("22012", "division by zero")
    assert verify.verify(house.folder / "recordings").ok


async def test_values_and_results_of_asyncpg(house: House) -> None:
    login = house.grant(policy="full")
    user, token = login
    conn = await asyncpg.connect(host="127.0.0.1", port=house.port, user=user, password=token, database="shop")
    rows = await conn.fetch("select id, placed_at from orders where id = any($1::bigint[]) order by id", [1, 3])
    many = await conn.fetch("select g, repeat('x', 400) from generate_series(1, 3000) g")
    await conn.close()
    lines = ended(house, login)
    assert lines[0]["driver"] == "asyncpg"
    (run,) = (line for line in of(lines, "statement", protocol="extended") if "from orders" in line["sql"])
    assert run["params"] == [[1, 3]]
    recorded = shown(house, login, run["n"])
    assert [row[0] for row in recorded] == [row["id"] for row in rows]
    assert recorded[0][1] == rows[0]["placed_at"].strftime("%Y-%m-%d %H:%M:%S+00")
    (long,) = of(lines, "outcome", tag="SELECT 3000")
    assert [row[0] for row in shown(house, login, long["n"])] == [row["g"] for row in many]
    assert 0 < long["first_ms"] < long["ms"]
    assert len(of(lines, "rows", n=long["n"])) > 3


def test_a_digest_can_be_held_against_a_result(house: House) -> None:
    login = house.grant(policy="reader")
    with connect(house, login) as conn:
        for _ in range(2):
            conn.execute("select id from products where id < 3 order by id").fetchall()
        conn.execute("select id from products where id < 4 order by id").fetchall()
    lines = ended(house, login)
    first, second, other = (outcome["digest"] for outcome in of(lines, "outcome"))
    assert first == second != other
    assert not of(lines, "rows")
    # Only who has the installation's key can make it.
    assert not matches(first, b"", [data_row([b"1"]), data_row([b"2"])])


def test_a_policy_asks_for_more_than_the_configuration(house: House) -> None:
    login = house.grant(policy="sample")
    with connect(house, login) as conn:
        conn.execute("select name from products where name like 'Product 1%' order by id").fetchall()
    lines = ended(house, login)
    assert (lines[0]["results"], lines[0]["literals"]) == ("sample:2", "drop")
    assert shown(house, login) == [["Product 1"], ["Product 10"]]
    assert of(lines, "statement")[0]["sql"] == "select name from products where name like '…' order by id"


@pytest.mark.parametrize("literals", ["hash", "drop"])
def test_no_value_is_written_anywhere(house: House, literals: str) -> None:
    login = house.grant(policy=literals)
    with connect(house, login) as conn:
        conn.execute("select id from products where name = %s", [SECRET], prepare=True)
        conn.execute(f"select id from products where name = '{SECRET}'")
        for wrong in (
            f"select '{SECRET}'::int",
            f"select '{SECRET}'::date from customers",
            f"select '{SECRET}'::regclass",
            f"selec '{SECRET}'",
            f"delete from products where name = '{SECRET}'",
            f"select count(*) from orders a, orders b, orders c where a.note <> '{SECRET}'",
        ):
            with pytest.raises(psycopg.Error):
                conn.execute(wrong)
        with pytest.raises(psycopg.Error):
            conn.execute("select %s::int", [SECRET])
    lines = ended(house, login)
    assert len(of(lines, "statement")) >= 9
    assert SECRET.lower() not in everything(house).lower()
    assert SECRET.encode().hex() not in everything(house)
    assert verify.verify(house.folder / "recordings").ok


def test_the_cost_of_a_plan_is_recorded_where_it_was_asked(house: House) -> None:
    login = house.grant(policy="drop")
    with connect(house, login) as conn:
        conn.execute("select id from products")
        conn.execute("select id from orders where id = %s", [1])
        conn.execute("select id from customers")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            conn.execute("select count(*) from orders a, orders b, orders c")
    found = [o for o in of(ended(house, login), "outcome") if o.get("tag") not in ("PARSE", "BIND")]
    costs = [outcome.get("plan_cost", 0.0) for outcome in found]
    assert costs[2] == 0  # of a masked table it would tell the statistics
    assert 0 < costs[0] < costs[1] < 5000 < costs[3]


def test_what_is_heard_by_listen_is_recorded(house: House) -> None:
    login = house.grant(policy="heard")
    with connect(house, login) as conn:
        conn.execute("listen orders")
        conn.execute("notify orders, 'new one'")
        conn.execute("select 1")
    (heard,) = of(ended(house, login), "notification")
    assert (heard["channel"], heard["payload"], heard["bytes"]) == ("orders", "new one", 7)


def test_hidden_values_leave_no_trace_in_full_results(house: House) -> None:
    login = house.grant(policy="full")
    with connect(house, login) as conn:
        conn.execute("select * from customers").fetchall()
        for prying in (
            "select email::int from customers",
            "select cast(c as text)::int from customers c",
            "select to_jsonb(c)::text::date from customers c",
            "select ssn from customers",
        ):
            with pytest.raises(psycopg.Error):
                conn.execute(prying)
    ended(house, login)
    written = everything(house)
    assert "900-00-" not in written
    assert "customer7@" not in written
    assert json.dumps("c***@example.com") in written
