"""Whether a policy's own expression means the same in every session, whatever the vendor sets.

TimeZone, DateStyle, IntervalStyle and a few more settings are a session's own, and a row filter that reads `at::date`
moves with them. This finds the usual forms by the types of columns, constants and casts; it warns and refuses nothing.
Invariant: each finding says how to write the same so that no setting changes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from proxy.policy import oracle
from proxy.policy.oracle import Node
from proxy.policy.refusal import Refused

_TYPMOD = re.compile(r"\(\d+(?:,\d+)?\)")
_ALIASES = {
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
    "varchar": "text",
    "bpchar": "text",
    "character varying": "text",
    "character": "text",
    "name": "text",
    "float4": "real",
    "float8": "double precision",
}
_ZONED = "timestamp with time zone"
_PLAIN_TIMES = frozenset({"date", "timestamp without time zone", "time without time zone"})
_STYLED = frozenset(
    {"date", "timestamp without time zone", "interval", _ZONED, "time with time zone", "money", "bytea"}
)
_STYLES = {"interval": "IntervalStyle", "money": "lc_monetary", "bytea": "bytea_output"}
_ISO = re.compile(
    r"\s*\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?\s*(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?\s*\Z", re.I
)
_MOVING = frozenset({"now", "today", "yesterday", "tomorrow"})
_ZONE_WORDS = frozenset({"SVFOP_CURRENT_DATE", "SVFOP_LOCALTIME", "SVFOP_LOCALTIMESTAMP", "SVFOP_LOCALTIME_N",
                         "SVFOP_LOCALTIMESTAMP_N", "SVFOP_CURRENT_TIME", "SVFOP_CURRENT_TIME_N"})  # fmt: skip
_NOW = frozenset({"now", "transaction_timestamp", "statement_timestamp"})
_OF_ARGUMENT = frozenset({"date_trunc", "coalesce", "greatest", "least", "date_bin"})
_TO_TEXT = frozenset(
    """concat concat_ws format to_json to_jsonb json_build_array json_build_object jsonb_build_array jsonb_build_object
