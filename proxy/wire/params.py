"""Values on the wire, decoded for the record: those of Bind, and those of results.

A reader of a recording wants `42` and `2026-03-01`, not wire bytes. Text values are kept as they were sent; binary
ones of Postgres's own types become JSON values; what is not known becomes hex with its type's OID and name. A value
that does not fit its type is shown as hex too: nothing here raises, because the server is the judge of values.
A Bind's value above 64 KiB is recorded by length and SHA-256, which identify it without doubling it.
Sources: PostgreSQL `src/backend/utils/adt/*` send functions, `src/include/catalog/pg_type.dat` for the OIDs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from struct import Struct, error
from typing import Any, Final
from uuid import UUID

from proxy.wire.types import ELEMENTS, NAMES

LONGEST_RECORDED: Final = 64 * 1024
_EPOCH_DAY: Final = date(2000, 1, 1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_F4, _F8 = Struct(">f"), Struct(">d")
_NUMERIC_HEAD = Struct(">HhHH")
_INTERVAL, _TIMETZ, _ARRAY_HEAD, _DIMENSION = Struct(">qii"), Struct(">qi"), Struct(">iiI"), Struct(">ii")
_POINT = Struct(">dd")
_NAN, _POSITIVE_INFINITY, _NEGATIVE_INFINITY, _NEGATIVE = 0xC000, 0xD000, 0xF000, 0x4000

BOOL, BYTEA, INT8, INT2, INT4, TEXT, OID, JSON = 16, 17, 20, 21, 23, 25, 26, 114
FLOAT4, FLOAT8, UNKNOWN, BPCHAR, VARCHAR, DATE = 700, 701, 705, 1042, 1043, 1082
TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID_OID, JSONB, NAME = 1114, 1184, 1700, 2950, 3802, 19
TIME, TIMETZ, INTERVAL, INET, CIDR, MACADDR, MACADDR8 = 1083, 1266, 1186, 869, 650, 829, 774
BIT, VARBIT, POINT, CHAR, XML, REFCURSOR, CSTRING, JSONPATH, XID8 = 1560, 1562, 600, 18, 142, 1790, 2275, 4072, 5069
OIDS: Final = (24, 28, 29, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191)
"""Types that are an oid or a counter of 32 bits on the wire: xid, cid and those whose names begin with reg."""


def decode_all(
    values: Sequence[bytes | None], formats: Sequence[int], types: Sequence[int], names: Mapping[int, str] = NAMES
) -> list[Any]:
    """All values of one Bind. `formats` as Bind has them: none (all text), one for all, or one each."""
    shared = formats[0] if len(formats) == 1 else 0
    several = formats if len(formats) > 1 else ()
    return [
        decode(value, several[i] if i < len(several) else shared, types[i] if i < len(types) else 0, names)
        for i, value in enumerate(values)
    ]


def decode(
    value: bytes | None, format_code: int, oid: int, names: Mapping[int, str] = NAMES, longest: int = LONGEST_RECORDED
) -> Any:
    """One value as something JSON can hold; `names` are those of types that are not decoded. Never raises."""
    if value is None:
        return None
    if len(value) > longest:
        return {"length": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    try:
        if format_code == 0:
            return value.decode()
        read = _BINARY.get(oid)
        if read is not None:
            return read(value)
        element = ELEMENTS.get(oid)
        if element is not None:
            return _array(value, element)
    except (ValueError, OverflowError, IndexError, error):
        pass
    found: dict[str, Any] = {"type": oid}
    if oid in names:
        found["name"] = names[oid]
    found["hex"] = value.hex()
    return found


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


def _clock(microseconds: int) -> str:
    if microseconds == 86_400_000_000:
        return "24:00:00"
    return (datetime.min + timedelta(microseconds=microseconds)).time().isoformat()


def _time(value: bytes) -> str:
    return _clock(_integer(8)(value))


def _timetz(value: bytes) -> str:
    microseconds, west = _TIMETZ.unpack(value)
    hours, rest = divmod(abs(west), 3600)
    minutes, seconds = divmod(rest, 60)
    zone = f"{'-' if west > 0 else '+'}{hours:02d}"
    if rest:
        zone += f":{minutes:02d}" + (f":{seconds:02d}" if seconds else "")
    return _clock(microseconds) + zone


def _interval(value: bytes) -> str:
    """As IntervalStyle `postgres` writes it."""
    microseconds, days, months = _INTERVAL.unpack(value)
    if abs(days) >= 2**31 - 1 and abs(months) >= 2**31 - 1:
        return "infinity" if days > 0 else "-infinity"
    years, months = (abs(months) // 12 * (-1 if months < 0 else 1), abs(months) % 12 * (-1 if months < 0 else 1))
    parts: list[str] = []
    negative = False
    for number, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if number:
            sign = "+" if negative and number > 0 else ""
            parts.append(f"{sign}{number} {unit}{'' if number == 1 else 's'}")
            negative = number < 0
    if microseconds or not parts:
        seconds, micro = divmod(abs(microseconds), 1_000_000)
        sign = "-" if microseconds < 0 else "+" if negative else ""
        fraction = f".{micro:06d}".rstrip("0") if micro else ""
        parts.append(f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}")
    return " ".join(parts)


def _inet(value: bytes) -> str:
    family, bits, is_cidr, size = value[0], value[1], value[2], value[3]
    if len(value) != 4 + size or (family, size) not in ((2, 4), (3, 16)):
        raise ValueError(value)
    address = ip_address(value[4:])
    return str(address) if bits == size * 8 and not is_cidr else f"{address}/{bits}"


def _bits(value: bytes) -> str:
    count = _integer(4)(value[:4])
    if not 0 <= count <= 8 * (len(value) - 4) < count + 8:
        raise ValueError(count)
    return "".join(f"{octet:08b}" for octet in value[4:])[:count]


def _point(value: bytes) -> str:
    x, y = _POINT.unpack(value)
    return f"({_number(x)},{_number(y)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else repr(value)


def _array(value: bytes, element: int) -> list[Any]:
    """An array as nested lists. One that does not begin at 1 is shown as hex: a list would not tell."""
    count, _, oid = _ARRAY_HEAD.unpack_from(value)
    read = _BINARY.get(element)
    if read is None or oid != element or not 0 <= count <= 6:
        raise ValueError(element)
    sizes: list[int] = []
    for index in range(count):
        size, low = _DIMENSION.unpack_from(value, 12 + 8 * index)
        if low != 1 or size < 0:
            raise ValueError(low)
        sizes.append(size)
    pos = 12 + 8 * count
    flat: list[Any] = []
    while pos < len(value):
        length = int.from_bytes(value[pos : pos + 4], "big", signed=True)
        pos += 4
        if length < 0:
            flat.append(None)
            continue
        if pos + length > len(value):
            raise ValueError(length)
        flat.append(read(value[pos : pos + length]))
        pos += length
    if len(flat) != (math.prod(sizes) if sizes else 0):
        raise ValueError(len(flat))
    for size in reversed(sizes[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat


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
    TIME: _time,
    TIMETZ: _timetz,
    INTERVAL: _interval,
    INET: _inet,
    CIDR: _inet,
    MACADDR: lambda value: value.hex(":"),
    MACADDR8: lambda value: value.hex(":"),
    BIT: _bits,
    VARBIT: _bits,
    POINT: _point,
    CHAR: bytes.decode,
    XML: bytes.decode,
    REFCURSOR: bytes.decode,
    CSTRING: bytes.decode,
    JSONPATH: _jsonb,
    XID8: _oid,
    **dict.fromkeys(OIDS, _oid),
}
