"""Functions that answer for some arguments only: sizes of what is shown whole, settings that SHOW tells, shown views.

A constant argument is judged by itself. A column or parameter is narrowed in the text, `pg_table_size(c.oid)` to
`pg_table_size((CASE WHEN c.oid … = ANY ('{…}') THEN c.oid END))`: all other rows get NULL, as these functions answer
NULL for NULL. Any other argument is refused. The edited text is parsed again and compared like every substitution.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from proxy.policy import builtins, names, oracle
from proxy.policy.bind import Bound, Shown
from proxy.policy.oracle import Node
from proxy.policy.refusal import Refused
from proxy.policy.scope import Walk
from proxy.policy.substitute import NAMES, Edit

_PARAMETER = re.compile(rb"\$\d+")
_OID = re.compile(rb"'\d+'|\d+")
_RULE = re.compile(
    rb"(?:pg_catalog\s*\.\s*)?pg_get_ruledef\s*\(\s*(?P<argument>%s)\s*(?:,\s*(?:true|false)\s*)?\)"
    % rb"|".join(NAMES[n].pattern for n in (2, 1)),
    re.I | re.S,
)
_PLAIN_TYPES = frozenset({"regclass", "oid", "text", "varchar"})


def check(bound: Bound, node: Node) -> None:
    """Raises Refused unless this call of a LIMITED function is harmless, or will be once `edits_for` narrowed it."""
    name, location = oracle.names(node["funcname"])[-1], node.get("location")
    what = builtins.LIMITED[name]
    arguments = node.get("args", [])
    reason, hint = builtins.LIMITED_WORDS[what]
    refused = Refused(
        "setting" if what == "settings" else "function", reason.format(name=name), hint.format(name=name), location
    )
    if not arguments or node.get("func_variadic"):
        raise refused
    if what == "privileges":
        _check_privilege(bound, name, arguments, refused)
        return
    if _open(arguments, what) is not None:
        return
    value = _plain_constant(arguments[0])
    if what == "settings":
        if not isinstance(value, str) or builtins.setting(value) not in builtins.READABLE_SETTINGS:
            raise refused
        return
    shown = _relation(bound, value)
    if shown is None:
        raise refused
    if (what == "sizes" and _sized(shown)) or (what == "definitions" and _defined(bound, shown)):
        return
    raise refused


def edits_for(sql: bytes, walk: Walk) -> list[Edit]:
    """The edits that narrow what stands in the calls of a walked statement; they are made in its tree as well.

    Raises Refused where a call cannot be narrowed.
    """
    edits = []
    for node in walk.calls:
        words = oracle.names(node["funcname"])
        what = builtins.LIMITED.get(words[-1]) if words[:-1] in ((), ("pg_catalog",)) else None
        if what is None:
            continue
        check(walk.bound, node)
        found = _open(node["args"], what) if what != "privileges" else None
        if found is not None and what == "rules":
            edits.append(_unruled(sql, node, *found))
        elif found is not None:
            edits.append(_narrowed(sql, walk.bound, what, *found))
    return edits


def _check_privilege(bound: Bound, name: str, arguments: list[Any], refused: Refused) -> None:
    """A name that is written down must be one that can be read; anything else tells no more than pg_class.relacl."""
    at = len(arguments) - (3 if name == "has_column_privilege" else 2)
    if at not in (0, 1):
        raise refused
    node = arguments[at]
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    if "A_Const" in node and _relation(bound, _plain_constant(node)) is None:
        raise refused


def _open(arguments: list[Any], what: str) -> tuple[Any, Any] | None:
    """Where in the first argument, under casts, stands what can be narrowed: (holder, key). None where nothing can.

    That is a column or parameter; for definitions an oid, which psql asks for every view that a pattern matches.
    """
    holder: Any = arguments
    key: Any = 0
    while "TypeCast" in holder[key]:
        holder, key = holder[key]["TypeCast"], "arg"
    node = holder[key]
    if what == "definitions":
        value = _plain_constant(node)
        return (holder, key) if isinstance(value, int) or (value or "").isdigit() else None
    if "ParamRef" in node and node["ParamRef"].get("number"):
        return holder, key
    if "ColumnRef" in node:
        words = oracle.names(node["ColumnRef"]["fields"])
        return (holder, key) if words[-1] != "*" and len(words) <= 2 else None
    return None


def _unruled(sql: bytes, node: Node, holder: Any, key: Any) -> Edit:
    """`pg_get_ruledef(r.oid, true)` becomes words of the form that psql cuts its first twelve characters from."""
    argument = holder[key].get("ColumnRef", {})
    start, at = node.get("location", 0), argument.get("location", 0)
    match = _RULE.match(sql, start)
    if not argument or match is None or match.start("argument") != at:
        raise Refused("function", "the code of rules is not shown", "pg_rewrite lists their names.", start)
    new = "pg_catalog.concat('CREATE RULE (not shown)')"
    node.clear()
    node.update(_tree_of(new)["FuncCall"])
    return Edit(start, match.end(), new.encode())


def _narrowed(sql: bytes, bound: Bound, what: str, holder: Any, key: Any) -> Edit:
    ((kind, inner),) = holder[key].items()
    start = inner.get("location", 0)
    pattern = NAMES[len(inner["fields"])] if kind == "ColumnRef" else _PARAMETER if kind == "ParamRef" else _OID
    match = pattern.match(sql, start)
    if match is None:
        raise Refused("substitute", "the argument cannot be found in the text", "", start)
    text = match.group().decode()
    condition = "false"
    if what == "definitions":
        shown = _relation(bound, _plain_constant(holder[key]))
        condition = "true" if shown is not None and _defined(bound, shown) else "false"
    elif what == "settings":
        names = ", ".join(f"'{name}'" for name in sorted(builtins.READABLE_SETTINGS))
        condition = f"pg_catalog.lower({text}) OPERATOR(pg_catalog.=) ANY (ARRAY[{names}])"
    elif what == "sizes":
        oids = ",".join(str(s.relation.oid) for s in bound.relations.values() if _sized(s))
        condition = (
            f"{text}::pg_catalog.regclass::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ('{{{oids}}}'::pg_catalog.oid[])"
        )
    new = f"(CASE WHEN {condition} THEN {text} END)"
    holder[key] = _tree_of(new)
    return Edit(start, match.end(), new.encode())


@lru_cache(maxsize=256)
def _tree_of(expression: str) -> Node:
    """An expression's tree; shared, and never edited."""
    (select,) = oracle.statements(f"SELECT {expression}".encode())
    tree: Node = select.node["targetList"][0]["ResTarget"]["val"]
    return tree


