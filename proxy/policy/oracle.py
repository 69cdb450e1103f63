"""Postgres's own grammar: libpg_query through postgast, the first of the two parsers and the one that gives spans.

Gives the raw parse tree as plain JSON (cheaper than protobuf objects), the statements' spans and the normalized shape.
The bindings stop at NUL, so callers hand over text that proxy.policy.lexical has let pass. All locations are byte
offsets. Knows nothing of policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from postgast.native import lib

from proxy.policy.refusal import Refused

Node = dict[str, Any]
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_PLACES = frozenset(
    {
        "location",
        "stmt_location",
        "stmt_len",
        "name_location",
        "list_start",
        "list_end",
        "rexpr_list_start",
        "rexpr_list_end",
    }
)


@dataclass(frozen=True, slots=True)
class RawStatement:
    """One statement: its node type, the node's fields, and its byte span in the text."""

    kind: str
    node: Node
    start: int
    end: int


def tree(sql: bytes) -> list[Any]:
    """The raw statements as libpg_query's JSON has them. Raises Refused with Postgres's own words on a syntax error."""
    result = lib.pg_query_parse(sql)
    try:
        if result.error:
            error = result.error.contents
            message = error.message.decode(errors="replace")
            raise Refused("syntax", message, "", error.cursorpos - 1 if error.cursorpos > 0 else None)
        try:
            parsed: list[Any] = _decode(result.parse_tree).get("stmts", [])
        except (RecursionError, msgspec.DecodeError):
            raise Refused("limit.nesting", "the statement is nested too deep") from None
        return parsed
    finally:
        lib.pg_query_free_parse_result(result)


def statements(sql: bytes) -> list[RawStatement]:
    """The statements of a text, in order."""
    found = []
    for raw in tree(sql):
        start = raw.get("stmt_location", 0)
        length = raw.get("stmt_len", 0)
        ((kind, node),) = raw["stmt"].items()
        found.append(RawStatement(kind, node, start, start + length if length else len(sql)))
    return found


def normalize(sql: bytes) -> bytes | None:
    """The shape of a text: constants replaced by $n. None where there is none."""
    result = lib.pg_query_normalize(sql)
    try:
        return None if result.error else bytes(result.normalized_query)
    finally:
        lib.pg_query_free_normalize_result(result)


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal but for their locations: whether two texts have one meaning."""
    stack = [(one, other)]
    while stack:
        mine, yours = stack.pop()
        if type(mine) is not type(yours):
            return False
        if isinstance(mine, dict):
            if mine.keys() != yours.keys() and mine.keys() - _PLACES != yours.keys() - _PLACES:
                return False
            stack += [(value, yours[key]) for key, value in mine.items() if key not in _PLACES]
        elif isinstance(mine, list):
            if len(mine) != len(yours):
                return False
            stack += zip(mine, yours, strict=True)
        elif mine != yours:
            return False
    return True


def names(fields: list[Any]) -> tuple[str, ...]:
    """The words of a list of String nodes; `*` for A_Star."""
    return tuple(f["String"].get("sval", "") if "String" in f else "*" for f in fields)
