"""Where messages lie in a buffer, and the names of their type bytes.

A message is one type byte, a length that counts itself and not the type byte, and a body. Spans are found
without copying; a length below four can never be right and is refused at once, a length above the caller's
limit is the caller's to judge, because only the caller knows what may be long.
Source: PostgreSQL manual, "Message Formats".
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

HEADER: Final = 5
"""Bytes of type and length together."""

LENGTH: Final = Struct(">I").unpack_from
TYPE_AND_LENGTH: Final = Struct(">BI").unpack_from

# What a client sends.
QUERY: Final = ord("Q")
PARSE: Final = ord("P")
BIND: Final = ord("B")
DESCRIBE: Final = ord("D")
EXECUTE: Final = ord("E")
CLOSE: Final = ord("C")
FLUSH: Final = ord("H")
SYNC: Final = ord("S")
TERMINATE: Final = ord("X")
FUNCTION_CALL: Final = ord("F")
PASSWORD: Final = ord("p")

# What both send.
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
COPY_FAIL: Final = ord("f")

# What a server sends.
AUTHENTICATION: Final = ord("R")
PARAMETER_STATUS: Final = ord("S")
BACKEND_KEY_DATA: Final = ord("K")
NEGOTIATE_VERSION: Final = ord("v")
READY_FOR_QUERY: Final = ord("Z")
ROW_DESCRIPTION: Final = ord("T")
DATA_ROW: Final = ord("D")
COMMAND_COMPLETE: Final = ord("C")
EMPTY_QUERY: Final = ord("I")
PORTAL_SUSPENDED: Final = ord("s")
PARSE_COMPLETE: Final = ord("1")
BIND_COMPLETE: Final = ord("2")
CLOSE_COMPLETE: Final = ord("3")
NO_DATA: Final = ord("n")
PARAMETER_DESCRIPTION: Final = ord("t")
COPY_IN: Final = ord("G")
COPY_OUT: Final = ord("H")
COPY_BOTH: Final = ord("W")
FUNCTION_RESULT: Final = ord("V")
ERROR: Final = ord("E")
NOTICE: Final = ord("N")
NOTIFICATION: Final = ord("A")


def uint32(data: bytes, pos: int) -> int:
    """The four bytes at `pos`, which are there. Compiled it makes no objects, unlike LENGTH: the lanes ask it often."""
    return (data[pos] << 24) | (data[pos + 1] << 16) | (data[pos + 2] << 8) | data[pos + 3]


class ProtocolViolation(Exception):
    """A peer broke the protocol. `text` is what that peer may be told; the connection cannot go on."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def spans(data: bytes, pos: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield (type, start of body, end of message) for each whole message in `data` from `pos` on.

    Stops at the first message that is not all there. Raises ProtocolViolation on a length below four.
    This is the plain way, for openings and tests; the two lanes of a session walk headers in their own loops,
    and a property test holds them against this one.
    """
    end = len(data)
    while end - pos >= HEADER:
        kind, length = TYPE_AND_LENGTH(data, pos)
        if length < 4:
            raise ProtocolViolation(f"invalid length {length} in a message of type {printable(kind)}")
        stop = pos + 1 + length
        if stop > end:
            return
        yield kind, pos + HEADER, stop
        pos = stop


def printable(kind: int) -> str:
    """A type byte as people write it: `'Q'` or `0x80`."""
    return repr(chr(kind)) if 32 < kind < 127 else f"0x{kind:02x}"
