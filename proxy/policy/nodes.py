"""The node types of Postgres's raw parse tree that the walk knows (PG 18 grammar, src/include/nodes/parsenodes.h).

An allow-list: what is on none of these lists and has no handler of its own in `scope` is a denial.
"""

from __future__ import annotations

from proxy.policy.oracle import Node

# Node types that hold nothing but other nodes to look at.
PLAIN = frozenset(
    """
A_ArrayExpr A_Indices BoolExpr BooleanTest CaseExpr CaseWhen CoalesceExpr GroupingFunc GroupingSet List MinMaxExpr
NamedArgExpr NullTest ResTarget RowExpr WindowDef XmlExpr XmlSerialize ColumnDef RangeTableFuncCol
JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFuncExpr
JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning JsonScalarExpr
JsonSerializeExpr JsonTableColumn JsonTablePathSpec JsonValueExpr CTECycleClause CTESearchClause
""".split()  # noqa: SIM905
)
LEAVES = frozenset(
    "A_Const A_Star BitString Boolean Float Integer JsonFormat ParamRef SQLValueFunction String".split()  # noqa: SIM905
)
# Fields whose node stands there without its type's name.
BARE = {
    "arg": "JsonValueExpr",
    "collClause": "CollateClause",
    "constructor": "JsonAggConstructor",
    "context_item": "JsonValueExpr",
    "expr": "JsonValueExpr",
    "format": "JsonFormat",
    "on_empty": "JsonBehavior",
    "on_error": "JsonBehavior",
    "output": "JsonOutput",
    "over": "WindowDef",
    "pathspec": "JsonTablePathSpec",
    "returning": "JsonReturning",
    "typeName": "TypeName",
    "val": "JsonValueExpr",
    "value": "JsonValueExpr",
}
SELECT_FIELDS = frozenset(
    """all distinctClause fromClause groupClause groupDistinct havingClause intoClause larg limitCount limitOffset
limitOption lockingClause op rarg sortClause targetList valuesLists whereClause windowClause withClause
groupByAll""".split()  # noqa: SIM905
)


def wrapped(value: Node) -> bool:
    """Whether a dict is a node under its type's name, `{"ColumnRef": {…}}`."""
    return len(value) == 1 and next(iter(value))[0].isupper() and isinstance(next(iter(value.values())), dict)
