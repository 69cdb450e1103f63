"""Bind values, decoded for the record.

A reader of a recording wants `42` and `2026-03-01`, not wire bytes. Text values are kept as the client sent
them; the common binary types become JSON values; what is not known becomes hex with its type OID. A value that
does not fit its type is shown as hex too: nothing here raises, because the server is the judge of values.
A value above 64 KiB is recorded by length and SHA-256, which identify it without doubling it.
Sources: PostgreSQL `src/backend/utils/adt/*` send functions, `src/include/catalog/pg_type.dat` for the OIDs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from struct import Struct, error
from typing import Any, Final
from uuid import UUID

LONGEST_RECORDED: Final = 64 * 1024
_EPOCH_DAY: Final = date(2000, 1, 1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_F4, _F8 = Struct(">f"), Struct(">d")
_NUMERIC_HEAD = Struct(">HhHH")
_NAN, _POSITIVE_INFINITY, _NEGATIVE_INFINITY, _NEGATIVE = 0xC000, 0xD000, 0xF000, 0x4000

BOOL, BYTEA, INT8, INT2, INT4, TEXT, OID, JSON = 16, 17, 20, 21, 23, 25, 26, 114
FLOAT4, FLOAT8, UNKNOWN, BPCHAR, VARCHAR, DATE = 700, 701, 705, 1042, 1043, 1082
TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID_OID, JSONB, NAME = 1114, 1184, 1700, 2950, 3802, 19


def decode_all(values: Sequence[bytes | None], formats: Sequence[int], types: Sequence[int]) -> list[Any]:
    """All values of one Bind. `formats` as Bind has them: none (all text), one for all, or one each."""
    shared = formats[0] if len(formats) == 1 else 0
    several = formats if len(formats) > 1 else ()
    return [
        decode(value, several[i] if i < len(several) else shared, types[i] if i < len(types) else 0)
        for i, value in enumerate(values)
    ]


def decode(value: bytes | None, format_code: int, oid: int) -> Any:
    """One value as something JSON can hold. Never raises."""
    if value is None:
        return None
    if len(value) > LONGEST_RECORDED:
        return {"length": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    try:
        if format_code == 0:
            return value.decode()
        read = _BINARY.get(oid)
        if read is not None:
            return read(value)
    except (ValueError, OverflowError, error):
        pass
    return {"type": oid, "hex": value.hex()}


def _integer(size: int) -> Callable[[bytes], int]:
    def read(value: bytes) -> int:
        if len(value) != size:
            raise ValueError(size)
        return int.from_bytes(value, "big", signed=True)

    return read


def _oid(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _bool(value: bytes) -> bool:
    if value not in (b"\0", b"\1"):
        raise ValueError(value)
    return value == b"\1"


def _float(form: Struct) -> Callable[[bytes], float | str]:
    def read(value: bytes) -> float | str:
        number: float = form.unpack(value)[0]
        # JSON has no NaN and no infinities.
        return number if math.isfinite(number) else str(number)

    return read


def _date(value: bytes) -> str:
    days = _integer(4)(value)
    if days in (2**31 - 1, -(2**31)):
        return "infinity" if days > 0 else "-infinity"
    return (_EPOCH_DAY + timedelta(days=days)).isoformat()


def _timestamp(value: bytes) -> str:
    microseconds = _integer(8)(value)
    if microseconds in (2**63 - 1, -(2**63)):
        return "infinity" if microseconds > 0 else "-infinity"
    return (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat(sep=" ")


def _timestamptz(value: bytes) -> str:
    text = _timestamp(value)
    return text if text.endswith("infinity") else text + "+00"


def _numeric(value: bytes) -> str:
    count, weight, sign, scale = _NUMERIC_HEAD.unpack_from(value)
    if len(value) != 8 + 2 * count:
        raise ValueError(count)
    special = {_NAN: "NaN", _POSITIVE_INFINITY: "Infinity", _NEGATIVE_INFINITY: "-Infinity"}.get(sign)
    if special is not None:
        return special
    digits = Struct(f">{count}h").unpack_from(value, 8)
    number = 0
    for digit in digits:
        number = number * 10_000 + digit
    exponent = 4 * (weight - count + 1)
    # The digit tuple, not arithmetic: no context may round what the client sent.
    exact = Decimal((1 if sign == _NEGATIVE else 0, tuple(map(int, str(number))), exponent))
    if abs(exponent) > 2000:
        return str(exact)
    text = f"{exact:f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction[:scale].ljust(scale, '0')}" if scale else whole


def _jsonb(value: bytes) -> str:
    if value[:1] != b"\1":
        raise ValueError(value[:1])
    return value[1:].decode()


_BINARY: Final[dict[int, Callable[[bytes], Any]]] = {
    BOOL: _bool,
    BYTEA: lambda value: "\\x" + value.hex(),
    INT2: _integer(2),
    INT4: _integer(4),
    INT8: _integer(8),
    OID: _oid,
    FLOAT4: _float(_F4),
    FLOAT8: _float(_F8),
    TEXT: bytes.decode,
    VARCHAR: bytes.decode,
    BPCHAR: bytes.decode,
    NAME: bytes.decode,
    UNKNOWN: bytes.decode,
    JSON: bytes.decode,
    JSONB: _jsonb,
    DATE: _date,
    TIMESTAMP: _timestamp,
    TIMESTAMPTZ: _timestamptz,
    NUMERIC: _numeric,
    UUID_OID: lambda value: str(UUID(bytes=value)),
}