def _plain_constant(node: Node) -> str | int | None:
    """A constant, also under casts that leave a name as it is."""
    while "TypeCast" in node:
        type_name = node["TypeCast"]["typeName"]
        words = oracle.names(type_name.get("names", []))
        if words[-1] not in _PLAIN_TYPES or type_name.keys() & {"typmods", "arrayBounds"}:
            return None
        node = node["TypeCast"]["arg"]
    constant = node.get("A_Const", {})
    if "sval" in constant:
        text: str = constant["sval"].get("sval", "")
        return text
    if "ival" in constant:
        number: int = constant["ival"].get("ival", 0)
        return number
    return None


def _relation(bound: Bound, value: str | int | None) -> Shown | None:
    """What is shown of the relation that a constant means: an oid, or a name."""
    if isinstance(value, str) and not value.isdigit():
        words = names.oracle_identifier(value)
        found = bound.resolve(words[-2] if len(words) > 1 else None, words[-1]) if words else None
    else:
        relation = bound.catalog.by_oid.get(int(value or 0))
        found = (relation.schema, relation.name) if relation else None
    return bound.relations.get(found) if found else None


def _sized(shown: Shown) -> bool:
    """Whether a size tells nothing that reading the table would not: the table is shown whole."""
    return shown.substitute is None and shown.relation.kind in "rpm" and _ours(shown)


def _defined(bound: Bound, shown: Shown) -> bool:
    """Whether a view's definition names only what is shown whole."""
    entry = bound.entry(shown.relation)
    return (
        shown.relation.kind in "vm" and _ours(shown) and entry is not None and entry[1].whole and not entry[1].trusted
    )


def _ours(shown: Shown) -> bool:
    return shown.relation.schema not in ("pg_catalog", "information_schema")
