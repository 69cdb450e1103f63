"""Which columns of which tables, and which functions, a statement needs: what `suggest`, `backtest` and the record ask.

`Reading` is the guard's walk with a note of what every column reference can mean. It decides nothing about access.
Invariant: where a reference can mean several columns all of them are needed, so a policy cut to these facts keeps every
name that the statement uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.catalog import Catalog, Relation
from proxy.policy import oracle
from proxy.policy.bind import Bound
from proxy.policy.entries import Level, Rel
from proxy.policy.model import Functions, Policy, PolicyModel, Table
from proxy.policy.oracle import Node, RawStatement
from proxy.policy.refusal import Refused
from proxy.policy.scope import Ctes, Walk

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
EVERYTHING = "everything"
"""The file of the policy that `everything` makes; it has none."""
Key = tuple[str, str]
SYSTEM_SCHEMAS = ("pg_catalog", "information_schema")
MOST_COLUMNS = 256
"""More columns of one statement are recorded by their tables alone: a short text can mean very many."""


@dataclass
class Uses:
    """What a text needs. `named` are columns that it names, `all` those that it reads, with the ones behind `*`."""

    named: dict[Key, set[str]] = field(default_factory=dict)
    all: dict[Key, set[str]] = field(default_factory=dict)
    whole: set[Key] = field(default_factory=set)
    """Tables that only work unrestricted: their system columns are asked for."""
    functions: set[tuple[str, ...]] = field(default_factory=set)

    def add(self, other: Uses) -> None:
        """Both together."""
        for mine, theirs in ((self.named, other.named), (self.all, other.all)):
            for key, columns in theirs.items():
                mine.setdefault(key, set()).update(columns)
        self.whole |= other.whole
        self.functions |= other.functions


def uses(bound: Bound, sql: bytes) -> Uses | None:
    """What a text needs under a policy, None where it cannot be told (the guard refuses it, too)."""
    found = Uses()
    try:
        for raw in oracle.statements(sql):
            _statement(bound, raw, found)
    except (Refused, RecursionError, KeyError):
        return None
    return found


def everything(
    catalog: Catalog, search_path: tuple[str, ...], *, name: str = "everything", harmless: bool = False
) -> Policy:
    """A policy that shows every table: to see what a statement reads where none was in force.

    It allows every function; with `harmless` none that is volatile or runs with its owner's rights.
    """
    functions = {
        f"{f.schema}.{f.name}" for f in catalog.functions if f.schema.count(".") == 0 and f.name.count(".") == 0
    }
    if harmless:
        functions -= {f"{f.schema}.{f.name}" for f in catalog.functions if f.security_definer or f.volatility == "v"}
    model = PolicyModel(
        name=name,
        databases=["any"],
        search_path=list(search_path),
        tables={"*.*": Table(trusted=True)},
        functions=Functions(allow=sorted(functions)),
    )
    return Policy(model, model.model_dump_json(by_alias=True), EVERYTHING)


def _statement(bound: Bound, raw: RawStatement, found: Uses) -> None:
    node: Any = raw.node
    if raw.kind == "CopyStmt" and "relation" in node:
        shown = Walk(bound).names.relation(node["relation"])
        listed = set(oracle.names(node.get("attlist", [])))
        _add(found.all, shown.relation, listed or shown.columns)
        _add(found.named, shown.relation, listed)
        return
    select = node if raw.kind == "SelectStmt" else node.get("query", {}).get("SelectStmt")
    walk = Reading(bound)
    if select is not None:
        walk.select(select, {})
    elif raw.kind == "ExecuteStmt":
        walk.walk(node.get("params"), {})
    walk.conclude(found)


def _add(where: dict[Key, set[str]], relation: Relation, columns: tuple[str, ...] | set[str]) -> None:
    where.setdefault((relation.schema, relation.name), set()).update(columns)


class Reading(Walk):
    """The guard's walk, with a note of where each column reference stands."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refs: list[tuple[tuple[str, ...], Level, bool]] = []
        self._merged: list[tuple[list[Rel], set[str]]] = []

    def _column(self, node: Node) -> None:
        super()._column(node)
        self._refs.append((oracle.names(node["fields"]), self._level, self._level.in_from))

    def _indirection(self, node: Node, ctes: Ctes) -> None:
        super()._indirection(node, ctes)
        ((kind, inner),) = node["arg"].items()
        if kind == "ColumnRef" and "A_Star" not in node["indirection"][-1]:
            # `(t).column`: a whole row, of which one column is taken.
            words = oracle.names(inner["fields"])
            for step in node["indirection"]:
                if "String" in step:
                    self._refs.append(((*words, step["String"]["sval"]), self._level, True))

    def _join(self, node: Node, ctes: Ctes) -> Any:
        before = len(self._level.rels)
        given = super()._join(node, ctes)
        sides = self._level.rels[before:]
        if "usingClause" in node:
            self._merged.append((sides, set(oracle.names(node["usingClause"]))))
        elif node.get("isNatural"):
            names = [n for rel in sides for n in set(rel.columns.names) if n]
            self._merged.append((sides, {n for n in names if names.count(n) > 1}))
        return given

    def touched(self) -> tuple[str, ...]:
        """The columns for the record: `schema.table.column`, and `schema.table.*` where all that are shown are taken.
        Those of Postgres's own catalogs are left out."""
        if all(reference.shown.relation.schema in SYSTEM_SCHEMAS for reference in self.references):
            return ()
        found = Uses()
        self.conclude(found)
        names: list[str] = []
        for (schema, table), every in sorted(found.all.items()):
            if schema not in SYSTEM_SCHEMAS:
                named = found.named.get((schema, table), set())
                names += [f"{schema}.{table}.*"] if every - named else []
                names += [f"{schema}.{table}.{column}" for column in sorted(named)]
        if len(names) > MOST_COLUMNS:
            return tuple(
                f"{s}.{t}.*" for (s, t), every in sorted(found.all.items()) if every and s not in SYSTEM_SCHEMAS
            )
        return tuple(names)

    def conclude(self, found: Uses) -> None:
        """Turn the notes into facts."""
        found.functions.update(self.functions)
        for reference in self.references:
            relation = reference.shown.relation
            _add(found.all, relation, set())
            _add(found.named, relation, set())
        for rel in self.rels:
            # An alias list renames by position, so no column may go away.
            if rel.shown is not None and rel.columns.names != rel.shown.columns:
                self._take(rel, None, found, named=True)
        for sides, names in self._merged:
            for rel in sides:
                for name in names:
                    self._take(rel, name, found, named=True)
        for words, level, in_from in self._refs:
            self._reference(words, level, in_from, found)

    def _reference(self, words: tuple[str, ...], level: Level, in_from: bool, found: Uses) -> None:
        if words[-1] == "*":
            for rel in self._named(words[-2], level) if len(words) > 1 else level.rels:
                self._take(rel, None, found, named=False)
            return
        if len(words) > 1:
            for rel in self._named(words[-2], level):
                self._take(rel, words[-1], found, named=True)
            if len(words) == 2:
                self._unqualified(words[0], level, found, whole_rows=False)  # a column of a composite type
            return
        self._unqualified(words[0], level, found, whole_rows=True)

    def _unqualified(self, name: str, level: Level, found: Uses, *, whole_rows: bool) -> None:
        """A word is a column of the nearest query that has it, else a table's whole row."""
        at: Level | None = level
        while at is not None:
            having = [rel for rel in at.rels if name in rel.columns.names or name in SYSTEM_COLUMNS]
            for rel in having:
                self._take(rel, name, found, named=True)
            if any(rel.columns.exact and name in rel.columns.names for rel in having) and not at.in_from:
                return
            at = at.outer
        if whole_rows:
            for rel in self._named(name, level):
                self._take(rel, None, found, named=False)

    @staticmethod
    def _named(name: str, level: Level) -> list[Rel]:
        """Every entry that the name can mean here or further out; what stands behind a join's alias as well."""
        rels: list[Rel] = []
        at: Level | None = level
        while at is not None:
            same = [rel for rel in at.rels if rel.name == name]
            rels += same
            if any(rel.shown is None for rel in same):
                rels += [rel for rel in at.rels if rel.hidden]
            at = at.outer
        return rels

    @staticmethod
    def _take(rel: Rel, name: str | None, found: Uses, *, named: bool) -> None:
        """One column of an entry, or all."""
        if rel.shown is None:
            return
        relation = rel.shown.relation
        if name in SYSTEM_COLUMNS and name not in rel.shown.columns:
            found.whole.add((relation.schema, relation.name))
            return
        columns = set(rel.shown.columns) if name is None else {name} & set(rel.shown.columns)
        if name is not None and not columns and name not in rel.columns.names and rel.hidden:
            columns = set(rel.shown.columns)  # renamed by a join's alias
        _add(found.all, relation, columns)
        if named:
            _add(found.named, relation, columns)
