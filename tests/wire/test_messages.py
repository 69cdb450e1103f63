"""Messages built and read back. Covers proxy/wire/build.py, proxy/wire/client.py and proxy/wire/upstream.py."""

from __future__ import annotations

import pytest

from proxy.wire import build, client, upstream
from proxy.wire.framing import HEADER, ProtocolViolation, spans


def body(message: bytes) -> bytes:
    ((_, start, stop),) = spans(message)
    return message[start:stop]


def test_client_messages_read_back() -> None:
    data = build.query(b"select 1")
    assert client.query(data, HEADER, len(data)) == b"select 1"
    data = build.parse(b"p", b"select $1", (23, 25))
    assert client.parse(data, HEADER, len(data)) == (b"p", b"select $1", (23, 25))
    data = build.bind(b"c", b"p", [None, b"", b"x"], [0, 1, 1], [1])
    assert client.bind(data, HEADER, len(data)) == (b"c", b"p", (0, 1, 1), [None, b"", b"x"])
    data = build.execute(b"c", 5)
    assert client.execute(data, HEADER, len(data)) == b"c"
    data = build.close(client.PORTAL, b"c")
    assert client.target(data, HEADER, len(data)) == (client.PORTAL, b"c")


def test_a_rest_that_nobody_reads_is_a_violation() -> None:
    for data, read in (
        (build.parse(b"", b"x"), client.parse),
        (build.bind(b"", b""), client.bind),
        (build.execute(), client.execute),
        (build.describe(client.STATEMENT), client.target),
    ):
        longer = data + b"\0"
        with pytest.raises(ProtocolViolation):
            read(longer, HEADER, len(longer))


def test_an_error_reads_back_and_cannot_be_broken_out_of() -> None:
    data = build.error(
        severity="ERROR",
        code="42501",
        text="a\0Cevil",
        detail="d",
        hint="h",
        position=7,
        routine="RevalidateCachedQuery",
    )
    found = upstream.report(body(data))
    assert (found.severity, found.sqlstate, found.text, found.hint, found.position) == (
        "ERROR",
        "42501",
        "aCevil",
        "h",
        7,
    )
    assert not found.fatal


@pytest.mark.parametrize(
    ("data", "sqlstate", "severity"),
    [
        (b"", "XX000", "ERROR"),
        (b"\0", "XX000", "ERROR"),
        (b"SFATAL\0", "XX000", "FATAL"),
        (b"SFEHLER\0VFATAL\0C57P01\0\0", "57P01", "FATAL"),
        (b"C42501", "XX000", "ERROR"),
        (b"C42501\0P99999999999999\0Pminus\0", "42501", "ERROR"),
        (b"M\xff\xfe\0C22000\0\0", "22000", "ERROR"),
    ],
)
def test_errors_that_are_malformed_are_read_as_far_as_they_go(data: bytes, sqlstate: str, severity: str) -> None:
    found = upstream.report(data)
    assert (found.sqlstate, found.severity, found.position) == (sqlstate, severity, 0)


def test_positions_move_and_vanish_where_they_mean_nothing() -> None:
    data = body(build.error(severity="ERROR", code="42703", text="no", position=20))
    assert upstream.report(upstream.move_position(data, lambda at: at - 5)).position == 15
    assert upstream.report(upstream.move_position(data, lambda at: 0)).position == 0
    without = body(build.error(severity="ERROR", code="42703", text="no"))
    assert upstream.move_position(without, lambda at: at - 5) is without


def test_start_up_answers() -> None:
    assert upstream.authentication(body(build.sasl(["A", "B"]))) == (upstream.SASL, b"A\0B\0\0")
    assert upstream.mechanisms(b"A\0B\0\0") == ["A", "B"]
    assert upstream.parameter(body(build.parameter_status("TimeZone", "UTC"))) == ("TimeZone", "UTC")
    assert upstream.key(body(build.key_data(7, b"abcd"))) == (7, b"abcd")
    for read, wrong in ((upstream.authentication, b"\0"), (upstream.parameter, b"x"), (upstream.key, b"1234567")):
        with pytest.raises(ProtocolViolation):
            read(wrong)


def test_parameter_types() -> None:
    assert upstream.parameter_types(b"\0\2\0\0\0\x17\0\0\0\x19") == (23, 25)
    assert upstream.parameter_types(b"\0\2\0") == ()
