"""`daypass recording reconcile` with real logs of a real Postgres, csvlog and jsonlog, and somebody who goes around.

Covers proxy/cli/recording_reconcile.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer, version
from tests.live.house import House, until
from tests.support.postgres import bindirs

SECRET = "vendor-secret"


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A daypass before a Postgres that logs in both forms, in a zone of its own."""
    bindir = bindirs()[0]
    forms = "csvlog,jsonlog" if version(bindir) >= 15 else "csvlog"
    settings = {"log_destination": forms, "log_timezone": "Europe/Berlin"}
    with PostgresServer(bindir, log_statements=True, settings=settings) as pg:
        house = House(tmp_path_factory.mktemp("house"), pg)
        house.start()
        yield house
        house.hurry()


def work(house: House) -> None:
    with psycopg.connect(house.dsn(house.grant()), autocommit=True) as conn:
        conn.execute("select 1; select 'two'")
        conn.execute("select name, email from customers where id = %s", [1])  # substituted
        for refused in ("select ssn from customers", "select 1/0", "selec"):
            with contextlib.suppress(psycopg.Error):
                conn.execute(refused)
        with conn.pipeline():
            for number in range(5):
                conn.execute("select %s::int", [number])


def settle(house: House, mark: str) -> None:
    """Until the log's own process has written what was before."""
    with psycopg.connect(house.pg.dsn(), autocommit=True) as owner:
        owner.execute(f"select '{mark}'")
    files = list((house.pg.data / "log").glob("*.*"))
    for _ in until(20, 0.05):
        if all(mark in path.read_text(errors="replace") for path in files if path.suffix in (".csv", ".json")):
            return
    raise AssertionError("the log was never written")


def reconcile(house: House, *words: str | Path, code: int) -> dict[str, Any]:
    done = house.run("recording", "reconcile", "-o", "json", *words, env={"SHOP_PASSWORD": SECRET})
    assert done.returncode == code, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def logs(house: House) -> list[Path]:
    found = sorted(path for path in (house.pg.data / "log").iterdir() if path.suffix in (".csv", ".json"))
    assert found
    return found


def test_a_day_as_it_should_be_and_then_somebody_goes_around(witness: House) -> None:
    work(witness)
    work(witness)
    settle(witness, "mark one")
    for file in logs(witness):
        answer = reconcile(witness, "--log", file, code=0)
        assert answer["sessions"] == 2
        assert answer["statements"] >= 14
        assert (answer["roles"], answer["unreadable"], answer["uncovered"]) == (["vendor_ro"], 0, [])
    with psycopg.connect(
        witness.pg.dsn(witness.dbname, user="vendor_ro", password=SECRET), application_name="excel", autocommit=True
    ) as around:
        around.execute("select ssn from app.customers")
        around.execute("select 2")
        now = reconcile(witness, "--database", "shop", code=1)
        assert [(one["kind"], one["application"]) for one in now["differences"]] == [("connected", "excel")]
    settle(witness, "mark two")
    for file in logs(witness):
        answer = reconcile(witness, "--log", file, code=1)
        (found,) = answer["differences"]
        assert (found["kind"], found["session"], found["application"]) == ("foreign", None, "excel")
        assert (found["statements"], found["text"]) == (2, "select ssn from app.customers")
    assert reconcile(witness, "--database", "shop", code=0)["differences"] == []


def test_a_statement_taken_out_of_the_record_or_out_of_the_log(witness: House, tmp_path: Path) -> None:
    work(witness)
    settle(witness, "mark three")
    log = tmp_path / "log.csv"
    data = next(path for path in logs(witness) if path.suffix == ".csv").read_text()
    session = witness.recordings()[-1]
    lines = session.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if '"sql":"select 1"' in line or "select 'two'" in line)
    log.write_text("\n".join(line for line in data.splitlines() if "select 'two'" not in line) + "\n")
    missing = [one for one in reconcile(witness, "--log", log, code=1)["differences"] if one["kind"] == "missing"]
    assert session.stem in {one["session"] for one in missing}
    assert any("two" in one["text"] or one["text"] == "select 1" for one in missing)
    kept = session.read_text()
    try:
        session.write_text("".join(line for number, line in enumerate(lines) if number != at))
        log.write_text(data)
        found = [
            one for one in reconcile(witness, "--log", log, code=1)["differences"] if one["session"] == session.stem
        ]
        # Of the two statements of one text the other is now missing: which comes first is the clock's affair.
        assert "unrecorded" in {one["kind"] for one in found}
    finally:
        session.write_text(kept)


def test_what_cannot_be_compared(witness: House, tmp_path: Path) -> None:
    def said(*words: str | Path) -> str:
        done = witness.run("recording", "reconcile", *words)
        assert done.returncode == 2
        return done.stderr

    assert "say what to compare with" in said()
    assert "no database nope" in said("--database", "nope")
    assert "no .csv and no .json" in said("--log", tmp_path)
    (tmp_path / "x.log").write_text("plain text\n")
    assert "log_destination" in said("--log", tmp_path / "x.log")
