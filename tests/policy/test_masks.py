"""Masks, computed by a real Postgres."""

from __future__ import annotations

import datetime

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.policy import masks


@pytest.mark.parametrize(
    ("mask", "type_name", "value", "shown"),
    [
        ("null", "integer", "7", None),
        ("redact", "text", "'secret'", "***"),
        ("redact", "text", "NULL", None),
        ("redact", "character varying(2)", "'secret'", "**"),
        ("email", "text", "'anna.b@example.com'", "a***@example.com"),
        ("email", "text", "'a@b@example.com'", "a***@example.com"),
        ("email", "text", "'no address'", "***"),
        ("email", "text", "'@'", "@***@"),
        ("email", "text", "NULL", None),
        ("last4", "text", "'+49 30 5551234'", "**********1234"),
        ("last4", "text", "'123'", "123"),
        ("last4", "text", "NULL", None),
        ("hash", "text", "NULL", None),
        ("year", "date", "'2024-05-06'", datetime.date(2024, 1, 1)),
        ("year", "timestamp without time zone", "'2024-05-06 07:08'", datetime.datetime(2024, 1, 1)),
        ("year", "date", "NULL", None),
    ],
)
def test_masks(pg: PostgresServer, mask: str, type_name: str, value: str, shown: object) -> None:
    sql = masks.expression(mask, "Value x", type_name, "00ff")
    with psycopg.connect(pg.dsn()) as connection:
        row = connection.execute(
            f'select {sql}, pg_typeof({sql})::text from (select {value}::{type_name} as "Value x") t'
        ).fetchone()
    assert row is not None
    assert row[0] == shown
    assert row[1] == type_name.partition("(")[0]


def test_a_hash_depends_on_its_key_and_value(pg: PostgresServer) -> None:
    seen = set()
    with psycopg.connect(pg.dsn()) as connection:
        for key in ("00", "01"):
            for value in ("a", "b"):
                sql = masks.expression("hash", "v", "text", key)
                row = connection.execute(f"select {sql} from (select '{value}'::text as v) t").fetchone()
                assert row is not None
                assert len(row[0]) == 64
                seen.add(row[0])
    assert len(seen) == 4


def test_which_masks_fit() -> None:
    assert masks.that_fit("integer") == ["null"]
    assert masks.that_fit("date") == ["null", "year"]
    assert masks.that_fit("character varying(20)") == ["null", "redact", "email", "last4", "hash"]
