"""Expressions that a session's settings move, and those that they do not."""

from __future__ import annotations

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.policy.steady import unsteady

TYPES = {
    "at": "timestamp with time zone",
    "day": "date",
    "local": "timestamp(3) without time zone",
    "name": "character varying(20)",
    "n": "integer",
    "span": "interval",
}
MOVED = [
    ("at > '2026-01-01'", "+00'"),
    ("at > '2026-01-01 10:00'::timestamptz", "write '2026-01-01 10:00+00'"),
    ("at::date = day", "AT TIME ZONE 'UTC')::date"),
    ("at > day", "date to timestamp with time zone"),
    ("local between at and at", "depends on TimeZone"),
    ("day > current_date", "current_date"),
    ("at::text like '2026%'", "TimeZone and DateStyle"),
    ("day::text like '2026%'", "DateStyle"),
    ("day > '01/02/2026'", "YYYY-MM-DD"),
    ("at > 'yesterday'", "use now()"),
    ("date_trunc('day', at) = at", "date_trunc()"),
    ("extract(hour from at) > 9", "extract()"),
    ("to_char(at, 'HH24') = '09'", "to_char()"),
    ("name || day = 'x'", "||"),
    ("concat(name, at) = 'x'", "concat()"),
    ("to_tsvector(name) @@ to_tsquery('english', 'a')", "default_text_search_config"),
    ("name::date > '2026-01-01'", "text to date"),
    ("case when at::date = day then true else false end", "TimeZone"),
    ("span::text = '1 day'", "IntervalStyle"),
]
STEADY = [
    "at > '2026-01-01 00:00+00'", "at > '2026-01-01T00:00:00Z'", "day > '2026-01-01'", "local > '2026-01-01 10:00'",
    "(at at time zone 'UTC')::date = day", "at > now() - interval '7 days'", "n = 1", "name = '2026-01-01'",
    "lower(name) like 'a%'", "extract(epoch from at) > 1", "date_trunc('day', at, 'UTC') = at", "n::text = '1'",
    "date_trunc('day', local) = local", "n in (1, 2)", "name in ('a', 'b')", "date_part('year', day) = 2026",
    "to_tsvector('english', name) @@ to_tsquery('english', 'a')", "not syntax (",
]  # fmt: skip


@pytest.mark.parametrize(("sql", "word"), MOVED)
def test_what_settings_move_is_said(sql: str, word: str) -> None:
    found = unsteady(sql, TYPES)
    assert len(found) == 1, found
    assert word in found[0]


@pytest.mark.parametrize("sql", STEADY)
def test_what_they_do_not_move_is_not(sql: str) -> None:
    assert unsteady(sql, TYPES) == []


def test_postgres_agrees(pg: PostgresServer) -> None:
    """An index takes only what is immutable: what is called steady, but for what Postgres cannot tell apart."""
    with psycopg.connect(pg.dsn()) as conn:
        columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
        conn.execute(f"create temp table steady ({columns})")
        for sql in [*STEADY[:-1], *(m[0] for m in MOVED)]:
            # Constants are read once where the index is made, in a session they are read each time.
            if "now()" in sql or sql.startswith(("at > '", "day > '0", "extract(epoch", "date_trunc('day', at, ")):
                continue
            try:
                with conn.transaction():
                    conn.execute(f"create index on steady (({sql}))")
                immutable = True
            except psycopg.errors.InvalidObjectDefinition:
                immutable = False
            assert immutable == (sql in STEADY), sql
