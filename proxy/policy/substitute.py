"""Substitution: every name of a restricted table gives way, in the text itself, to a relation that holds what is shown.

Works on the bytes that the client sent, at the spans that Postgres's grammar gives, and edits the parse tree alongside;
the edited text is parsed again and must equal the edited tree, so a slip of the pen is a refusal and never a leak. What
cannot be substituted faithfully is refused with a hint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from proxy.policy import oracle
from proxy.policy.bind import Shown
from proxy.policy.builtins import quote
from proxy.policy.entries import Query, Reference, Rel
from proxy.policy.oracle import Node
from proxy.policy.refusal import Refused
from proxy.policy.scope import Walk

_WORD = rb'(?:"(?:[^"]|"")*"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)'
_GAP = rb"(?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r]|/\*.*?\*/)*"
NAMES = {n: re.compile(_GAP.join([_WORD] + [rb"\.", _WORD] * (n - 1)), re.S) for n in (1, 2, 3)}
_PREFIXES = {n: re.compile(_GAP.join([_WORD, rb"\.", rb""] * n), re.S) for n in (1, 2)}
_COLUMN_LIST = re.compile(
    _GAP + rb"\(" + _GAP + _WORD + rb"(?:" + _GAP + rb"," + _GAP + _WORD + rb")*" + _GAP + rb"\)", re.S
)
_GROUP_BY = re.compile(rb"group[ \t\n\r\f\v]+by[ \t\n\r\f\v]+\Z", re.I)
_USED_IN = ("targetList", "havingClause", "sortClause", "windowClause", "distinctClause")


@dataclass(frozen=True, slots=True)
class Edit:
    """`text[start:end]` becomes `new`; byte offsets into the client's text."""

    start: int
    end: int
    new: bytes


def edits_for(sql: bytes, walk: Walk) -> list[Edit]:
    """The edits that one walked statement needs, made in its tree as well. Empty when nothing in it is restricted."""
    restricted = [r for r in walk.references if r.shown.substitute]
    if not restricted:
        return []
    edits = [_group_by(sql, query, rel) for query in walk.queries for rel in query.rels if _loses_key(query, rel)]
    edits += [edit for ref in walk.column_refs if (edit := _unqualified(sql, ref, restricted))]
    # psql's comment queries ask catalogs for their tableoid.
    asked = any(oracle.names(ref["fields"])[-1] == "tableoid" for ref in walk.column_refs)
    edits += [_replaced(sql, reference, system_column=asked) for reference in restricted]
    return edits


def apply(sql: bytes, edits: list[Edit]) -> bytes:
    """The text after the edits."""
    out, at = [], 0
    for edit in sorted(edits, key=lambda e: e.start):
        if edit.start < at:
            raise Refused("substitute", "the statement cannot be rewritten faithfully", "", edit.start)
        out += [sql[at : edit.start], edit.new]
        at = edit.end
    return b"".join([*out, sql[at:]])


def verify(forward: bytes, edited: list[Node]) -> None:
    """Raises Refused unless `forward` reads as exactly the edited trees."""
    try:
        again = [raw["stmt"] for raw in oracle.tree(forward)]
    except Refused:
        again = []
    if not oracle.same(again, edited):
        raise Refused(
            "substitute",
            "a table of which parts are hidden cannot be used in this form",
            "Use it as FROM schema.table AS alias, without TABLE, ONLY or *.",
        )


@lru_cache(maxsize=1024)
def _tree_of(substitute: str) -> Node:
    """A substitute's tree; shared, and never edited."""
    (inner,) = oracle.statements(substitute.encode())
    return inner.node


def _replaced(sql: bytes, reference: Reference, *, system_column: bool) -> Edit:
    shown, start = reference.shown, reference.location
    match = NAMES[len(reference.written)].match(sql, start)
    if match is None or shown.substitute is None:
        raise Refused("substitute", "the table's name cannot be found in the text", "", start)
    node = reference.holder[reference.key]["RangeVar"]
    alias = "" if reference.alias is not None else f" AS {quote(shown.relation.name)}"
    substitute = shown.substitute
    if shown.relation.schema == "pg_catalog" and shown.relation.kind == "r" and system_column:
        substitute = substitute.replace("SELECT ", "SELECT tableoid, ", 1)
    if shown.view is not None:
        schema, name = shown.view
        node = {k: v for k, v in node.items() if k != "catalogname"} | {"schemaname": schema, "relname": name}
        node.setdefault("alias", {"aliasname": shown.relation.name})
        reference.holder[reference.key] = {"RangeVar": node}
        return Edit(start, match.end(), f"{quote(schema)}.{quote(name)}{alias}".encode())
    replacement: Node = {
        "subquery": {"SelectStmt": _tree_of(substitute)},
        "alias": node.get("alias") or {"aliasname": shown.relation.name},
    }
    reference.holder[reference.key] = {"RangeSubselect": replacement}
    return Edit(start, match.end(), f"({substitute}){alias}".encode())


