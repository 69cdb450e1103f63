"""A policy bound to a catalog: for each relation what of it is shown, for each name what it can mean.

The one place where a policy's patterns meet a database's real names. Everything is decided once, at binding, and read
by the walk of `scope`. Invariant: what is not found here is not shown.
"""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass, field

from proxy.catalog import Cast, Catalog, Function, Relation
from proxy.policy import builtins, masks, oracle
from proxy.policy.builtins import quote
from proxy.policy.model import Policy, SqlMask, Table
from proxy.policy.refusal import Refused

READABLE_KINDS = frozenset("rpvmf")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a policy shows of one relation. `substitute` is the SELECT that stands in for its name, None for all of it.

    `view` is where a view of that SELECT stands in a database with ephemeral roles: (schema, name).
    `unplanned`: EXPLAIN would tell of its row filter, of a mask and its key, or of the statistics under a mask.
    """

    relation: Relation
    columns: tuple[str, ...]
    types: dict[str, str]
    substitute: str | None = None
    view: tuple[str, str] | None = None
    unplanned: bool = False
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a policy that does not fit the catalog. `table` is the pattern it stands under, `key` any other."""

    table: str
    message: str
    severity: str = "error"
    key: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """Where it stands in the policy file."""
        return ("tables", self.table) if self.table else tuple(self.key.split("."))


