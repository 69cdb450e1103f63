"""Bind values for the record, held against what Postgres itself makes of the same bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import asyncpg
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.wire import params

VALUES: list[tuple[int, str, Any]] = [
    (params.BOOL, "select boolsend(true)", True),
    (params.INT2, "select int2send(-7::int2)", -7),
    (params.INT4, "select int4send(2147483647)", 2147483647),
    (params.INT8, "select int8send(-9223372036854775808)", -(2**63)),
    (params.FLOAT4, "select float4send(1.5)", 1.5),
    (params.FLOAT8, "select float8send('NaN')", "nan"),
    (params.FLOAT8, "select float8send(0.1)", 0.1),
    (params.TEXT, "select textsend('grüße')", "grüße"),
    (params.BYTEA, "select byteasend('\\x00ff')", "\\x00ff"),
    (
        params.UUID_OID,
        "select uuid_send('11111111-2222-3333-4444-555555555555')",
        "11111111-2222-3333-4444-555555555555",
    ),
    (params.DATE, "select date_send('1999-12-31')", "1999-12-31"),
    (params.DATE, "select date_send('infinity')", "infinity"),
    (params.TIMESTAMP, "select timestamp_send('2026-03-01 12:34:56.789')", "2026-03-01 12:34:56.789000"),
    (params.TIMESTAMP, "select timestamp_send('-infinity')", "-infinity"),
    (params.TIMESTAMPTZ, "select timestamptz_send('2026-03-01 12:00+02')", "2026-03-01 10:00:00+00"),
    (params.JSONB, "select jsonb_send('{\"a\": 1}')", '{"a": 1}'),
    *[
        (params.NUMERIC, f"select numeric_send({text})", shown)
        for text, shown in [
            ("0", "0"),
            ("12345.678", "12345.678"),
            ("-0.00001", "-0.00001"),
            ("1.50", "1.50"),
            ("10000", "10000"),
            ("123456789012345678901234567890.12", "123456789012345678901234567890.12"),
            ("'NaN'", "NaN"),
            ("'-Infinity'", "-Infinity"),
        ]
    ],
]


async def test_binary_values_read_as_postgres_wrote_them(pg: PostgresServer) -> None:
    conn = await asyncpg.connect(host=pg.host, port=pg.port, user=pg.user, password=pg.password, database="postgres")
    try:
        await conn.execute("set timezone = 'UTC'")
        for oid, sql, shown in VALUES:
            sent = await conn.fetchval(sql)
            assert params.decode(sent, 1, oid) == shown, sql
    finally:
        await conn.close()


def test_text_values_stay_as_they_are() -> None:
    assert params.decode(b"2026-03-01", 0, params.DATE) == "2026-03-01"
    assert params.decode(None, 0, 0) is None


@pytest.mark.parametrize(
    ("value", "oid"), [(b"\0\0", params.INT4), (b"\2", params.BOOL), (b"\xff", params.TEXT), (b"x", 99999)]
)
def test_what_does_not_fit_is_shown_as_it_was_sent(value: bytes, oid: int) -> None:
    assert params.decode(value, 1, oid) == {"type": oid, "hex": value.hex()}


def test_a_long_value_is_identified_not_kept() -> None:
    value = b"x" * 70_000
    assert params.decode(value, 0, 25) == {"length": 70_000, "sha256": hashlib.sha256(value).hexdigest()}


def test_formats_as_bind_has_them() -> None:
    seven = (7).to_bytes(4, "big")
    assert params.decode_all([b"7", b"8"], (), (23, 23)) == ["7", "8"]
    assert params.decode_all([seven, seven], (1,), (23, 23)) == [7, 7]
    assert params.decode_all([seven, b"7"], (1, 0), (23,)) == [7, "7"]
