"""Start-up packets, well formed and not."""

from __future__ import annotations

import pytest

from proxy.wire import build, startup
from proxy.wire.framing import ProtocolViolation
from proxy.wire.startup import Cancel, GssRequest, SslRequest, Startup, UnsupportedProtocol


def packet(body: bytes, version: int = 3 << 16) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + version.to_bytes(4, "big") + body


def test_the_four_kinds() -> None:
    assert startup.parse(build.SSL_REQUEST_PACKET) == SslRequest()
    assert startup.parse(packet(b"", startup.GSSENC_REQUEST)) == GssRequest()
    assert startup.parse(build.cancel(7, b"abcd")) == Cancel(7, b"abcd")
    found = startup.parse(build.startup({"user": "g-1", "database": "shop"}))
    assert found == Startup(0, {"user": "g-1", "database": "shop"}, ())


def test_extensions_are_told_apart_from_parameters() -> None:
    found = startup.parse(packet(b"user\0a\0_pq_.x\x001\0\0", (3 << 16) | 2))
    assert found == Startup(2, {"user": "a"}, ("_pq_.x",))


def test_long_cancel_keys_are_read_and_longer_ones_are_not() -> None:
    assert startup.parse(build.cancel(7, b"k" * 256)) == Cancel(7, b"k" * 256)
    with pytest.raises(ProtocolViolation):
        startup.parse(build.cancel(7, b"k" * 257))
    with pytest.raises(ProtocolViolation):
        startup.parse(build.cancel(7, b"abc"))


@pytest.mark.parametrize("length", [0, 4, 7, 10_001, 2**31 - 1, 2**31, 2**32 - 1])
def test_lengths_that_cannot_be_right(length: int) -> None:
    with pytest.raises(ProtocolViolation):
        startup.head(length.to_bytes(4, "big") + b"\0\3\0\0")


@pytest.mark.parametrize(
    "body",
    [
        b"user\0a\0",
        b"user\0a",
        b"user\0\0",
        b"user\0a\0user\0b\0\0",
        b"TimeZone\0a\0timezone\0b\0\0",
        b"\0a\0\0",
        b"us\xffer\0a\0\0",
        b"user\0\xff\0\0",
        b"user\0a\0\0trailing",
    ],
)
def test_parameter_lists_that_are_malformed(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        startup.parse(packet(body))


@pytest.mark.parametrize("version", [2 << 16, 9 << 16 | 9, 4 << 16, 0])
def test_other_major_versions(version: int) -> None:
    with pytest.raises(UnsupportedProtocol):
        startup.parse(packet(b"user\0a\0\0", version))


def test_an_encryption_request_carries_nothing() -> None:
    with pytest.raises(ProtocolViolation):
        startup.parse(packet(b"x", startup.SSL_REQUEST))