@dataclass
class Bound:
    """See the module's text. `key` (hex) is the hash masks' key for this policy revision.

    `views` is the schema of this installation's views where roles are ephemeral. A view is named by its content, so
    that two revisions which show a table alike share it, and one which does not cannot.
    """

    policy: Policy
    catalog: Catalog
    key: str = ""
    views: str | None = None
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        path = [s for s in self.policy.search_path if s != "pg_catalog"]
        self.path: tuple[str, ...] = tuple(path)
        self.relations: dict[tuple[str, str], Shown] = {}
        self.refused: dict[tuple[str, str], str] = {}
        self.allowed_functions = {tuple(name.split(".", 1)) for name in self.policy.model.functions.allow}
        self.schemas = {pattern.split(".")[0] for pattern in self.policy.model.tables} | set(self.path)
        for relation in self.catalog.relations:
            if relation.schema.startswith("daypass_"):
                continue
            if relation.schema in ("pg_catalog", "information_schema"):
                self._bind_catalog(relation)
            elif relation.kind in READABLE_KINDS:
                found = self.entry(relation)
                if found:
                    self._bind(relation, *found)
        self._check_patterns()
        self._check_functions()

    # -- relations -------------------------------------------------------------------------------------------------

    def entry(self, relation: Relation) -> tuple[str, Table] | None:
        """The policy's entry for a relation, with the pattern it stands under."""
        return entry_for(self.policy.model.tables, relation.schema, relation.name)

    def _bind_catalog(self, relation: Relation) -> None:
        allowed = builtins.CATALOGS if relation.schema == "pg_catalog" else builtins.INFORMATION_SCHEMA
        if relation.name not in allowed:
            return
        types = dict(zip(relation.columns, relation.types, strict=True))
        hidden = builtins.CATALOG_HIDDEN.get(relation.name, {}) if relation.schema == "pg_catalog" else {}
        rows = builtins.CATALOG_ROWS.get(relation.qualified)
        if not hidden and rows is None:
            self.relations[relation.schema, relation.name] = Shown(relation, relation.columns, types)
            return
        columns = tuple(c for c in relation.columns if hidden.get(c, "") is not None)
        shown = ", ".join(f"{hidden[c]} AS {quote(c)}" if hidden.get(c) else quote(c) for c in columns)
        self.relations[relation.schema, relation.name] = Shown(
            relation,
            columns,
            types,
            f"SELECT {shown} FROM {relation.schema}.{quote(relation.name)}" + (f" WHERE {rows}" if rows else ""),
            absent=frozenset(relation.columns) - set(columns),
        )

    def _bind(self, relation: Relation, pattern: str, table: Table) -> None:
        problem = self._problem_of(relation, pattern, table)
        if problem:
            self.refused[relation.schema, relation.name] = problem
            self.problems.append(Problem(pattern, f"{relation.qualified}: {problem}"))
            return
        types = dict(zip(relation.columns, relation.types, strict=True))
        columns = tuple(
            c for c in relation.columns if (table.columns is None or c in table.columns) and c not in table.deny
        )
        if table.whole or (set(columns) == set(relation.columns) and not table.mask and table.rows is None):
            self.relations[relation.schema, relation.name] = Shown(relation, relation.columns, types)
            return
        parts = []
        for column in columns:
            mask = table.mask.get(column)
            if mask is None:
                parts.append(quote(column))
            elif isinstance(mask, SqlMask):
                sql = self._qualified(mask.sql, relation)
                parts.append(f"({sql})::{types[column]} AS {quote(column)}")
            else:
                parts.append(f"{masks.expression(mask, column, types[column], self.key)} AS {quote(column)}")
        source = f"{quote(relation.schema)}.{quote(relation.name)}"
        substitute = f"SELECT {', '.join(parts)} FROM {source}"
        view = None
        if table.rows is not None:
            substitute += f" WHERE {self._qualified(table.rows, relation)}"
        if self.views is not None:
            mark = hashlib.sha256(f"{relation.oid} {substitute}".encode()).hexdigest()[:16]
            view = self.views, f"{relation.name.encode()[:40].decode(errors='ignore')}_{mark}"
        elif table.rows is not None:
            # A fence: without it Postgres may run the vendor's conditions on rows that the filter hides.
            substitute += " OFFSET 0"
        self.relations[relation.schema, relation.name] = Shown(
            relation,
            columns,
            types,
            substitute,
            view,
            unplanned=table.rows is not None or bool(table.mask),
        )

    def _problem_of(self, relation: Relation, pattern: str, table: Table) -> str | None:
        """Why a relation cannot be shown as its entry says, None when it can."""
        exact = pattern == relation.qualified
        if exact:
            for column in [*(table.columns or ()), *table.deny, *table.mask]:
                if column not in relation.columns:
                    return f"there is no column {column}; the table has {', '.join(relation.columns)}"
        types = dict(zip(relation.columns, relation.types, strict=True))
        for column, mask in table.mask.items():
            if column in types and isinstance(mask, str) and not masks.fits(mask, types[column]):
                return (
                    f"mask {mask} cannot keep the type of {column} ({types[column]}); "
                    f"use one of {', '.join(masks.that_fit(types[column]))}, or {{sql: …}}"
                )
        if relation.kind == "f" and not table.trusted:
            return "a foreign table reads another server; mark it trusted: true to show it"
        if relation.kind in "vm" and not table.trusted:
            behind = self._behind(relation)
            if behind:
                return f"the view uses {behind}, which the policy does not give whole; mark it trusted: true to show it"
        stricter = self._stricter_parent(relation) if not exact else None
        if stricter:
            return f"it is a part of {stricter}, of which the policy shows less; name it by itself to show it"
        source = self._cast_source(relation)
        if source:
            return f"its column {source} is cast by a function that the policy does not allow"
        try:
            for sql in [table.rows, *(m.sql for m in table.mask.values() if isinstance(m, SqlMask))]:
                if sql is not None:
                    self._qualified(sql, relation)
        except Refused as refused:
            what = "not one SQL expression: " if refused.rule == "syntax" else ""
            return f"{what}{refused.reason}{'; ' + refused.hint if refused.hint else ''}"
        return None

    def _stricter_parent(self, relation: Relation) -> str | None:
        """The first table above a partition or inheritance child that has another entry, with less in it."""
        own = self.entry(relation)
        for oid in relation.parents:
            parent = self.catalog.by_oid.get(oid)
            if parent is None:
                continue
            found = self.entry(parent)
            if found is not None and not found[1].whole and (own is None or found[1] != own[1]):
                return parent.qualified
            above = self._stricter_parent(parent)
            if above:
                return above
        return None

    def cast_refused(self, cast: Cast) -> bool:
        """Whether a cast's function may not run."""
        overloads = [
            f for f in self.catalog.functions_by_name.get(cast.function, ()) if f.schema == cast.function_schema
        ]
        return not all(self.function_allowed(f) for f in overloads)

    def _cast_source(self, relation: Relation) -> str | None:
        """A column whose values a user-defined implicit cast may turn into something else at any place."""
        sources = {c.source for c in self.catalog.casts if c.implicit and self.cast_refused(c)}
        return next((c for c, t in zip(relation.columns, relation.types, strict=True) if t in sources), None)

    def _behind(self, view: Relation, seen: frozenset[int] = frozenset()) -> str | None:
        """The first relation or function under a view that the policy does not give whole."""
        for oid in view.calls:
            function = self.catalog.functions_by_oid.get(oid)
            if function is not None and not self.function_allowed(function):
                return f"{function.schema}.{function.name}()"
        for oid in view.reads:
            relation = self.catalog.by_oid.get(oid)
            if relation is None or oid in seen:
                continue
            if relation.schema in ("pg_catalog", "information_schema"):
                return relation.qualified
            found = self.entry(relation)
            if found is None or not (found[1].whole or found[1].trusted):
                return relation.qualified
            deeper = self._behind(relation, seen | {oid}) if relation.kind in "vm" and not found[1].trusted else None
            if deeper:
                return deeper
        return None

    def _check_patterns(self) -> None:
        for pattern in self.policy.model.tables:
            if not any(matches(pattern, r.schema, r.name) for r in self.catalog.relations if r.kind in READABLE_KINDS):
                self.problems.append(Problem(pattern, "no table of the database matches", "warning"))

    def _check_functions(self) -> None:
        for schema, name in sorted(self.allowed_functions):
            if schema == "pg_catalog":  # what it would change is for the lint of `policy check` to say
                continue
            if not any((f.schema, f.name) == (schema, name) for f in self.catalog.functions):
                message = f"there is no function {schema}.{name} in the database"
                self.problems.append(Problem("", message, key="functions.allow"))

    def _qualified(self, sql: str, relation: Relation) -> str:
        """A policy's own expression with every function name qualified. Raises Refused where it is not safe."""
        prefix = "SELECT 1 FROM t WHERE ("
        text = f"{prefix}{sql})".encode()
        found = [*oracle.statements(text), *oracle.statements(f"SELECT 1 FROM t WHERE {sql}".encode())]
        fields = {"targetList", "fromClause", "whereClause", "limitOption", "op"}
        if (
            len(found) != 2
            or any(raw.kind != "SelectStmt" or set(raw.node) - fields for raw in found)
            or not oracle.same(found[0].node, found[1].node)
        ):
            raise Refused("policy", f"{sql!r} is not one SQL expression")
        edits: list[int] = []
        self._check_expression(found[0].node["whereClause"], relation, edits)
        out = text
        for at in sorted(edits, reverse=True):
            out = out[:at] + b"pg_catalog." + out[at:]
        return out[len(prefix) - 1 :].decode()

    def _check_expression(self, node: object, relation: Relation, edits: list[int]) -> None:
        if isinstance(node, list):
            for item in node:
                self._check_expression(item, relation, edits)
            return
        if not isinstance(node, dict):
            return
        for key, value in node.items():
            if key in ("SelectStmt", "SubLink", "ParamRef", "RangeVar"):
                raise Refused("policy", "an expression of a policy reads no other table and takes no parameter")
            if key == "FuncCall":
                words = oracle.names(value["funcname"])
                if words[-1] not in builtins.FUNCTIONS or words[:-1] not in ((), ("pg_catalog",)):
                    raise Refused("policy", f"{'.'.join(words)}() is not a reviewed built-in function")
                if words[-1] in builtins.VOLATILE:
                    raise Refused("policy", f"{'.'.join(words)}() gives another value at each call")
                if len(words) == 1:
                    edits.append(value.get("location", 0))
            if key == "A_Expr" and len(value["name"]) == 1:
                self.check_operator(oracle.names(value["name"]), value.get("location"))
            if key == "ColumnRef":
                words = oracle.names(value["fields"])
                if len(words) != 1 or words[0] not in relation.columns:
                    raise Refused("policy", f"{'.'.join(words)} is not a column of {relation.qualified}")
            self._check_expression(value, relation, edits)

    # -- names -----------------------------------------------------------------------------------------------------

    def resolve(self, schema: str | None, name: str) -> tuple[str, str] | None:
        """The (schema, name) that Postgres takes for a table's name under the pinned search_path, None for none."""
        for candidate in ("pg_catalog", *self.path) if schema is None else (schema,):
            if (candidate, name) in self.catalog.by_name:
                return candidate, name
        return None

    def check_operator(self, words: tuple[str, ...], location: int | None) -> None:
        """Raises Refused unless every operator that the name can mean is Postgres's own or allowed."""
        name = words[-1]
        if len(words) > 1 and words[0] == "pg_catalog":
            return
        for operator in self.catalog.operators_by_name.get(name, ()):
            if operator.schema not in (self.path if len(words) == 1 else words[:1]):
                continue
            overloads = [
                f
                for f in self.catalog.functions_by_name.get(operator.function, ())
                if f.schema == operator.function_schema
            ]
            if operator.function_schema != "pg_catalog" and not all(self.function_allowed(f) for f in overloads):
                raise Refused(
                    "operator",
                    f"the operator {name} can run {operator.function_schema}.{operator.function}()",
                    f"Write OPERATOR(pg_catalog.{name}) for Postgres's own.",
                    location,
                )
        if len(words) > 1 and not any(o.schema == words[0] for o in self.catalog.operators_by_name.get(name, ())):
            raise Refused("operator", f"there is no operator {'.'.join(words)}", "", location)

    def function_allowed(self, function: Function) -> bool:
        """Whether one overload that is not Postgres's own may run."""
        return (function.schema, function.name) in self.allowed_functions or of_reviewed_extension(function)


def of_reviewed_extension(function: Function) -> bool:
    """Whether a function is allowed without being named: a pure one of a reviewed extension."""
    return (
        function.extension in builtins.EXTENSIONS
        and function.language in ("c", "internal")
        and function.volatility in "is"
        and not function.security_definer
    )


def matches(pattern: str, schema: str, name: str) -> bool:
    """Whether a table's pattern matches a relation's name."""
    left, _, right = pattern.partition(".")
    return fnmatch.fnmatchcase(schema, left) and fnmatch.fnmatchcase(name, right)


def entry_for(tables: dict[str, Table], schema: str, name: str) -> tuple[str, Table] | None:
    """The entry that counts for a relation, with its pattern: the exact name before the longest pattern."""
    exact = f"{schema}.{name}"
    if exact in tables:
        return exact, tables[exact]
    matching = [p for p in tables if matches(p, schema, name)]
    if not matching:
        return None
    pattern = max(matching, key=len)
    return pattern, tables[pattern]
