"""The fingerprint of client libraries; tests/live/test_record.py asks the real ones."""

from __future__ import annotations

import pytest

from proxy.session.driver import guess


@pytest.mark.parametrize(
    ("packet", "library"),
    [
        ("user=a database=b application_name=psql client_encoding=UTF8", "libpq"),
        ("user=a database=b", "libpq"),
        ("client_encoding='utf-8' user=a database=b", "asyncpg"),
        ("client_encoding=UTF8 user=a database=b application_name=x", "tokio-postgres"),
        ("user=a database=b client_encoding=UTF8 DateStyle=ISO TimeZone=UTC extra_float_digits=2", "pgjdbc"),
        ("user=a client_encoding=UTF8 database=b", "npgsql"),
        ("datestyle=ISO user=a extra_float_digits=2 client_encoding=UTF8 database=b", "lib/pq"),
        ("user=a", ""),
        ("database=b user=a", ""),
        ("", ""),
    ],
)
def test_libraries_are_told_apart(packet: str, library: str) -> None:
    assert guess(dict(word.split("=") for word in packet.split())) == library
