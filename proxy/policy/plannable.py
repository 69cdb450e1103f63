"""Which queries a text would have Postgres plan, each as EXPLAIN takes it. Used for costs only, never for a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import postgast

_INNER = {"explain_stmt", "declare_cursor_stmt", "prepare_stmt", "copy_stmt"}


@dataclass(frozen=True, slots=True)
class Plannable:
    """One query in Postgres's own spelling; `parameters` is the highest $n in it."""

    sql: str
    parameters: int


def queries(forward: bytes) -> list[Plannable]:
    """The queries of a text that is about to be forwarded; EXPLAIN without ANALYZE runs nothing and is left out."""
    found = []
    for raw in postgast.parse(forward.decode()).stmts:
        query = _query(raw.stmt)
        if query is not None:
            result = postgast.pg_query_pb2.ParseResult()
            result.stmts.add().stmt.CopyFrom(query)
            numbers = (node.number for node in postgast.find_nodes(query, postgast.pg_query_pb2.ParamRef))
            found.append(Plannable(postgast.deparse(result), max(numbers, default=0)))
    return found


def _query(node: Any) -> Any | None:
    kind = node.WhichOneof("node")
    if kind == "select_stmt":
        return node
    if kind not in _INNER:
        return None
    inner = getattr(node, kind)
    if kind == "copy_stmt" and not inner.HasField("query"):
        star = postgast.parse("SELECT * FROM t").stmts[0].stmt
        star.select_stmt.from_clause[0].range_var.CopyFrom(inner.relation)
        return star
    if kind == "explain_stmt" and not any(option.def_elem.defname.lower() == "analyze" for option in inner.options):
        return None
    return inner.query if inner.query.WhichOneof("node") == "select_stmt" else None
