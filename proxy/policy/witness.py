"""What each of the two parsers sees in a text, side by side, for `policy explain`. Judges nothing."""

from __future__ import annotations

from typing import Any

from proxy.policy import facts, oracle
from proxy.policy.refusal import Refused

Seen = dict[str, list[str]]


def seen(sql: bytes) -> list[dict[str, Seen]]:
    """For each statement: what Postgres's grammar and what sqlglot finds. `error` stands where one cannot read it."""
    try:
        statements = oracle.statements(sql)
    except Refused as refused:
        return [{"postgres": {"error": [refused.reason]}, "sqlglot": _sqlglot(sql.decode(errors="replace"))}]
    return [
        {"postgres": _postgres(raw), "sqlglot": _sqlglot(sql[raw.start : raw.end].decode(errors="replace"))}
        for raw in statements
    ]


def _sqlglot(text: str) -> Seen:
    try:
        found = facts.read(text)
    except Refused as refused:
        return {"error": [refused.hint or refused.reason]}
    return {
        "tables": sorted(".".join(words) for words in found.tables),
        "functions": sorted(found.functions),
        "names": sorted(found.identifiers),
        "strings": sorted(found.strings.elements()),
    }


def _postgres(raw: oracle.RawStatement) -> Seen:
    tables: set[str] = set()
    functions: set[str] = set()
    names: set[str] = set()
    strings: list[str] = []
    stack: list[Any] = [{raw.kind: raw.node}]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            if "relname" in node:
                tables.add(".".join(node[k] for k in ("catalogname", "schemaname", "relname") if k in node))
            if "funcname" in node:
                functions.add(".".join(oracle.names(node["funcname"])))
            if "fields" in node:
                names.update(oracle.names(node["fields"]))
            if "sval" in node and isinstance(node["sval"], dict):
                strings.append(str(node["sval"].get("sval", "")))
            stack += node.values()
    return {
        "tables": sorted(tables),
        "functions": sorted(functions),
        "names": sorted(names),
        "strings": sorted(strings),
    }
