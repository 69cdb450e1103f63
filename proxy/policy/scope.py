"""The walk over Postgres's own tree: the tables, columns, functions, types and operators of a query, exactly scoped.

Takes the JSON tree of one SELECT (libpg_query) and a policy bound to a catalog; collects the facts and raises Refused
at the first thing that the policy does not give or that this walk does not know. Every node type is on a list; an
unknown one is a denial. Invariant: a name that Postgres could read in two ways is taken in the worse one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.policy import builtins, columns, oracle
from proxy.policy.bind import Bound, Shown
from proxy.policy.caps import FULL, Caps
from proxy.policy.columns import Columns
from proxy.policy.entries import Level, Query, Reference, Rel, owners
from proxy.policy.names import Names
from proxy.policy.nodes import BARE, LEAVES, PLAIN, SELECT_FIELDS, wrapped
from proxy.policy.oracle import Node
from proxy.policy.refusal import Refused

Ctes = Mapping[str, Columns]

_LIMIT_FIELDS = ("sortClause", "limitOffset", "limitCount")


@dataclass
class Walk:
    """One statement's walk. After `select` and `finish` its lists hold the facts."""

    bound: Bound
    caps: Caps = FULL
    references: list[Reference] = field(default_factory=list)
    rels: list[Rel] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    column_refs: list[Node] = field(default_factory=list)
    functions: list[tuple[str, ...]] = field(default_factory=list)
    calls: list[Node] = field(default_factory=list)
    stars: list[str | None] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)
    _unread: set[int] = field(default_factory=set)
    _count: int = 0
    _level: Level = field(default_factory=lambda: Level(None))
    _later: list[tuple[Node, tuple[str, ...], Level, bool]] = field(default_factory=list)
    _casts: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = Names(self.bound)

    # -- queries -----------------------------------------------------------------------------------------------------

    def select(self, node: Node, ctes: Ctes) -> Columns:
        """One SELECT, VALUES or set operation. Returns the columns it gives."""
        self._count += 1
        if self._count > self.caps.parts:
            raise _too_many(self.caps)
        self._level = Level(self._level)
        try:
            return self._select(node, ctes)
        finally:
            self._level = self._level.outer or self._level

    def _select(self, node: Node, ctes: Ctes) -> Columns:
        unknown = set(node) - SELECT_FIELDS
        if unknown:
            raise Refused("parser", f"this form of SELECT ({sorted(unknown)[0]}) is not judged")
        if "intoClause" in node:
            raise Refused("write", "SELECT INTO makes a table", "Leave INTO out.")
        if "lockingClause" in node:
            raise Refused("write", "FOR UPDATE and FOR SHARE lock rows", "Leave the locking clause out.")
        if "withClause" in node:
            ctes = self._with(node["withClause"], ctes)
        if node.get("op", "SETOP_NONE") != "SETOP_NONE":
            found = self.select(node["larg"], ctes)
            self.select(node["rarg"], ctes)
            for name in _LIMIT_FIELDS:
                self.walk(node.get(name), ctes)
            return found
        if "valuesLists" in node:
            self.walk(node["valuesLists"], ctes)
            for name in _LIMIT_FIELDS:
                self.walk(node.get(name), ctes)
            return columns.values(node)
        given = Columns()
        from_list = node.get("fromClause", [])
        for index in range(len(from_list)):
            given = given + self._from(from_list, index, ctes)
        rels = self._level.rels
        self._level.in_from = False
        self.queries.append(Query(node, rels))
        for name in (
            "targetList",
            "whereClause",
            "groupClause",
            "havingClause",
            "windowClause",
            "distinctClause",
            *_LIMIT_FIELDS,
        ):
            self.walk(node.get(name), ctes)
        return self._output(node, rels, given)

    def _output(self, node: Node, rels: list[Rel], given: Columns) -> Columns:
        names: list[str | None] = []
        exact = True
        for item in node.get("targetList", []):
            target = item["ResTarget"]
            value = target["val"]
            if not columns.is_star(value):
                names.append(target.get("name") or columns.name_of(value))
                continue
            fields = oracle.names(value["ColumnRef"]["fields"]) if "ColumnRef" in value else ()
            found = columns.UNKNOWN
            if len(fields) == 1:
                found = given
            elif len(fields) > 1:
                same = [r for r in rels if r.name == fields[-2] and not r.hidden and r.is_table(fields[-3:-2])]
                found = same[0].columns if len(same) == 1 else columns.UNKNOWN
            names += found.names
            exact &= found.exact
            if len(names) > columns.MAX_COLUMNS:
                return columns.UNKNOWN
        return Columns(tuple(names), exact)

    def _with(self, clause: Node, ctes: Ctes) -> Ctes:
        scope = dict(ctes)
        items = [item["CommonTableExpr"] for item in clause["ctes"]]
        for cte in items:
            if next(iter(cte["ctequery"])) != "SelectStmt":
                raise Refused("write", "a WITH query writes", "Only SELECT may stand in WITH.", cte.get("location"))
            if clause.get("recursive"):
                scope[cte["ctename"]] = columns.peek(cte["ctequery"]["SelectStmt"]).renamed(self._cte_names(cte))
        for cte in items:
            given = self.select(cte["ctequery"]["SelectStmt"], scope).renamed(self._cte_names(cte))
            extra = [cte[k] for k in ("search_clause", "cycle_clause") if k in cte]
            for clause_name in ("search_clause", "cycle_clause"):
                for value in cte.get(clause_name, {}).values():
                    self.walk(value if not isinstance(value, dict) or wrapped(value) else None, scope)
            scope[cte["ctename"]] = Columns(given.names, exact=False) if extra else given
        return scope

    @staticmethod
    def _cte_names(cte: Node) -> tuple[str, ...]:
        return oracle.names(cte.get("aliascolnames", []))

    # -- FROM --------------------------------------------------------------------------------------------------------

    def _from(self, holder: Any, key: Any, ctes: Ctes) -> Columns:
        ((kind, node),) = holder[key].items()
        if kind == "RangeVar":
            return self._relation(holder, key, node, ctes)
        if kind == "RangeSubselect":
            given = self.select(node["subquery"]["SelectStmt"], ctes)
            return self._entry(node.get("alias"), given)
        if kind == "JoinExpr":
            return self._join(node, ctes)
        if kind == "RangeFunction":
            return self._range_function(node, ctes)
        if kind == "RangeTableSample":
            before = len(self.references)
            given = self._from(node, "relation", ctes)
            sampled = self.references[before:]
            if any(r.shown.substitute for r in sampled):
                raise Refused(
                    "substitute", f"TABLESAMPLE cannot be used on {sampled[0].shown.relation.qualified}",
                    "Parts of it are hidden; use WHERE random() < 0.1.", node.get("location"),
                )  # fmt: skip
            self.names.function(node["method"], None, allow=("bernoulli", "system"))
            self.walk(node.get("args"), ctes)
            self.walk(node.get("repeatable"), ctes)
            return given
        if kind in ("RangeTableFunc", "JsonTable"):
            self.names.newer_syntax(kind, node.get("location"))
            return self._table_function(node, ctes)
        raise Refused("parser", f"{kind} in FROM is not judged", "", node.get("location"))

    def _entry(self, alias: Node | None, given: Columns, shown: Shown | None = None) -> Columns:
        renamed = given.renamed(columns.alias_names(alias))
        name = alias["aliasname"] if alias else shown.relation.name if shown else ""
        self._add(Rel(name, renamed, shown))
        return renamed

    def _add(self, rel: Rel) -> None:
        if len(self.rels) >= self.caps.parts:
            raise _too_many(self.caps)
        self.rels.append(rel)
        self._level.rels.append(rel)

    def _relation(self, holder: Any, key: Any, node: Node, ctes: Ctes) -> Columns:
        alias = node.get("alias")
        name, schema = node["relname"], node.get("schemaname")
        if schema is None and "catalogname" not in node and name in ctes:
            given = ctes[name].renamed(columns.alias_names(alias))
            self._add(Rel(alias["aliasname"] if alias else name, given))
            return given
        shown = self.names.relation(node)
        self.references.append(
            Reference(
                shown,
                holder,
                key,
                node.get("location", 0),
                alias["aliasname"] if alias else None,
                tuple(node[k] for k in ("catalogname", "schemaname", "relname") if k in node),
            )
        )
        return self._entry(alias, Columns(shown.columns), shown)

    def _join(self, node: Node, ctes: Ctes) -> Columns:
        before = len(self._level.rels)
        left = self._from(node, "larg", ctes)
        right = self._from(node, "rarg", ctes)
        merged = node.get("isNatural") or "usingClause" in node
        if merged:
            self.bound.check_operator(("=",), None)
        # What stands on the two sides is visible to ON, before anything further out.
        here = self._level
        self._level = Level(here, here.rels[before:], in_from=False)
        self.walk(node.get("quals"), ctes)
        self._level = here
        given = left + right
        if merged:
            given = Columns(given.names, exact=False)
        using = node.get("join_using_alias")
        if using:
            self._add(Rel(using["aliasname"], Columns(oracle.names(node["usingClause"]))))
        alias = node.get("alias")
        if alias:
            here.rels[before:] = [dataclasses.replace(rel, hidden=True) for rel in here.rels[before:]]
            given = given.renamed(columns.alias_names(alias))
            self._add(Rel(alias["aliasname"], given))
        return given

    def _range_function(self, node: Node, ctes: Ctes) -> Columns:
        alias = node.get("alias")
        names: list[str] = []
        for item in node["functions"]:
            call, definition = item["List"]["items"]
            self.walk(call, ctes)
            for column in definition.get("List", {}).get("items", []):
                names.append(column["ColumnDef"]["colname"])
                self.walk(column, ctes)
        for column in node.get("coldeflist", []):
            names.append(column["ColumnDef"]["colname"])
            self.walk(column, ctes)
        if names and not node.get("ordinality") and len(node["functions"]) == 1:
            given = Columns(tuple(names))
        else:
            given = columns.UNKNOWN
        return self._entry(alias, given)

    def _table_function(self, node: Node, ctes: Ctes) -> Columns:
        for name, value in node.items():
            if name in ("alias", "location", "lateral"):
                continue
            self.walk(value if not isinstance(value, dict) or wrapped(value) else {BARE[name]: value}, ctes)
        return self._entry(node.get("alias"), columns.UNKNOWN)

    # -- expressions -------------------------------------------------------------------------------------------------

    def walk(self, value: Any, ctes: Ctes) -> None:
        """Any part of an expression."""
        if isinstance(value, list):
            for item in value:
                self.walk(item, ctes)
        elif isinstance(value, dict) and value:
            if not wrapped(value):
                raise Refused("parser", f"a part of the statement ({next(iter(value))}) is not judged")
            ((kind, node),) = value.items()
            self._node(kind, node, ctes)

    def _fields(self, node: Node, ctes: Ctes, skip: tuple[str, ...] = ()) -> None:
        for name, value in node.items():
            if name in skip or not isinstance(value, (dict, list)):
                continue
            if isinstance(value, dict) and value and not wrapped(value):
                bare = BARE.get(name)
                if bare is None:
                    raise Refused("parser", f"a part of the statement ({name}) is not judged")
                self._node(bare, value, ctes)
            else:
                self.walk(value, ctes)

    def _node(self, kind: str, node: Node, ctes: Ctes) -> None:
        if kind in LEAVES:
            if kind == "A_Const" and "sval" in node:
                self.strings.append(node["sval"].get("sval", ""))
            return
        if kind == "ColumnRef":
            self._column(node)
        elif kind == "FuncCall":
            self._call(node, ctes)
        elif kind == "A_Expr":
            self.names.operator(node)
            self._fields(node, ctes, ("name",))
        elif kind == "TypeCast":
            self.names.cast(node)
            self._casts.append(node)
            self._fields(node, ctes)
        elif kind == "TypeName":
            self.names.type(node)
            self.walk(node.get("typmods"), ctes)
        elif kind == "CollateClause":
            self.names.collation(node)
            self.walk(node.get("arg"), ctes)
        elif kind == "A_Indirection":
            self._indirection(node, ctes)
        elif kind == "SubLink":
            if "operName" in node:
                self.bound.check_operator(oracle.names(node["operName"]), node.get("location"))
            elif node.get("subLinkType") == "ANY_SUBLINK":
                self.bound.check_operator(("=",), node.get("location"))
            self.walk(node.get("testexpr"), ctes)
            if node.get("subLinkType") == "EXISTS_SUBLINK":  # EXISTS (SELECT * …) reads no column
                targets = node["subselect"]["SelectStmt"].get("targetList", [])
                self._unread |= {id(target["ResTarget"]["val"].get("ColumnRef")) for target in targets}
            self.select(node["subselect"]["SelectStmt"], ctes)
        elif kind == "SelectStmt":
            self.select(node, ctes)
        elif kind == "SortBy":
            if "useOp" in node:
                self.bound.check_operator(oracle.names(node["useOp"]), node.get("location"))
            self.walk(node.get("node"), ctes)
        elif kind == "CaseExpr" and "arg" in node:
            self.bound.check_operator(("=",), node.get("location"))
            self._fields(node, ctes)
        elif kind in PLAIN:
            if kind.startswith("Json"):
                self.names.newer_syntax(kind, node.get("location"))
            self._fields(node, ctes)
        else:
            raise Refused("parser", f"{kind} is not judged", "", node.get("location"))

    def _column(self, node: Node) -> None:
        words = oracle.names(node["fields"])
        self.column_refs.append(node)
        if words[-1] == "*":
            if id(node) not in self._unread:
                self.stars.append(words[-2] if len(words) > 1 else None)
            return
        if len(words) > 1:
            self._later.append((node, words, self._level, self._level.in_from))

    def _indirection(self, node: Node, ctes: Ctes) -> None:
        # No owner is looked for: `(b).f` is a field of the column b before it is one of a relation b.
        self.walk(node["arg"], ctes)
        for step in node["indirection"]:
            if "String" in step:
                field_of = {"location": _place(node["arg"])}
                self._later.append((field_of, (step["String"]["sval"],), self._level, True))
            elif "A_Indices" in step:
                self.walk(step, ctes)

    def _call(self, node: Node, ctes: Ctes) -> None:
        words = oracle.names(node["funcname"])
        self.functions.append(words)
        self.calls.append(node)
        self._fields(node, ctes, ("funcname",))

    # -- what needs the whole statement --------------------------------------------------------------------------------

    def finish(self) -> None:
        """The checks that need every FROM entry of the statement. Raises Refused."""
        for node, words, level, in_from in self._later:
            self._prove_column(node, words, level, in_from)
        known = self._column_types()
        for call in self.calls:
            self.names.call(call, known)
        for cast in self._casts:
            self.names.user_cast(cast, known)
        self._refuse_absent()
        for star in self.stars:
            for rel in self.rels:
                if rel.shown and rel.shown.absent and star in (None, rel.name):
                    raise Refused(
                        "catalog", f"* on {rel.shown.relation.qualified} would show code", "Name the columns you need."
                    )

    def _refuse_absent(self) -> None:
        """Columns of a catalog that are not there get our words: Postgres would call it an error of the query."""
        absent = [(rel, rel.shown) for rel in self.rels if rel.shown and rel.shown.absent]
        for ref in self.column_refs if absent else ():
            words = oracle.names(ref["fields"])
            for rel, shown in absent:
                if (
                    words[-1] in shown.absent
                    and words[-2:-1] in ((), (rel.name,))
                    and not any(words[-1] in r.columns.names for r in self.rels)
                ):
                    what = f"{shown.relation.name}.{words[-1]} is not shown: it holds code or tells about hidden data"
                    hint = builtins.ABSENT_HINTS.get(words[-1], "Name the columns you need.")
                    raise Refused("catalog", what, hint, ref.get("location"))

    def _prove_column(self, node: Node, words: tuple[str, ...], level: Level, in_from: bool) -> None:
        """`a.b` may stand only where b cannot be a function: a proven column of every a, or no function's name."""
        # A table's qualified name passes over subqueries and aliases of the same name.
        found = owners(words[-2], level, in_from or len(words) > 2) if len(words) > 1 else []
        if found and all(words[-1] in r.columns.names for r in found):
            return
        catalog = self.bound.catalog
        if (
            words[-1] in catalog.builtin_functions
            or words[-1] in catalog.functions_by_name
            or words[-1] in catalog.type_names
        ):
            raise Refused(
                "function",
                f"{words[-1]} is not known as a column here, and Postgres would run the function or type {words[-1]}",
                "Write the column with its table's alias, or the call as name(argument).",
                node.get("location"),
            )

    def _column_types(self) -> dict[str, str | None]:
        """Type by column name where every FROM entry of the statement that has the name agrees on it, else None."""
        types: dict[str, str | None] = {}
        for rel in self.rels:
            if not rel.columns.exact or any(n is None for n in rel.columns.names):
                return {}
            plain = rel.shown is not None and rel.columns.names == rel.shown.columns
            for name in rel.columns.names:
                if name is None:
                    continue
                mine = rel.shown.types.get(name) if plain and rel.shown else None
                types[name] = mine if types.get(name, mine) == mine else None
        # A word that is also a table's name is that table's whole row where no column of the name is in sight.
        return types | dict.fromkeys((rel.name for rel in self.rels), None)


def _too_many(caps: Caps) -> Refused:
    return Refused("limit.nesting", f"the statement has more than {caps.parts} tables or subqueries", "Split it.")


def _place(node: Node) -> int | None:
    ((_, inner),) = node.items()
    place: int | None = inner.get("location")
    return place
