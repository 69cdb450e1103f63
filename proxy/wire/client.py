"""What a client says in a session: only the messages that must be read are decoded.

Query and Parse carry the statement, Bind its values, Execute and Close name what they act on. Every function
takes the buffer and the span of the body, copies only what it returns, and raises ProtocolViolation when the
body is not exactly what its message type promises: a rest that nobody read could mean something to the server.
Source: PostgreSQL manual, "Message Formats".
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from proxy.wire.framing import ProtocolViolation, uint32

STATEMENT: Final = ord("S")
PORTAL: Final = ord("P")


Parse = tuple[bytes, bytes, tuple[int, ...]]
"""(name, text, type oids that the client declared); the name b"" is the unnamed statement."""
Bind = tuple[bytes, bytes, tuple[int, ...], list[bytes | None]]
"""(portal, statement, formats, values). Formats are none, one for all or one each: 0 is text, 1 is binary."""


def _u16(data: bytes, pos: int) -> int:
    return (data[pos] << 8) | data[pos + 1]


def _i32(data: bytes, pos: int) -> int:
    number = uint32(data, pos)
    return number if number < 0x80000000 else number - 0x100000000


def query(data: bytes, pos: int, stop: int) -> bytes:
    """The text of a Query, without its terminator."""
    if data.find(0, pos, stop) != stop - 1:
        raise ProtocolViolation("invalid string in a Query message")
    return data[pos : stop - 1]


def _string(data: bytes, pos: int, stop: int) -> tuple[bytes, int]:
    if pos < stop and not data[pos]:
        return b"", pos + 1
    nul = data.find(0, pos, stop)
    if nul < 0:
        raise ProtocolViolation("invalid string in message")
    return data[pos:nul], nul + 1


def parse(data: bytes, pos: int, stop: int) -> Parse:
    """Read a Parse message's body."""
    name, pos = _string(data, pos, stop)
    sql, pos = _string(data, pos, stop)
    if stop - pos < 2:
        raise ProtocolViolation("invalid Parse message")
    count = _u16(data, pos)
    pos += 2
    if stop - pos != 4 * count:
        raise ProtocolViolation("invalid Parse message")
    types: tuple[int, ...] = Struct(f">{count}I").unpack_from(data, pos) if count else ()
    return name, sql, types


def bind(data: bytes, pos: int, stop: int) -> Bind:
    """Read a Bind message's body; the result formats at its end are checked for length and not kept."""
    portal, pos = _string(data, pos, stop)
    statement, pos = _string(data, pos, stop)
    if stop - pos < 6:
        raise ProtocolViolation("invalid Bind message")
    formats: tuple[int, ...] = ()
    count = _u16(data, pos)
    pos += 2
    if count:
        if stop - pos < 2 * count + 4:
            raise ProtocolViolation("invalid Bind message")
        formats = Struct(f">{count}H").unpack_from(data, pos)
        pos += 2 * count
    count = _u16(data, pos)
    pos += 2
    values: list[bytes | None] = []
    while count:
        count -= 1
        if stop - pos < 4:
            raise ProtocolViolation("invalid Bind message")
        size = _i32(data, pos)
        pos += 4
        if size < 0:
            # Postgres takes -1 alone for NULL and refuses other negative lengths.
            if size != -1:
                raise ProtocolViolation("invalid Bind message")
            values.append(None)
            continue
        if stop - pos < size:
            raise ProtocolViolation("invalid Bind message")
        values.append(data[pos : pos + size])
        pos += size
    if stop - pos < 2 or stop - pos != 2 + 2 * _u16(data, pos):
        raise ProtocolViolation("invalid Bind message")
    return portal, statement, formats, values


def result_formats(data: bytes, pos: int, stop: int) -> tuple[int, ...]:
    """The result formats at the end of a Bind that `bind` has read: none (all text), one for all, or one each."""
    for _ in range(2):
        _, pos = _string(data, pos, stop)
    pos += 2 + 2 * _u16(data, pos)
    count = _u16(data, pos)
    pos += 2
    for _ in range(count):
        size = _i32(data, pos)
        pos += 4 + max(0, size)
    count = _u16(data, pos)
    formats: tuple[int, ...] = Struct(f">{count}H").unpack_from(data, pos + 2)
    return formats


def execute(data: bytes, pos: int, stop: int) -> bytes:
    """The portal that an Execute names. Its row limit is the server's business."""
    if stop - pos == 5 and not data[pos]:
        return b""
    portal, pos = _string(data, pos, stop)
    if stop - pos != 4:
        raise ProtocolViolation("invalid Execute message")
    return portal


def target(data: bytes, pos: int, stop: int) -> tuple[int, bytes]:
    """(STATEMENT or PORTAL, name) of a Describe or Close."""
    what = data[pos] if stop - pos >= 2 else 0
    if what != STATEMENT and what != PORTAL:  # noqa: PLR1714 - quicker than a tuple
        raise ProtocolViolation("invalid Describe or Close message")
    name, after = _string(data, pos + 1, stop)
    if after != stop:
        raise ProtocolViolation("invalid Describe or Close message")
    return what, name
