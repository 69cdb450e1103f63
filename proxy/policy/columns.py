"""The names of what a SELECT gives: enough to prove that `a.b` is a column and no hidden function call.

Postgres reads `a.b` as a call of the function b where a has no column b (manual, section 8.16.5 "Using Composite
Types in Queries"), and neither parser shows it. A name counts as proven only where a wrong guess cannot hide a call:
explicit aliases, plain column names, and names of calls that are judged themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.policy import oracle
from proxy.policy.oracle import Node

MAX_COLUMNS = 4096
"""More than any relation has (1,600); beyond it the names of nested stars are not kept."""

_FIXED = {
    "CoalesceExpr": "coalesce",
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "GroupingFunc": "grouping",
    "JsonObjectConstructor": "json_object",
    "JsonArrayConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonArrayAgg": "json_arrayagg",
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Column names in order; None for one whose name is not known. `exact`: the positions are certain."""

    names: tuple[str | None, ...] = ()
    exact: bool = True

    def renamed(self, aliases: tuple[str, ...]) -> Columns:
        """These columns under an alias list `t(a, b)`."""
        if not aliases:
            return self
        if not self.exact:
            return Columns(aliases, exact=False)
        return Columns((*aliases, *self.names[len(aliases) :]))

    def __add__(self, other: Columns) -> Columns:
        if len(self.names) + len(other.names) > MAX_COLUMNS:
            return UNKNOWN
        return Columns(self.names + other.names, self.exact and other.exact)


UNKNOWN = Columns(exact=False)


def name_of(value: Node) -> str | None:
    """The name that Postgres gives an unnamed output column, None where it is not certain."""
    ((kind, node),) = value.items()
    if kind == "ColumnRef":
        words = oracle.names(node["fields"])
        return None if words[-1] == "*" else words[-1]
    if kind == "FuncCall":
        return oracle.names(node["funcname"])[-1]
    if kind == "TypeCast":
        inner = node["arg"]
        if next(iter(inner)) in ("ColumnRef", "FuncCall"):
            return name_of(inner)
        return None
    if kind == "CollateClause":
        return name_of(node["arg"])
    return _FIXED.get(kind)


def alias_names(alias: Node | None) -> tuple[str, ...]:
    """The column aliases of an Alias node."""
    return oracle.names(alias.get("colnames", [])) if alias else ()


def peek(select: Node) -> Columns:
    """The columns of a select list without looking at its tables: for a recursive term that refers to itself."""
    while select.get("op", "SETOP_NONE") != "SETOP_NONE":
        select = select["larg"]
    if "valuesLists" in select:
        return values(select)
    names: list[str | None] = []
    for item in select.get("targetList", []):
        target = item["ResTarget"]
        if is_star(target["val"]):
            return UNKNOWN
        names.append(target.get("name") or name_of(target["val"]))
    return Columns(tuple(names))


def values(select: Node) -> Columns:
    """The columns of a VALUES list: column1, column2, …"""
    first: list[Any] = select["valuesLists"][0]["List"].get("items", [])
    return Columns(tuple(f"column{i}" for i in range(1, len(first) + 1)))


def is_star(value: Node) -> bool:
    """Whether a select-list entry is `*`, `t.*` or `(expression).*`: any number of columns."""
    ((kind, node),) = value.items()
    if kind == "ColumnRef":
        return "A_Star" in node["fields"][-1]
    return kind == "A_Indirection" and "A_Star" in node["indirection"][-1]
