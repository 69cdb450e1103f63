"""What of an error's text the client may read when the statement touched what a policy hides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.session.scrub import scrub
from proxy.wire import build, upstream
from tests.session.conftest import READER
from tests.session.playbook import FAILED, IDLE, Playbook, complete

SECRET = "900-00-0001"


def body(code: str, text: str, **fields: str) -> bytes:
    names = {"detail": "D", "hint": "H", "where": "W", "position": "P", "routine": "R", "query": "q", "column": "c"}
    rest = "".join(f"{names[name]}{value}\0" for name, value in fields.items())
    return f"SERROR\0VERROR\0C{code}\0M{text}\0{rest}\0".encode()


@pytest.mark.parametrize(
    ("code", "text", "fields", "told"),
    [
        ("22P02", f'invalid input syntax for type numeric: "{SECRET}"', {}, "invalid input syntax for type numeric"),
        ("22P02", f'invalid input syntax for type timestamp with time zone: "{SECRET}"', {}, "invalid input syntax for type timestamp with time zone"),  # noqa: E501
        ("22012", "division by zero", {}, "division by zero"),
        ("22003", f'value "{SECRET}" is out of range for type integer', {}, None),
        ("22008", f'date/time field value out of range: "{SECRET}"', {}, "date/time field value out of range"),
        ("22P02", "invalid input syntax for type json", {"detail": f'Token "{SECRET}" is invalid.'}, "invalid input syntax for type json"),  # noqa: E501
        ("23505", "duplicate key", {"detail": f"Key (ssn)=({SECRET}) already exists."}, None),
        ("P0001", f"no customer {SECRET}", {"routine": "exec_stmt_raise"}, None),
        ("42703", f"no column {SECRET}", {"routine": "exec_stmt_raise"}, None),
        ("22012", "division by zero", {"where": f"PL/pgSQL function f() {SECRET}"}, None),
        ("42704", f"type {SECRET}", {"where": "SQL function g"}, None),
        ("XX000", f"tuple {SECRET}", {}, None),
        ("22023", SECRET, {"hint": SECRET, "query": SECRET, "column": SECRET}, None),
    ],
)  # fmt: skip
def test_no_value_is_told(code: str, text: str, fields: dict[str, str], told: str | None) -> None:
    found = scrub(body(code, text, position="8", **fields))
    assert SECRET.encode() not in found
    report = upstream.report(found)
    assert (report.sqlstate, report.position, report.severity) == (code, 8, "ERROR")
    if told is None:
        assert "withheld" in report.text
    else:
        assert report.text == told


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("42703", 'column "nmae" does not exist'),
        ("42601", 'syntax error at or near "form"'),
        ("57014", "canceling statement due to statement timeout"),
        ("25P02", "current transaction is aborted, commands ignored until end of transaction block"),
        ("34000", 'cursor "c" does not exist'),
    ],
)
def test_what_postgres_says_of_the_statement_stays(code: str, text: str) -> None:
    whole = body(code, text, hint="Perhaps you meant name.", detail="more", position="8")
    assert scrub(whole) == whole


def error(text: str) -> bytes:
    return build.error(severity="ERROR", code="22P02", text=text, detail=SECRET, position=8)


def test_a_masked_table_s_errors_are_scrubbed_and_keep_their_place(play: Playbook) -> None:
    play.client(build.query(b"select name::int from customers"))
    (forwarded,) = play.upstream_heard()
    place = len("Query ") and forwarded.index("name::int") - len("Query ") + 1
    play.upstream(
        build.error(severity="ERROR", code="22P02", text=f"integer: {SECRET}", position=place),
        IDLE,
    )  # fmt: skip
    data = play.to_client.take()
    assert SECRET.encode() not in data
    assert upstream.report(data[5:]).position == 8


def test_an_open_table_s_errors_pass_as_they_are(play: Playbook) -> None:
    play.client(build.query(b"select note::int from orders"))
    said = error(f'invalid input syntax for type integer: "{SECRET}"')
    play.upstream(said, IDLE)
    assert play.to_client.take() == said + IDLE


@pytest.mark.parametrize(
    "made", [b"declare c cursor for select name::int from customers", b"prepare p as select name::int from customers"]
)
def test_cursors_and_prepared_statements_do_not_get_around_it(play: Playbook, made: bytes) -> None:
    play.client(build.query(b"begin; " + made))
    play.upstream(complete("BEGIN"), complete("DONE"), build.ready(ord("T")))
    play.client(build.query(b"fetch c" if b"cursor" in made else b"execute p"))
    play.upstream(error(f"value {SECRET}"), FAILED)
    assert SECRET.encode() not in play.to_client.take()


def test_a_notice_of_a_masked_table_is_scrubbed(play: Playbook) -> None:
    play.client(build.query(b"select name from customers"))
    play.upstream(build.notice(text=f"saw {SECRET}"))
    assert SECRET.encode() not in (heard := play.to_client.take())
    assert heard[:1] == b"N"


@pytest.mark.parametrize("kind", [b"E", b"N"])
def test_a_text_too_long_to_hold_is_scrubbed_too(make_play: Callable[..., Playbook], kind: bytes) -> None:
    play = make_play(READER)
    play.client(build.query(b"select name::int from customers"))
    long = error(f'invalid input syntax for type integer: "{SECRET * 10_000}"')
    long = kind + long[1:]
    play.upstream(long[:80_000])
    play.upstream(long[80_000:] + IDLE)
    data = play.to_client.take()
    assert SECRET.encode() not in data
    assert data.endswith(IDLE)
