"""What a server says and daypass must read: errors, notices, start-up answers.

A server is not trusted either: a field list without SQLSTATE, without an end or with a silly position is read
as far as it makes sense and never raises on the carrying path. Only the start-up answers raise
ProtocolViolation, because there a wrong message ends the dialling anyway.
Source: PostgreSQL manual, "Message Formats", "Error and Notice Message Fields".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from proxy.wire.framing import ProtocolViolation

_U32 = Struct(">I").unpack_from

OK: Final = 0
CLEARTEXT: Final = 3
MD5: Final = 5
SASL: Final = 10
SASL_CONTINUE: Final = 11
SASL_FINAL: Final = 12
UNKNOWN_STATE: Final = "XX000"
"""What an error without SQLSTATE is taken for."""


@dataclass(frozen=True, slots=True)
class Report:
    """An ErrorResponse or NoticeResponse, as far as daypass reads it. `position` is 0 when there is none."""

    severity: str
    sqlstate: str
    text: str
    hint: str
    position: int
    detail: str = ""

    @property
    def fatal(self) -> bool:
        """True when the server will close the connection after this."""
        return self.severity in ("FATAL", "PANIC")


def fields(body: bytes) -> list[tuple[int, bytes]]:
    """The (field code, value) pairs of an ErrorResponse or NoticeResponse, in order; a torn rest is left out."""
    found: list[tuple[int, bytes]] = []
    pos, end = 0, len(body)
    while pos < end and body[pos]:
        nul = body.find(0, pos + 1)
        if nul < 0:
            break
        found.append((body[pos], body[pos + 1 : nul]))
        pos = nul + 1
    return found


def report(body: bytes) -> Report:
    """Read an ErrorResponse or NoticeResponse."""
    values = {chr(code): value.decode("utf-8", "replace") for code, value in fields(body)}
    # V is the severity in English; S is translated, and alone in servers before 9.6.
    position = values.get("P", "")
    return Report(
        severity=values.get("V") or values.get("S", "ERROR"),
        sqlstate=values.get("C") or UNKNOWN_STATE,
        text=values.get("M", ""),
        hint=values.get("H", ""),
        position=int(position) if position.isascii() and position.isdigit() and len(position) < 10 else 0,
        detail=values.get("D", ""),
    )


def move_position(body: bytes, to: Callable[[int], int]) -> bytes:
    """The same field list with its P field mapped by `to`; the body itself when it has no position."""
    changed = False
    parts: list[bytes] = []
    for code, value in fields(body):
        if code == ord("P") and value.isdigit() and len(value) < 10:
            moved = to(int(value))
            # A position that lies in text the client never sent is no position for the client.
            changed = True
            if moved < 1:
                continue
            parts.append(b"P" + str(moved).encode() + b"\0")
        else:
            parts.append(bytes((code,)) + value + b"\0")
    return b"".join(parts) + b"\0" if changed else body


def tag(body: bytes) -> str:
    """The text of a CommandComplete, such as `SELECT 3`."""
    return body.rstrip(b"\0").decode("utf-8", "replace")


def authentication(body: bytes) -> tuple[int, bytes]:
    """(request code, its data) of an Authentication message. Raises ProtocolViolation when it is too short."""
    if len(body) < 4:
        raise ProtocolViolation("invalid authentication message")
    return _U32(body)[0], body[4:]


def mechanisms(data: bytes) -> list[str]:
    """The names in an AuthenticationSASL."""
    return [name.decode("ascii", "replace") for name in data.split(b"\0") if name]


def parameter(body: bytes) -> tuple[str, str]:
    """(name, value) of a ParameterStatus. Raises ProtocolViolation."""
    words = body.split(b"\0")
    if len(words) != 3 or words[2]:
        raise ProtocolViolation("invalid parameter status")
    return words[0].decode("utf-8", "replace"), words[1].decode("utf-8", "replace")


def key(body: bytes, longest: int = 256) -> tuple[int, bytes]:
    """(process id, secret) of a BackendKeyData whose secret has 4 to `longest` bytes. Raises ProtocolViolation."""
    if not 8 <= len(body) <= 4 + longest:
        raise ProtocolViolation("invalid backend key data")
    return _U32(body)[0], body[4:]


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a RowDescription; format 1 is binary."""

    name: str
    oid: int
    format: int


def row_description(body: bytes) -> list[Field] | None:
    """The columns of a RowDescription; None when it is malformed."""
    found: list[Field] = []
    pos, end = 2, len(body)
    while pos < end:
        nul = body.find(0, pos)
        if nul < 0 or nul + 19 > end:
            return None
        name = body[pos:nul].decode("utf-8", "backslashreplace")
        found.append(Field(name, _U32(body, nul + 7)[0], body[nul + 18]))
        pos = nul + 19
    return found if len(found) == int.from_bytes(body[:2], "big") else None


def notification(body: bytes) -> tuple[int, str, bytes]:
    """(process id, channel, payload) of a NotificationResponse, as far as it makes sense."""
    words = body[4:].split(b"\0")
    return int.from_bytes(body[:4], "big"), words[0].decode("utf-8", "backslashreplace"), b"".join(words[1:2])


def parameter_types(body: bytes) -> tuple[int, ...]:
    """The type OIDs of a ParameterDescription; empty when it is malformed."""
    if len(body) < 2 or (len(body) - 2) % 4:
        return ()
    return Struct(f">{(len(body) - 2) // 4}I").unpack_from(body, 2)
