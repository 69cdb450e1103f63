"""The SQL script, run by the real psql against a real Postgres: what ran runs again, and nothing else does."""

from __future__ import annotations

import datetime
import io
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.postgres import PostgresServer
from recorder import export_sql
from recorder.events import Event
from recorder.export_sql import literal
from tests.recorder.scenes import HOSTILE, done, record, said


def script(path: Path) -> str:
    out = io.StringIO()
    export_sql.write(path, out)
    return out.getvalue()


def run(pg: PostgresServer, dbname: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "again.sql"
    file.write_text(text)
    command = [str(pg.bindir / "psql"), "-X", "-q", "-At", "-f", str(file), pg.dsn(dbname)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, stdin=subprocess.DEVNULL)


RAN: list[tuple[str, list[Any] | None, str]] = [
    ("select 'one' -- a comment at the end", None, "one"),
    ("select 'two';", None, "two"),
    ("select $$three; \\! touch pwned$$ /* ; */", None, "three; \\! touch pwned"),
    ("select name from app.products where id = $1", [1], ""),
    ("select name from app.products where id = $1", ["2"], ""),
    ("select $1::text || '.'", ["it's \\ a \"test\"; --\n'"], "it's \\ a \"test\"; --\n'."),
    ("select coalesce($1, 'was null')", [None], "was null"),
    ("select $1::int[]", [[1, None, 3]], "{1,NULL,3}"),
    ("select $1::text[]", [['a"b', "c\\d", "e,f"]], '{"a\\"b","c\\\\d","e,f"}'),
    ("select $1::bool", [True], "t"),
    ("select 'seven' as \":x\"", None, "seven"),
    ("select '{\"a\":\"b\"}'::json->>'a', '\\x41'::bytea -- $daypass", None, "b|\\x41"),
    ("select (array[1, 2])[1:user_] from (select 1 as user_) s where $1::text = 'a:b'", ["a:b"], "{1}"),
]


@pytest.fixture
def events() -> list[Event]:
    found: list[Event] = []
    for n, (sql, params, _) in enumerate(RAN, 1):
        protocol = "simple" if params is None else "extended"
        found += [said(n, sql, params=params, protocol=protocol), done(n, 1, tag="SELECT 1")]
    n = len(RAN)
    for text in HOSTILE:
        for verdict, sqlstate in (("deny", "42501"), ("allow", "42601")):
            n += 1
            found += [said(n, text, verdict, text, text, params=[text]), done(n, sqlstate=sqlstate, error=text)]
    found.append(said(n + 1, "select 'no outcome'"))
    return found


def test_what_ran_runs_again_and_nothing_else_does(
    tmp_path: Path, pg: PostgresServer, shop: str, events: list[Event]
) -> None:
    with psycopg.connect(pg.dsn(shop)) as conn:
        names = [row[0] for row in conn.execute("select name from app.products where id in (1, 2) order by id")]
    text = script(record(tmp_path, events, person="x\nselect 'from the head'"))
    ran = run(pg, shop, text, tmp_path)
    assert ran.stderr == ""
    expected = [shown for _, _, shown in RAN]
    expected[3:5] = names
    assert [line for line in ran.stdout.split("\n") if not line.startswith("Time:")] == [
        *"\n".join(expected).split("\n"),
        "",
    ]
    assert not (tmp_path / "pwned").exists()


def test_a_transaction_that_had_failed_is_rolled_back_again(tmp_path: Path, pg: PostgresServer, shop: str) -> None:
    events: list[Event] = [
        said(1, "begin"), done(1, tag="BEGIN"),
        said(2, "select txid_current_if_assigned() is null as fresh", tx="T"), done(2, 1, tag="SELECT 1"),
        said(3, "oops", tx="T"), done(3, sqlstate="42601"),
        said(4, "COMMIT", tx="E"), done(4, tag="ROLLBACK"),
        said(5, "select 'after'"), done(5, 1, tag="SELECT 1"),
    ]  # fmt: skip
    text = script(record(tmp_path, events))
    assert "\nrollback;\n" in text
    assert "--   COMMIT\n" in text
    ran = run(pg, shop, text, tmp_path)
    assert (ran.stderr, [x for x in ran.stdout.split() if x in ("t", "after")]) == ("", ["t", "after"])


def test_variables_of_psql_stand_for_nothing(tmp_path: Path, pg: PostgresServer, shop: str) -> None:
    """One of them holds the last error's message: what the client wrote into it would be a command to psql."""
    fails_here = "current_setting('application_name') = 'psql'"
    events: list[Event] = [
        said(1, f"select case when {fails_here} then ('x\" \\! touch pwned #'::text)::int else 1 end"),
        done(1, 1, tag="SELECT 1"),
        said(2, "select (array[1,2])[1:LAST_ERROR_MESSAGE] from (select 1 as last_error_message) s"),
        done(2, 1, tag="SELECT 1"),
    ]  # fmt: skip
    ran = run(pg, shop, script(record(tmp_path, events)), tmp_path)
    assert not (tmp_path / "pwned").exists()
    assert "{1}" in ran.stdout.split()


def test_a_byte_that_is_no_utf8_is_no_command(tmp_path: Path, pg: PostgresServer, shop: str) -> None:
    """It is recorded as a backslash and two digits: psql would drop the rest of its line, and run what is left."""
    events: list[Event] = [
        said(1, "select 'one' as caf\\xe9 from\n app.products where false"), done(1, tag="SELECT 0"),
        said(2, ";select 'two'"), done(2, 1, tag="SELECT 1"),
    ]  # fmt: skip
    ran = run(pg, shop, script(record(tmp_path, events)), tmp_path)
    assert "invalid command" not in ran.stderr
    assert [line for line in ran.stdout.splitlines() if not line.startswith("Time:")] == ["two"]


def test_what_a_client_prepared_is_not_taken_for_ours(tmp_path: Path, pg: PostgresServer, shop: str) -> None:
    events: list[Event] = [
        said(1, "prepare daypass_1(text) as select 'another'"), done(1, tag="PREPARE"),
        said(2, "select $1::text", params=["ours"]), done(2, 1, tag="SELECT 1"),
    ]  # fmt: skip
    ran = run(pg, shop, script(record(tmp_path, events)), tmp_path)
    assert ran.stderr == ""
    assert [line for line in ran.stdout.splitlines() if not line.startswith("Time:")] == ["ours"]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    events: list[Event] = [
        said(1, "select $1", params=[{"type": "point", "hex": "00"}]), done(1, 1),
        said(2, "call p($1)", params=[1]), done(2),
        said(3, "", reason="too long"), done(3),
        said(4, "lo_open", protocol="function"), done(4),
        said(5, "select 5"), done(5, sent=False),
        said(6, "select $1", params=["a\0b"]), done(6, 1),
        said(7, "copy t from /* here */ stdin"), done(7, tag="COPY 3"),
    ]  # fmt: skip
    text = script(record(tmp_path, events, literals="drop"))
    for words in (
        "cannot be run again: a value of type point is recorded as bytes",
        "cannot be run again: its parameters have no place in SQL text",
        "its text was not kept",
        "is a function call of the protocol",
        "was not sent",
        "its data was not recorded",
        "cannot be run again: a value holds a NUL",
        "Literals were not kept (drop)",
    ):
        assert words in text
    code = [line for line in text.splitlines() if line and not line.startswith(("--", "\\"))]
    assert code == []


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=3))
def test_comments_and_literals_cannot_be_left(texts: list[str]) -> None:
    for text in texts:
        kept = literal(text)
        body = kept.removeprefix("E")
        assert body.startswith("'")
        assert body.endswith("'")
        inner = body[1:-1].replace("''", "")
        assert "'" not in inner
        assert kept.startswith("E") or "\\" not in kept
        lines = export_sql.visible_lines(text)
        assert "\r" not in lines


def test_values_as_postgres_reads_them(pg: PostgresServer, shop: str) -> None:
    values: list[Any] = [*HOSTILE, "", "\\", "'\\'", 5, -1.5, True, str(datetime.date(2026, 1, 1))]
    values = [value for value in values if "\0" not in str(value)]
    with psycopg.connect(pg.dsn(shop)) as conn:
        for value in values:
            expected = str(value).lower() if isinstance(value, bool) else str(value)
            row = conn.execute(f"select {literal(value)}::text".encode()).fetchone()
            assert row == (expected,)
        texts = [value for value in values if isinstance(value, str)]
        assert conn.execute(f"select {literal(texts)}::text[]".encode()).fetchone() == (texts,)
