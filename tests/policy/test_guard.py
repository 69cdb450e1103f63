"""Statement kinds and the text of the query inside EXPLAIN, COPY, DECLARE and PREPARE."""

from __future__ import annotations

import pytest

from proxy.policy import caps
from proxy.policy.judge import Judge


@pytest.mark.parametrize(
    "sql",
    [
        "explain (analyze, format json) with x as (select 1) select * from x",
        "explain (select 1)",
        "explain verbose values (1)",
        "copy ((select 1) union select 2) to stdout",
        "copy (select ')' as a) to stdout with (format csv, delimiter ';')",
        "declare for_c no scroll cursor without hold for select 1 as for_x",
        "prepare as_p(int, text) as (select $1, $2)",
    ],
)
def test_the_query_inside_is_found(judge: Judge, sql: str) -> None:
    assert judge.judge(sql.encode()).refusal is None


@pytest.mark.parametrize(
    ("sql", "allowed"),
    [
        ("set time zone interval '1 hour' hour to minute", True),
        ("set datestyle to iso, dmy", True),
        ("set local application_name = 'x'", True),
        ("set client_encoding = 'LATIN1'", False),
        ("set names 'utf8'", True),
        ("set client_min_messages = debug5", False),
        ("set client_min_messages = log", False),
        ("set client_min_messages = warning", True),
        ("set search_path to app", True),
        ("set search_path to default", True),
        ("set search_path to app, hr", False),
        ("set standard_conforming_strings = off", False),
        ("set standard_conforming_strings = on", True),
        ("set transaction isolation level serializable", True),
        ("set transaction snapshot 'x'", False),
        ("set transaction_read_only = on", True),
        ("set transaction_read_only to default", False),
        ("reset default_transaction_read_only", True),
        ("set role x", False),
        ("set session authorization x", False),
        ("set work_mem from current", False),
        ("set constraints all deferred", False),
        ("commit and chain", True),
        ("commit prepared 'x'", False),
        ("show all", False),
        ("show transaction isolation level", True),
        ("copy (select 1) to program 'x'", False),
        ("explain (analyze) declare c cursor for select 1", False),
        ("prepare p(hr.nothing) as select 1", False),
        ("execute p(pg_sleep(1))", False),
        ("execute p((select count(*) from orders))", True),
    ],
)
def test_session_statements(judge: Judge, sql: str, allowed: bool) -> None:
    assert judge.judge(sql.encode()).allowed is allowed


def test_too_many_statements_at_once(judge: Judge) -> None:
    assert judge.judge(b"select 1;" * caps.STATEMENTS).allowed
    refusal = judge.judge(b"select 1;" * (caps.STATEMENTS + 1)).refusal
    assert refusal is not None
    assert refusal.rule == "limit.text"