quote_literal quote_nullable array_to_string""".split()  # noqa: SIM905
)
_UTC = "write it as (… AT TIME ZONE 'UTC')"


def unsteady(sql: str, types: Mapping[str, str]) -> list[str]:
    """What in an expression depends on settings of the session, each with a way to write it that does not.

    `types` are those of the table's columns, in format_type's words.
    """
    try:
        (raw,) = oracle.statements(f"SELECT 1 FROM t WHERE ({sql}\n)".encode())
    except (Refused, ValueError):
        return []  # said elsewhere
    found: list[str] = []
    known = {name: _plain(type_name) for name, type_name in types.items()}
    _type(raw.node.get("whereClause", {}), known, found)
    return list(dict.fromkeys(found))


def _plain(type_name: str) -> str:
    name = _TYPMOD.sub("", type_name).strip()
    return _ALIASES.get(name, name)


def _type(node: Any, types: Mapping[str, str], found: list[str]) -> str | None:
    """The type of an expression where it is certain; notes what depends on a setting on the way."""
    if isinstance(node, list):
        for item in node:
            _type(item, types, found)
        return None
    if not isinstance(node, dict) or len(node) != 1:
        return None
    ((kind, inner),) = node.items()
    if kind == "ColumnRef":
        return types.get(oracle.names(inner["fields"])[-1])
    if kind == "A_Const":
        return "unknown" if "sval" in inner else "integer" if "ival" in inner else None
    if kind == "TypeCast":
        return _cast(inner, types, found)
    if kind == "FuncCall":
        return _call(inner, types, found)
    if kind == "A_Expr":
        return _operator(inner, types, found)
    if kind == "SQLValueFunction":
        if inner.get("op") in _ZONE_WORDS:
            word = inner["op"].removeprefix("SVFOP_").removesuffix("_N").lower()
            found.append(f"{word} depends on TimeZone; write (now() AT TIME ZONE 'UTC')::date or the like")
            return "date" if word == "current_date" else None
        return _ZONED if "TIMESTAMP" in inner.get("op", "") else None
    if isinstance(inner, dict):
        for value in inner.values():
            _type(value, types, found)
    return None


def _string(node: Node) -> str | None:
    value: str | None = node.get("A_Const", {}).get("sval", {}).get("sval")
    return value


def _cast(node: Node, types: Mapping[str, str], found: list[str]) -> str | None:
    source = _type(node["arg"], types, found)
    names = oracle.names(node["typeName"].get("names", []))
    target = _plain(names[-1])
    if "arrayBounds" in node["typeName"]:
        return None
    text = _string(node["arg"])
    if text is not None:
        _constant(text, target, found)
    else:
        _convert(source, target, found)
    return target


def _constant(text: str, target: str | None, found: list[str]) -> None:
    """A constant that becomes a date or time."""
    if target not in (_ZONED, "date", "timestamp without time zone"):
        return
    if text.strip().lower() in _MOVING:
        found.append(f"'{text}' is taken once and depends on TimeZone; use now()")
        return
    match = _ISO.match(text)
    if match is None:
        if text.strip().lower() not in ("infinity", "-infinity", "epoch"):
            found.append(f"'{text}' depends on DateStyle; write it as YYYY-MM-DD")
    elif target == _ZONED and not match["zone"]:
        iso = text.strip()
        found.append(f"'{iso}' depends on TimeZone; write '{iso if ':' in iso else iso + ' 00:00'}+00'")


def _convert(source: str | None, target: str | None, found: list[str]) -> None:
    if source == target or source in (None, "unknown") or target is None:
        return
    zoned, other = (source, target) if source == _ZONED else (target, source)
    if zoned == _ZONED and other in _PLAIN_TIMES:
        found.append(f"{source} to {target} depends on TimeZone; {_UTC}::{_short(target)}")
    elif target == "text" and source in _STYLED:
        style = "TimeZone and DateStyle" if source == _ZONED else _STYLES.get(source, "DateStyle")
        found.append(f"{source} to text depends on {style}; use to_char() with a numeric pattern, in UTC")
    elif source == "text" and target in (_ZONED, *_PLAIN_TIMES):
        style = "TimeZone and DateStyle" if target == _ZONED else "DateStyle"
        found.append(f"text to {target} depends on {style}; use make_date(), or to_date() with a pattern")


def _short(target: str) -> str:
    return {"timestamp without time zone": "timestamp", "time without time zone": "time"}.get(target, target)


def _call(node: Node, types: Mapping[str, str], found: list[str]) -> str | None:
    name = oracle.names(node["funcname"])[-1]
    arguments = node.get("args", [])
    given = [_type(a, types, found) for a in arguments]
    if name in _NOW:
        return _ZONED
    if name == "timezone" and len(given) == 2:
        return {_ZONED: "timestamp without time zone", "timestamp without time zone": _ZONED}.get(given[1] or "")
    part = _string(arguments[0]) if arguments else None
    moves = {
        "date_trunc": len(given) == 2 and part not in ("second", "milliseconds", "microseconds", "minute"),
        "date_part": part != "epoch",
        "extract": part != "epoch",
        "to_char": True,
        "age": True,
        "date": True,
    }
    if moves.get(name) and _ZONED in given:
        found.append(f"{name}() of a timestamp with time zone depends on TimeZone; {_UTC} first")
    elif name == "age" and len(given) == 1:
        found.append("age() depends on the current date in TimeZone; subtract from now() instead")
    elif name in ("to_timestamp", "make_timestamptz") and len(given) in (2, 6) and given[0] != "integer":
        found.append(f"{name}() depends on TimeZone; use make_timestamptz() with a zone")
    elif name in _TO_TEXT and any(g in _STYLED for g in given):
        found.append(f"{name}() of a date or time depends on TimeZone and DateStyle; use to_char() in UTC inside it")
    elif name in ("to_tsvector", "to_tsquery", "plainto_tsquery") and len(given) == 1:
        found.append(f"{name}() depends on default_text_search_config; name the configuration: {name}('english', …)")
    if name in _OF_ARGUMENT:
        return given[-1] if name != "date_trunc" else (given[1] if len(given) > 1 else None)
    return "text" if name in ("lower", "upper", "left", "right", "to_char", "concat", "replace") else None


def _operator(node: Node, types: Mapping[str, str], found: list[str]) -> str | None:
    name = oracle.names(node.get("name", []))[-1]
    left_node, right_node = node.get("lexpr", {}), node.get("rexpr", {})
    right = right_node.get("List", {}).get("items", [right_node]) if isinstance(right_node, dict) else []
    left = _type(left_node, types, found)
    given = [_type(item, types, found) for item in right]
    if name == "||":
        if any(t in _STYLED for t in (left, *given)):
            found.append("|| of a date or time depends on TimeZone and DateStyle; use to_char() in UTC")
        return "text"
    if name in ("+", "-"):
        # A day added to a time with zone may differ by an hour between zones; no more than that, so nothing is said.
        return left if left != "unknown" else None
    for item, other in zip(right, given, strict=True):
        if (text := _string(item)) is not None:
            _constant(text, left, found)
        elif (text := _string(left_node)) is not None:
            _constant(text, other, found)
        elif left == _ZONED and other in _PLAIN_TIMES:
            _convert(other, left, found)
        elif other == _ZONED and left in _PLAIN_TIMES:
            _convert(left, other, found)
    return "boolean" if name in ("=", "<>", "<", ">", "<=", ">=", "BETWEEN") else None
