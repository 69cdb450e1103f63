"""Messages that daypass says itself, to a client or to an upstream.

Every function returns one whole message as bytes. Text comes from callers that know what may be said; here a
NUL inside text is cut out, so that no text can end a field early and start another.
Source: PostgreSQL manual, "Message Formats", "Error and Notice Message Fields".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from proxy.wire.startup import CANCEL_REQUEST, SSL_REQUEST

_I32 = Struct(">i").pack
_U32 = Struct(">I").pack
_U16 = Struct(">H").pack

FLUSH: Final = b"H\x00\x00\x00\x04"
SYNC: Final = b"S\x00\x00\x00\x04"
TERMINATE: Final = b"X\x00\x00\x00\x04"
SSL_REQUEST_PACKET: Final = _U32(8) + _U32(SSL_REQUEST)
AUTHENTICATION_OK: Final = b"R\x00\x00\x00\x08\x00\x00\x00\x00"


def message(kind: bytes, body: bytes) -> bytes:
    """One message: its type byte, its length, its body."""
    return kind + _U32(len(body) + 4) + body


def _cstring(text: str) -> bytes:
    return text.replace("\0", "").encode("utf-8", "replace") + b"\0"


def error(
    *,
    severity: str,
    code: str,
    text: str,
    detail: str = "",
    hint: str = "",
    position: int | None = None,
    routine: str = "",
) -> bytes:
    """An ErrorResponse. `severity` is ERROR or FATAL, `position` counts characters from 1."""
    where = "" if position is None else str(position)
    return message(b"E", _report(severity, code, {"M": text, "D": detail, "H": hint, "P": where, "R": routine}))


def notice(*, severity: str = "NOTICE", code: str = "00000", text: str, detail: str = "", hint: str = "") -> bytes:
    """A NoticeResponse."""
    return message(b"N", _report(severity, code, {"M": text, "D": detail, "H": hint}))


def _report(severity: str, code: str, rest: Mapping[str, str]) -> bytes:
    """The field list of an error or notice; V is the severity that no language setting translates."""
    fields = {"S": severity, "V": severity, "C": code, **{field: text for field, text in rest.items() if text}}
    return b"".join(field.encode() + _cstring(text) for field, text in fields.items()) + b"\0"


def ready(status: int) -> bytes:
    """ReadyForQuery with the transaction status byte I, T or E."""
    return b"Z\x00\x00\x00\x05" + bytes((status,))


def text_column(name: str) -> bytes:
    """A RowDescription of one text column that is of no table."""
    return message(b"T", _U16(1) + _cstring(name) + _U32(0) + _U16(0) + _U32(25) + b"\xff\xff" + b"\xff" * 4 + b"\0\0")


def complete(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", _cstring(tag))


def text_row(value: str) -> bytes:
    """A DataRow of one text column; text looks the same in both formats."""
    data = value.encode("utf-8", "replace")
    return message(b"D", _U16(1) + _U32(len(data)) + data)


def sasl(mechanisms: Sequence[str]) -> bytes:
    """AuthenticationSASL: the mechanisms on offer, the best one first."""
    return message(b"R", _U32(10) + b"".join(_cstring(name) for name in mechanisms) + b"\0")


def sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue."""
    return message(b"R", _U32(11) + data)


def sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal."""
    return message(b"R", _U32(12) + data)


def sasl_initial(mechanism: str, data: bytes) -> bytes:
    """SASLInitialResponse, as a client."""
    return message(b"p", _cstring(mechanism) + _U32(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    """SASLResponse, as a client."""
    return message(b"p", data)


def password(text: bytes) -> bytes:
    """PasswordMessage, as a client."""
    return message(b"p", text + b"\0")


def negotiate(minor: int, unknown: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: the minor version that will be spoken, and the options not understood."""
    return message(b"v", _U32((3 << 16) | minor) + _U32(len(unknown)) + b"".join(_cstring(name) for name in unknown))


def key_data(pid: int, secret: bytes) -> bytes:
    """BackendKeyData."""
    return message(b"K", _U32(pid) + secret)


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus."""
    return message(b"S", _cstring(name) + _cstring(value))


def startup(parameters: Mapping[str, str], minor: int = 0) -> bytes:
    """A StartupMessage of protocol 3.`minor`, as a client."""
    body = b"".join(_cstring(key) + _cstring(value) for key, value in parameters.items()) + b"\0"
    return _U32(len(body) + 8) + _U32(3 << 16 | minor) + body


def cancel(pid: int, secret: bytes) -> bytes:
    """A CancelRequest packet, as a client."""
    return _U32(12 + len(secret)) + _U32(CANCEL_REQUEST) + _U32(pid) + secret


def query(sql: bytes) -> bytes:
    """A Query."""
    return b"Q" + _U32(len(sql) + 5) + sql + b"\0"


def parse(name: bytes, sql: bytes, types: Sequence[int] = ()) -> bytes:
    """A Parse."""
    body = name + b"\0" + sql + b"\0" + _U16(len(types)) + b"".join(map(_U32, types))
    return message(b"P", body)


def bind(
    portal: bytes,
    statement: bytes,
    values: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """A Bind."""
    parts = [portal, b"\0", statement, b"\0", _U16(len(formats)), *map(_U16, formats), _U16(len(values))]
    for value in values:
        parts.append(_I32(-1) if value is None else _U32(len(value)) + value)
    return message(b"B", b"".join([*parts, _U16(len(results)), *map(_U16, results)]))


def execute(portal: bytes = b"", limit: int = 0) -> bytes:
    """An Execute; limit 0 asks for all rows."""
    return message(b"E", portal + b"\0" + _U32(limit))


def describe(kind: int, name: bytes = b"") -> bytes:
    """A Describe of a statement (S) or portal (P)."""
    return message(b"D", bytes((kind,)) + name + b"\0")


def close(kind: int, name: bytes = b"") -> bytes:
    """A Close of a statement (S) or portal (P)."""
    return message(b"C", bytes((kind,)) + name + b"\0")
