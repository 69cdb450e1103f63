"""What a connection says first: SSLRequest, GSSENCRequest, CancelRequest or a StartupMessage.

These packets have no type byte. All that is read here comes from a peer that has proven nothing, so every
bound is checked before use: 4 to 10,000 bytes (as Postgres has it), one terminator, no key twice. A duplicate
key is refused because the key that is authorised must be the one that is forwarded.
Source: PostgreSQL manual, "Message Formats", "Protocol Version Negotiation".
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from proxy.wire.framing import ProtocolViolation

SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
PROTOCOL_3: Final = 3
NEWEST_MINOR: Final = 2
"""The newest minor version spoken here: 3.2, which differs from 3.0 in the length of cancel keys alone."""
LONG_KEYS_MINOR: Final = 2
"""From this minor version on a cancel key may be longer than four bytes."""
LONGEST: Final = 10_000
SHORTEST: Final = 8
_TWO = Struct(">II")
_CANCEL_KEY_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class SslRequest:
    """The client asks for TLS."""


@dataclass(frozen=True, slots=True)
class GssRequest:
    """The client asks for GSSAPI encryption, which daypass does not speak."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel what the session with this process id is doing; `secret` is the one that daypass handed out."""

    pid: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class Startup:
    """A StartupMessage of protocol 3. `extensions` are the `_pq_.` keys, which negotiate and are never forwarded."""

    minor: int
    parameters: dict[str, str]
    extensions: tuple[str, ...]

    @property
    def spoken(self) -> int:
        """The minor version that both sides speak: what the client asks for, or the newest one here."""
        return min(self.minor, NEWEST_MINOR)

    @property
    def negotiates(self) -> bool:
        """Whether the client must be told that it does not get all it asks for, as Postgres 18 decides it."""
        return self.minor > NEWEST_MINOR or bool(self.extensions)


Opening = SslRequest | GssRequest | Cancel | Startup


class UnsupportedProtocol(Exception):
    """A major version that is not 3, which breaks no rule: `text` is what that peer is told."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def head(eight: bytes) -> tuple[int, int]:
    """(length of the whole packet, request code) from its first eight bytes.

    Raises ProtocolViolation when the length cannot be a start-up packet's: that is also how HTTP, SSH and noise
    are told from Postgres clients.
    """
    length, code = _TWO.unpack(eight)
    if not SHORTEST <= length <= LONGEST:
        raise ProtocolViolation("invalid length of startup packet")
    if code in (SSL_REQUEST, GSSENC_REQUEST) and length != SHORTEST:
        raise ProtocolViolation("invalid length of an encryption request")
    if code == CANCEL_REQUEST and not 16 <= length <= 12 + _CANCEL_KEY_LONGEST:
        raise ProtocolViolation("invalid length of a cancel request")
    return length, code


def parse(packet: bytes) -> Opening:
    """Read one whole packet, its length word included. Raises ProtocolViolation, UnsupportedProtocol for 2.0."""
    if len(packet) < SHORTEST:
        raise ProtocolViolation("invalid length of startup packet")
    length, code = head(packet[:8])
    if length != len(packet):
        raise ProtocolViolation("invalid length of startup packet")
    if code == SSL_REQUEST:
        return SslRequest()
    if code == GSSENC_REQUEST:
        return GssRequest()
    if code == CANCEL_REQUEST:
        return Cancel(pid=int.from_bytes(packet[8:12], "big"), secret=packet[12:])
    major, minor = code >> 16, code & 0xFFFF
    if major != PROTOCOL_3:
        raise UnsupportedProtocol(
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"
        )
    return _startup(minor, packet)


def _startup(minor: int, packet: bytes) -> Startup:
    if packet[-1] != 0:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    words = packet[8:-1].split(b"\0")
    # Each key and each value ends in a NUL, so a well-formed list splits into pairs and one empty rest.
    if words.pop() != b"" or len(words) % 2:
        raise ProtocolViolation("invalid startup packet layout: a key without a value")
    parameters: dict[str, str] = {}
    extensions: list[str] = []
    seen: set[str] = set()
    for raw_key, raw_value in zip(words[::2], words[1::2], strict=True):
        try:
            key, value = raw_key.decode(), raw_value.decode()
        except UnicodeDecodeError:
            raise ProtocolViolation("invalid startup packet: a parameter is not UTF-8") from None
        if not key:
            raise ProtocolViolation("invalid startup packet layout: an empty key")
        # The names of settings do not heed case, so TimeZone and timezone are one key said twice.
        if key.lower() in seen:
            raise ProtocolViolation(f'startup parameter "{key}" was given twice')
        seen.add(key.lower())
        if key.startswith("_pq_."):
            extensions.append(key)
        else:
            parameters[key] = value
    return Startup(minor=minor, parameters=parameters, extensions=tuple(extensions))
