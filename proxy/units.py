"""Durations and sizes as people write them: `500ms 30s 15m 4h 7d`, `64KiB 1GiB`.

One grammar for config.yaml, policy files and the command line. The invariant: what `format_*` writes, `parse_*` reads
back to the same value.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_DURATION_PATTERN = r"^(?:\d{1,9}d)?(?:\d{1,9}h)?(?:\d{1,9}m)?(?:\d{1,9}s)?(?:\d{1,9}ms)?$"
_SIZE_PATTERN = r"^\d{1,18}(?:B|KiB|MiB|GiB|TiB)$"
LONGEST = 3650 * 86_400.0  # seconds; ten years, so that no sum of dates can overflow


def parse_duration(text: str) -> float:
    """Seconds of `500ms`, `30s`, `15m`, `4h`, `7d` or a sum such as `1h30m`. Raises ValueError with an example."""
    expected = f"{text!r} is not a duration; write for example 500ms, 30s, 15m, 4h or 7d"
    if not text or not text.isascii() or not re.match(_DURATION_PATTERN, text):
        bare = text.isascii() and text.isdigit()
        raise ValueError(f"{text!r} has no unit; write for example {text}s or {text}m" if bare else expected)
    total = sum(int(n) * _MS[unit] for n, unit in re.findall(r"(\d+)(ms|[dhms])", text))
    if total > LONGEST * 1000:
        raise ValueError(f"{text!r} is longer than ten years")
    return total / 1000


def format_duration(seconds: float) -> str:
    """The reverse of `parse_duration`, to the millisecond: 5400 → `1h30m`."""
    rest = round(abs(seconds) * 1000)
    parts = []
    for unit, size in _MS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if seconds < 0 and parts else "") + "".join(parts) if parts else "0s"


def parse_size(text: str) -> int:
    """Bytes of `512B`, `64KiB`, `10MiB`, `1GiB`. Raises ValueError that says what is meant."""
    if not text.isascii() or not re.match(_SIZE_PATTERN, text):
        raise ValueError(f"{text!r} is not a size; write for example 512B, 64KiB, 10MiB or 1GiB")
    number, unit = re.fullmatch(r"(\d+)(\D+)", text).groups()  # type: ignore[union-attr]  # the pattern has matched
    return int(number) * _SIZE[unit]


def format_size(size: int) -> str:
    """The reverse of `parse_size`, in the largest unit that is exact: 65536 → `64KiB`."""
    unit, factor = next((u, f) for u, f in _SIZE.items() if size % f == 0 and (size >= f or f == 1))
    return f"{size // factor}{unit}"


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(f"a duration was expected, for example {value}s or {value}m" if _whole(value) else _NO_DURATION)


def _size(value: Any) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    if _whole(value) and value >= 0:
        return value
    raise ValueError("a size was expected, for example 64KiB or 1GiB")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_NO_DURATION = "a duration was expected, for example 30s or 4h"

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "examples": ["30s", "15m", "4h", "7d"]}),
]
"""Seconds, written with a unit."""

Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _SIZE_PATTERN}, {"type": "integer", "minimum": 0}]}),
]
"""Bytes, written with a unit or as a whole number."""