def copied(sql: bytes, relation: Node, columns: tuple[str, ...], shown: Shown) -> tuple[Edit, Node]:
    """What stands for `t (a, b)` in COPY t (a, b) TO, and its tree. Raises Refused where the text is not found."""
    start, words = relation.get("location", 0), len(relation.keys() & {"catalogname", "schemaname", "relname"})
    name = NAMES[words].match(sql, start)
    listed = _COLUMN_LIST.match(sql, name.end()) if name else None
    if listed is None:
        raise Refused("substitute", "the table's columns cannot be found in the text", "", start)
    source = ".".join(quote(w) for w in shown.view) if shown.view else f"({shown.substitute})"
    select = f"SELECT {', '.join(quote(c) for c in columns)} FROM {source} AS {quote(shown.relation.name)}"
    (inner,) = oracle.statements(select.encode())
    return Edit(start, listed.end(), f"({select})".encode()), {inner.kind: inner.node}


def _unqualified(sql: bytes, ref: Node, restricted: list[Reference]) -> Edit | None:
    """`app.customers.id` loses its schema: the substitute has none."""
    words = oracle.names(ref["fields"])
    if len(words) < 3:
        return None
    relation = words[-3], words[-2]
    if not any(r.alias is None and (r.shown.relation.schema, r.shown.relation.name) == relation for r in restricted):
        return None
    start, extra = ref.get("location", 0), len(words) - 2
    match = _PREFIXES[extra].match(sql, start) if extra in _PREFIXES else None
    if match is None:
        raise Refused("substitute", "the column's name cannot be found in the text", "", start)
    del ref["fields"][:extra]
    return Edit(start, match.end(), b"")


def _loses_key(query: Query, rel: Rel) -> bool:
    """Whether GROUP BY names the primary key of a substituted table, which then implies its other columns no more."""
    shown = rel.shown
    if (
        shown is None
        or shown.substitute is None
        or not shown.relation.primary_key
        or rel.columns.names != shown.columns
    ):
        return False
    items = query.node.get("groupClause", [])
    if any("GroupingSet" in item for item in items):
        return False
    return set(shown.relation.primary_key) <= _grouped(query, rel)


def _grouped(query: Query, rel: Rel) -> set[str]:
    found = set()
    for item in query.node.get("groupClause", []):
        number = item.get("A_Const", {}).get("ival", {}).get("ival")
        targets = query.node.get("targetList", [])
        if number is not None and 1 <= number <= len(targets):
            item = targets[number - 1]["ResTarget"]["val"]  # noqa: PLW2901
        elif "ColumnRef" in item and not _column_of(item["ColumnRef"], rel):
            words = oracle.names(item["ColumnRef"]["fields"])
            named = [t["ResTarget"] for t in targets if len(words) == 1 and t["ResTarget"].get("name") == words[0]]
            item = named[0]["val"] if named else item  # noqa: PLW2901
        if "ColumnRef" in item and (name := _column_of(item["ColumnRef"], rel)):
            found.add(name)
    return found


def _column_of(ref: Node, rel: Rel) -> str | None:
    """The column of `rel` that a reference can mean."""
    words = oracle.names(ref["fields"])
    if len(words) > 1 and words[-2] != rel.name:
        return None
    return words[-1] if words[-1] in rel.columns.names else None


def _group_by(sql: bytes, query: Query, rel: Rel) -> Edit:
    node = query.node
    used: list[str] = []
    for ref in _column_refs([node.get(name) for name in _USED_IN]):
        words = oracle.names(ref["fields"])
        if words[-1] == "*" and (len(words) == 1 or words[-2] == rel.name):
            used += [c for c in rel.columns.names if c]
        elif name := _column_of(ref, rel):
            used.append(name)
    grouped = _grouped(query, rel)
    missing = [c for c in dict.fromkeys(used) if c not in grouped]
    places = sorted(_places(node["groupClause"][0]))
    at = places[0] if places else 0
    if not missing:
        return Edit(at, at, b"")
    if _GROUP_BY.search(sql[:at]) is None:
        raise Refused(
            "substitute",
            "GROUP BY on the key of a table of which parts are hidden",
            "List the columns in GROUP BY.",
            at,
        )
    node["groupClause"][:0] = [
        {"ColumnRef": {"fields": [{"String": {"sval": rel.name}}, {"String": {"sval": c}}]}} for c in missing
    ]
    text = "".join(f"{quote(rel.name)}.{quote(c)}, " for c in missing)
    return Edit(at, at, text.encode())


def _column_refs(value: Any) -> list[Node]:
    if isinstance(value, list):
        return [ref for item in value for ref in _column_refs(item)]
    if isinstance(value, dict):
        return [ref for key, item in value.items() for ref in ([item] if key == "ColumnRef" else _column_refs(item))]
    return []


def _places(value: Any) -> list[int]:
    if isinstance(value, list):
        return [place for item in value for place in _places(item)]
    if isinstance(value, dict):
        mine = [value["location"]] if isinstance(value.get("location"), int) and value["location"] >= 0 else []
        return mine + [place for item in value.values() for place in _places(item)]
    return []
