"""Values for the record, held against what Postgres itself makes of the same bytes.

Covers proxy/wire/params.py and proxy/wire/types.py.
"""

from __future__ import annotations

import hashlib
from typing import Any

import asyncpg
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.wire import params
from proxy.wire.types import ELEMENTS, NAMES

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
    (params.TIME, "select time_send('23:59:59.25')", "23:59:59.250000"),
    (params.TIME, "select time_send('24:00')", "24:00:00"),
    (params.TIMETZ, "select timetz_send('12:00:00+05:30')", "12:00:00+05:30"),
    (params.TIMETZ, "select timetz_send('12:00:00-08')", "12:00:00-08"),
    (params.BIT, "select bit_send(B'1010000011')", "1010000011"),
    (params.VARBIT, "select varbit_send(B'')", ""),
    (params.XID8, "select xid8send('18446744073709551615')", 2**64 - 1),
    (2205, "select regclasssend('pg_class'::regclass)", 1259),
    (params.JSONPATH, "select jsonpath_send('$.a')", '$."a"'),
    (params.POINT, "select point_send('(1.5,-2)')", "(1.5,-2)"),
    *[
        (params.INTERVAL, f"select interval_send('{text}')", None)
        for text in (
            "1 year 2 mons 3 days 04:05:06.789",
            "-1 year -13 mons",
            "1 mon -1 day",
            "-1 mon 1 day",
            "-00:00:00.5",
            "1 day -02:03:04",
            "-1 day 02:03:04",
            "0",
            "1 year",
            "-1 day",
            "100 days 240:00:00",
        )
    ],
    *[
        (oid, f"select {kind}_send('{text}')", None)
        for oid, kind, text in (
            (params.INET, "inet", "10.0.0.1"),
            (params.INET, "inet", "10.0.0.1/8"),
            (params.INET, "inet", "::1/64"),
            (params.CIDR, "cidr", "10.0.0.0/8"),
            (params.CIDR, "cidr", "10.0.0.1/32"),
            (params.MACADDR, "macaddr", "08:00:2b:01:02:03"),
        )
    ],
    (1007, "select array_send('{1,NULL,-3}'::int4[])", [1, None, -3]),
    (1007, "select array_send('{}'::int4[])", []),
    (1007, "select array_send('{{1,2},{3,4},{5,6}}'::int4[])", [[1, 2], [3, 4], [5, 6]]),
    (1009, 'select array_send(\'{a,"b,c",""}\'::text[])', ["a", "b,c", ""]),
    (1231, "select array_send('{1.50,NaN}'::numeric[])", ["1.50", "NaN"]),
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
            # None: what the server itself writes
            written = f"select pg_catalog.format('%s', {sql.split('_send(')[-1][:-1]}::{NAMES[oid]})"
            expected = await conn.fetchval(written) if shown is None else shown
            assert params.decode(sent, 1, oid) == expected, sql
    finally:
        await conn.close()


async def test_the_table_of_types_is_the_servers(pg: PostgresServer) -> None:
    conn = await asyncpg.connect(host=pg.host, port=pg.port, user=pg.user, password=pg.password, database="postgres")
    try:
        found = await conn.fetch("select oid, typname, typarray from pg_catalog.pg_type where oid < 16384")
    finally:
        await conn.close()
    server = {row["oid"]: row["typname"] for row in found} | {
        row["typarray"]: f"{row['typname']}[]" for row in found if row["typarray"]
    }
    assert {oid: server[oid] for oid in NAMES} == NAMES
    assert {oid: server[oid].removesuffix("[]") for oid in ELEMENTS} == {a: NAMES[e] for a, e in ELEMENTS.items()}


def test_text_values_stay_as_they_are() -> None:
    assert params.decode(b"2026-03-01", 0, params.DATE) == "2026-03-01"
    assert params.decode(None, 0, 0) is None


@pytest.mark.parametrize(
    ("value", "oid"), [(b"\0\0", params.INT4), (b"\2", params.BOOL), (b"\xff", params.TEXT), (b"x", 99999)]
)
def test_what_does_not_fit_is_shown_as_it_was_sent(value: bytes, oid: int) -> None:
    named = {"name": NAMES[oid]} if oid in NAMES else {}
    assert params.decode(value, 1, oid) == {"type": oid, **named, "hex": value.hex()}


@pytest.mark.parametrize(
    "array",
    [
        b"",
        bytes(12),  # of another element type
        b"\0\0\0\1\0\0\0\0\0\0\0\x17\0\0\0\1\0\0\0\0\0\0\0\4\0\0\0\7",  # begins at 0
        b"\0\0\0\1\0\0\0\0\0\0\0\x17\0\0\0\2\0\0\0\1\0\0\0\4\0\0\0\7",  # holds less than it says
        b"\0\0\0\1\0\0\0\0\0\0\0\x17\0\0\0\1\0\0\0\1\0\0\0\5\0\0\0\7",
        b"\0\0\0\2\0\0\0\0\0\0\0\x17\x7f\xff\xff\xff\0\0\0\1\0\0\0\0\0\0\0\1",
    ],
)
def test_an_array_that_cannot_be_shown_as_a_list_is_shown_as_it_was_sent(array: bytes) -> None:
    assert params.decode(array, 1, 1007) == {"type": 1007, "name": "int4[]", "hex": array.hex()}


def test_a_long_value_is_identified_not_kept() -> None:
    value = b"x" * 70_000
    assert params.decode(value, 0, 25) == {"length": 70_000, "sha256": hashlib.sha256(value).hexdigest()}


def test_formats_as_bind_has_them() -> None:
    seven = (7).to_bytes(4, "big")
    assert params.decode_all([b"7", b"8"], (), (23, 23)) == ["7", "8"]
    assert params.decode_all([seven, seven], (1,), (23, 23)) == [7, 7]
    assert params.decode_all([seven, b"7"], (1, 0), (23,)) == [7, "7"]
