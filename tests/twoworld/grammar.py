"""A grammar of queries, and of what wraps them: sentences over a vocabulary, drawn by a random generator.

Most sentences are right, so that they get past analysis and show what they would show: every expression is asked for
with a type and built from columns in scope, literals, casts, subqueries, functions and operators of that type. `spice`
is how often a hidden name is taken where a shown one would do. One draw gives the steps of one session.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from proxy.policy.builtins import quote
from tests.twoworld.vocabulary import ARRAY_OF, LITERALS, POLYMORPHIC, Column, Function, Table, Vocabulary

SCALARS = ("integer", "text", "numeric", "boolean", "date", "timestamp with time zone", "jsonb", "text[]", "bigint")
AGGREGATES = ("count(*)", "count({0})", "max({0})", "min({0})", "array_agg({0})", "string_agg({0}::text, ',')",
    "count(distinct {0})", "jsonb_agg({0})", "array_agg({0} order by {0})", "count({0}) filter (where {1})")  # fmt: skip
WINDOWS = ("row_number() over ({w})", "rank() over ({w})", "lag({0}) over ({w})", "first_value({0}) over ({w})",
    "count(*) over ({w})", "max({0}) over w", "ntile(3) over ({w})", "sum(1) over ({w} rows unbounded preceding)")  # fmt: skip
SETTINGS = ("timezone", "search_path", "role", "statement_timeout", "datestyle", "default_transaction_read_only", "work_mem",
    "standard_conforming_strings", "session_authorization", "client_encoding", "row_security", "application_name",
    "transaction_read_only", "track_functions", "log_statement", "client_min_messages", "xmloption", "lc_messages",
    "default_text_search_config", "bytea_output", "extra_float_digits", "intervalstyle", "array_nulls", "jit", "plan_cache_mode",
    "shared_preload_libraries", "data_directory", "session_replication_role", "backslash_quote", "quote_all_identifiers",
    "transform_null_equals", "debug_print_plan", "log_min_messages", "daypass.x", "local_preload_libraries")  # fmt: skip
VALUES = ("on", "off", "default", "'UTC'", "'shop'", "vault", "'vault, shop'", "0", "'10s'", "postgres", "none", "log", "debug1",
    "'latin1'", "utf8", "'iso, mdy'", "content", "german", "hex", "local", "true", "1", "interval '1' hour", "notice")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """A column in scope: how it is written, its type, whether it is hidden."""

    sql: str
    type: str
    hidden: bool


class Grammar:
    """Draws from one random generator; made anew for each statement."""

    def __init__(self, rng: random.Random, words: Vocabulary, spice: float | None = None) -> None:
        self.rng, self.words = rng, words
        self.spice = rng.choice((0.0, 0.0, 0.02, 0.1, 0.3)) if spice is None else spice
        self.scope: list[list[Item]] = [[]]
        self.rows: list[str] = []
        self.ctes: list[tuple[str, list[tuple[str, str]]]] = []
        self.count = 0
        self.params = 0

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance

    def fresh(self) -> str:
        self.count += 1
        return f"{self.rng.choice('abcdeot')}{self.count}"

    # -- expressions -------------------------------------------------------------------------------------------------

    def pick(self) -> Item:
        """A column in sight, or a constant where there is none."""
        return self.rng.choice(self.items() or [Item("1", "integer", False)])

    def items(self) -> list[Item]:
        """Columns in sight, those of outer queries now and then."""
        here = self.scope[-1]
        if (not here or self.maybe(0.15)) and len(self.scope) > 1:
            here = [item for level in self.scope for item in level]
        return [i for i in here if not i.hidden or self.maybe(self.spice)]

    def expr(self, kind: str, depth: int = 2) -> str:
        """An expression of a type."""
        rng = self.rng
        kind = self._concrete(kind)
        fitting = [i.sql for i in self.items() if i.type == kind]
        if fitting and self.maybe(0.6 if depth > 0 else 0.85):
            return rng.choice(fitting)
        if depth <= 0 or self.maybe(0.3):
            return self.literal(kind)
        roll = rng.random()
        if roll < 0.12:
            return self._case(kind, depth)
        if roll < 0.22:
            return f"({self.pick().sql}::text)::{kind}" if self.maybe(0.3) else self.cast(kind, depth)
        if roll < 0.3:
            return f"({self.scalar_query(kind, depth - 1)})"
        if roll < 0.6 and kind in self.words.by_result:
            return self.call(rng.choice(self.words.by_result[kind]), depth - 1)
        if kind == "boolean":
            return f"({self.condition(depth - 1)})"
        operators = [o for o in self.words.operators if o.result == kind and o.schema == "pg_catalog"]
        if operators and roll < 0.9:
            return self.operation(rng.choice(operators), depth - 1)
        return self.literal(kind)

    def _concrete(self, kind: str) -> str:
        if kind in POLYMORPHIC:
            return ARRAY_OF.get(kind) or self.rng.choice(SCALARS)
        return kind

    def literal(self, kind: str) -> str:
        if kind in LITERALS:
            if self.maybe(0.03) and self.params < 4:
                self.params += 1
                return f"${self.params}"
            return self.rng.choice(LITERALS[kind])
        if kind.endswith("[]"):
            return f"array[{self.literal(kind[:-2])}]" if self.maybe(0.7) else f"'{{}}'::{kind}"
        return f"null::{kind}"

    def cast(self, kind: str, depth: int) -> str:
        inner = self.expr(self.rng.choice(("text", kind, "integer")), depth - 1)
        if self.maybe(0.3):
            return f"cast({inner} as {kind})"
        return f"({inner})::{kind}"

    def _case(self, kind: str, depth: int) -> str:
        one, two = self.expr(kind, depth - 1), self.expr(kind, depth - 1)
        return self.rng.choice((
            f"case when {self.condition(depth - 1)} then {one} else {two} end", f"coalesce({one}, {two})",
            f"nullif({one}, {two})", f"greatest({one}, {two})", f"case {one} when {two} then {one} end",
        ))  # fmt: skip

    def call(self, f: Function, depth: int) -> str:
        """One function with arguments that fit, in one of the notations that there are."""
        rng = self.rng
        arguments = [self.expr(a, depth) for a in f.arguments]
        name = quote(f.name)
        if f.schema != "pg_catalog" or self.maybe(0.15):
            name = f"{quote(f.schema)}.{name}"
        elif self.maybe(0.03):
            name = name.upper() if '"' not in name else name
        if len(arguments) == 1 and self.maybe(0.06):
            return rng.choice((f"({arguments[0]}).{quote(f.name)}", f"{arguments[0]}.{quote(f.name)}"))
        if self.rows and len(arguments) == 1 and self.maybe(0.04):
            return f"{name}({rng.choice(self.rows)})"
        if f.variadic and arguments and self.maybe(0.5):
            arguments[-1] = f"variadic {arguments[-1]}"
        elif f.variadic and arguments and f.arguments[-1].endswith("[]"):
            arguments[-1] = self.expr(f.arguments[-1][:-2], depth)
        inside = ", ".join(arguments)
        if f.kind == "a":
            if not arguments:
                inside = "*" if self.maybe(0.7) else ""
            elif self.maybe(0.3):
                inside = rng.choice((f"distinct {inside}", f"all {inside}", f"{inside} order by 1"))
            extra = rng.choice(("", "", "", f" filter (where {self.condition(0)})", " over ()"))
            return f"{name}({inside}){extra}"
        if f.kind == "w":
            return f"{name}({inside}) over ({self._window()})"
        return f"{name}({inside})"

    def operation(self, o: Function, depth: int) -> str:
        rng = self.rng
        name = o.name if o.schema == "pg_catalog" and self.maybe(0.93) else f"operator({quote(o.schema)}.{o.name})"
        sides = [self.expr(a, depth) for a in o.arguments]
        if len(sides) == 1:
            return f"({name} {sides[0]})"
        if self.maybe(0.05):
            return f"({sides[0]} {name} {rng.choice(('any', 'all', 'some'))} (array[{sides[1]}]))"
        space = " " if self.maybe(0.95) else ""
        return f"({sides[0]}{space}{name}{space}{sides[1]})"

    def condition(self, depth: int = 1) -> str:
        rng = self.rng
        kind = rng.choice(SCALARS[:6])
        if self.maybe(0.5):
            kind = self.pick().type
        if kind in ("json", "xml", "point", "box"):
            kind = "integer"
        one = self.expr(kind, depth)
        roll = rng.random()
        if roll < 0.35:
            return f"{one} {rng.choice(('=', '<', '>', '<>', '<=', '>=', '!='))} {self.expr(kind, depth)}"
        if roll < 0.45:
            return f"{one} is {rng.choice(('null', 'not null', 'not distinct from ' + self.literal(kind)))}"
        if roll < 0.53:
            return f"{one} in ({self.literal(kind)}, {self.expr(kind, depth - 1)})"
        if roll < 0.6 and depth > 0:
            return f"{one} {rng.choice(('in', '= any', 'not in', '< all'))} ({self.scalar_query(kind, depth - 1, one=False)})"
        if roll < 0.67:
            return f"{one} between {self.expr(kind, depth - 1)} and {self.literal(kind)}"
        if roll < 0.75:
            pattern = rng.choice(("like", "ilike", "~", "~*", "similar to", "not like", "!~"))
            return f"{self.expr('text', depth)} {pattern} {self.expr('text', 0)}"
        if roll < 0.82 and depth > 0:
            return f"exists ({self.select(depth - 1)[0]})"
        if roll < 0.86:
            return f"({one}, {self.expr('integer', 0)}) {rng.choice(('=', '<', '>='))} ({self.expr(kind, 0)}, {self.expr('integer', 0)})"
        if roll < 0.9 and self.rows:
            return f"{rng.choice(self.rows)} {rng.choice(('is null', 'is not null', '= ' + rng.choice(self.rows), '::text <> $$$$'))}"
        operators = [o for o in self.words.operators if o.result == "boolean" and o.schema == "pg_catalog"]
        if roll < 0.96:
            return self.operation(rng.choice(operators), depth - 1)
        return f"not ({self.condition(depth - 1)}) or {self.expr('boolean', 0)}"

    def _window(self) -> str:
        parts = []
        if self.maybe(0.5):
            parts.append(f"partition by {self.expr(self.rng.choice(SCALARS[:4]), 0)}")
        if self.maybe(0.8):
            parts.append(f"order by {self.pick().sql}")
        return " ".join(parts)

    def scalar_query(self, kind: str, depth: int, *, one: bool = True) -> str:
        """A subquery of one column of a type, of one row where asked."""
        tail = " limit 1" if one else ""
        if self.maybe(0.1):
            return f"values ({self.literal(kind)})"
        self.scope.append([])
        rows, self.rows = self.rows, list(self.rows)
        try:
            source = self.from_item(depth)
            return f"select {self.expr(kind, depth)} from {source} order by 1{tail}"
        finally:
            self.scope.pop()
            self.rows = rows

    # -- FROM --------------------------------------------------------------------------------------------------------

    def table(self) -> Table:
        while True:
            found = self.rng.choice(self.words.catalogs if self.maybe(0.05) else self.words.tables)
            if found.columns and (found.readable or self.maybe(self.spice)):
                return found

    def add(self, alias: str, columns: list[tuple[str, str, bool]]) -> None:
        bare = self.maybe(0.25)
        for name, kind, hidden in columns:
            self.scope[-1].append(Item(quote(name) if bare else f"{alias}.{quote(name)}", kind, hidden))
        self.rows.append(alias)

    def from_item(self, depth: int = 2) -> str:
        rng, roll = self.rng, self.rng.random()
        if roll < 0.55 or depth <= 0:
            return self._table_item()
        if roll < 0.62 and self.ctes:
            name, columns = rng.choice(self.ctes)
            alias = self.fresh()
            self.add(alias, [(c, k, False) for c, k in columns])
            return f"{name} {alias}"
        if roll < 0.75:
            return self._query_item(depth)
        if roll < 0.83:
            return self._function_item(depth)
        if roll < 0.87:
            kinds = [rng.choice(SCALARS[:4]) for _ in range(rng.randint(1, 3))]
            alias, names = self.fresh(), [self.fresh() for _ in kinds]
            lines = ", ".join("(" + ", ".join(self.literal(k) for k in kinds) + ")" for _ in range(rng.randint(1, 3)))
            self.add(alias, [(n, k, False) for n, k in zip(names, kinds, strict=True)])
            return f"(values {lines}) {alias}({', '.join(names)})"
        return self._join(depth)

    def _table_item(self) -> str:
        table, rng = self.table(), self.rng
        name = table.name if self.maybe(0.6) or table.name.startswith(("vault", "info")) else table.bare
        columns = [(c.name, c.type, c.hidden) for c in table.columns]
        sample = " tablesample system (100)" if self.maybe(0.01) else ""
        name = name if self.maybe(0.97) else f"only {name}" if self.maybe(0.5) else f"{name} *"
        if self.maybe(0.25):
            self.add(table.bare, columns)
            return f"{name}{sample}"
        alias = self.fresh()
        if self.maybe(0.15):
            shown = [c for c in columns if not c[2]] if self.maybe(0.8) else columns
            shown = shown or columns
            names = [
                rng.choice((self.fresh(), self.fresh(), rng.choice(self.words.words)))
                for _ in shown[: rng.randint(1, 4)]
            ]
            renamed = [(n, k, h) for n, (_, k, h) in zip(names, shown, strict=False)]
            self.add(alias, renamed + shown[len(names) :])
            return f"{name} {rng.choice(('', 'as '))}{alias}({', '.join(map(quote, names))}){sample}"
        self.add(alias, columns)
        return f"{name} {rng.choice(('', 'as '))}{alias}{sample}"

    def _query_item(self, depth: int) -> str:
        lateral = self.maybe(0.3)
        saved, rows = self.scope, self.rows
        if not lateral:
            self.scope, self.rows = [[]], []
        text, columns = self.select(depth - 1)
        self.scope, self.rows = saved, rows
        alias = self.fresh()
        renaming = ""
        if self.maybe(0.2) and columns:
            names = [self.fresh() for _ in columns]
            columns = [(n, k) for n, (_, k) in zip(names, columns, strict=True)]
            renaming = f"({', '.join(names)})"
        self.add(alias, [(n, k, False) for n, k in columns])
        return f"{'lateral ' if lateral else ''}({text}) {alias}{renaming}"

    def _function_item(self, depth: int) -> str:
        rng, alias = self.rng, self.fresh()
        roll = rng.random()
        if roll < 0.3:
            self.add(alias, [(alias, "integer", False)])
            return f"generate_series(1, {rng.randint(1, 20)}) {alias}"
        if roll < 0.5:
            self.add(alias, [("x", "text", False), ("n", "bigint", False)])
            return f"unnest({self.expr('text[]', depth - 1)}) with ordinality {alias}(x, n)"
        if roll < 0.6:
            self.add(alias, [("k", "integer", False)])
            return f"jsonb_to_record({self.expr('jsonb', 0)}) as {alias}(k int)"
        if roll < 0.7:
            return f"rows from (generate_series(1, 3), unnest(array['a','b'])) {alias}(p, q)"
        sets = [f for f in self.words.builtin if f.returns_set] if self.maybe(0.5) else self.words.safe
        if self.words.own_functions and self.maybe(self.spice):
            sets = self.words.own_functions
        f = rng.choice(sets)
        self.add(alias, [(f.name, f.result, False)])
        return f"{rng.choice(('', 'lateral '))}{self.call(f, depth - 1)} {alias}"

    def _join(self, depth: int) -> str:
        rng = self.rng
        left, right = self.from_item(depth - 1), self.from_item(depth - 1)
        right = (
            f"({right})"
            if re.search(r"\bjoin\b", right) and right[0] != "(" and not right.startswith("lateral")
            else right
        )
        kind = rng.choice(
            (
                "join",
                "inner join",
                "left join",
                "right join",
                "full join",
                "cross join",
                "natural join",
                "natural left join",
                ",",
            )
        )
        if kind == ",":
            kind = "cross join"
        tail = ""
        if not kind.startswith(("cross", "natural")):
            if self.maybe(0.25):
                names = rng.sample(["id", "id", "person_id", "tax_no", "city", "owner", "kind", "h_int", "s_int"], 1)
                tail = f" using ({names[0]})" + (" as " + self.fresh() if self.maybe(0.1) else "")
            else:
                integers = [i.sql for i in self.items() if i.type == "integer"]
                tail = f" on {rng.choice(integers)} = {rng.choice(integers)}" if len(integers) > 1 else " on true"
                tail += f" and {self.condition(0)}" if self.maybe(0.3) else ""
        text = f"{left} {kind} {right}{tail}"
        if self.maybe(0.07):
            return f"({text}) {self.fresh()}" if self.maybe(0.5) else f"({text})"
        return text

    # -- queries -----------------------------------------------------------------------------------------------------

    def select(self, depth: int = 2) -> tuple[str, list[tuple[str, str]]]:
        """A query and the columns that it gives."""
        self.scope.append([])
        rows, self.rows = self.rows, list(self.rows)
        ctes = list(self.ctes)
        try:
            text, columns = self._select(depth)
        finally:
            self.scope.pop()
            self.rows, self.ctes = rows, ctes
        if depth > 0 and self.maybe(0.08) and columns:
            word = self.rng.choice(("union", "union all", "intersect", "except", "except all"))
            text = f"({text}) {word} select {', '.join(self.literal(k) for _, k in columns)}"
            if self.maybe(0.3):
                text += " order by 1"
        return text, columns

    def _with(self, depth: int) -> str:
        rng, parts = self.rng, []
        for _ in range(rng.randint(1, 2)):
            name = rng.choice((self.fresh(), self.fresh(), rng.choice(self.words.tables).bare))
            text, columns = self.select(depth - 1)
            names = ""
            if self.maybe(0.3) and columns:
                columns = [(self.fresh(), k) for _, k in columns]
                names = f"({', '.join(n for n, _ in columns)})"
            materialized = rng.choice(("", "", "", "materialized ", "not materialized "))
            parts.append(f"{name}{names} as {materialized}({text})")
            self.ctes.append((name, columns))
        if self.maybe(0.15):
            name = self.fresh()
            self.ctes.append((name, [("n", "integer")]))
            parts.append(f"{name}(n) as (values (1) union all select n + 1 from {name} where n < 5)")
            return f"with recursive {', '.join(parts)} "
        return f"with {', '.join(parts)} "

    def _select(self, depth: int) -> tuple[str, list[tuple[str, str]]]:
        rng = self.rng
        with_clause = self._with(depth) if depth > 0 and self.maybe(0.15) else ""
        source = self.from_item(depth) if self.maybe(0.93) else ""
        if source and self.maybe(0.15):
            source += f", {self.from_item(depth - 1)}"
        where = f" where {self.condition(depth)}" if self.maybe(0.45) else ""
        if source and self.maybe(0.12):
            return with_clause + self._grouped(source, where, depth)[0], self._last
        columns: list[tuple[str, str]] = []
        targets = []
        for _ in range(rng.randint(1, 4)):
            roll = rng.random()
            if source and roll < 0.1:
                targets.append(rng.choice(["*", *(f"{r}.*" for r in self.rows[-2:])]))
                columns += [(i.sql.split(".")[-1].strip('"'), i.type) for i in self.scope[-1] if not i.hidden][:6]
            elif self.rows and roll < 0.16:
                row = rng.choice(self.rows)
                targets.append(
                    rng.choice(
                        (
                            f"{row}",
                            f"{row}::text",
                            f"to_jsonb({row})",
                            f"({row}).*",
                            f"row({row}.*)",
                            f"count({row})",
                            f"({row}).id",
                            f"row_to_json({row})",
                        )
                    )
                )
            elif roll < 0.21:
                window = rng.choice(WINDOWS)
                targets.append(
                    window.replace("{w}", self._window())
                    .replace("{0}", self.expr("integer", 0))
                    .replace("over w", "over ()")
                )
            else:
                kind = rng.choice(SCALARS)
                if self.maybe(0.7):
                    kind = self.pick().type
                name = self.fresh()
                targets.append(
                    f"{self.expr(kind, depth)} {rng.choice(('as ', ''))}{name}"
                    if self.maybe(0.7)
                    else self.expr(kind, depth)
                )
                columns.append((name, kind))
        distinct = (
            "distinct " if self.maybe(0.06) else f"distinct on ({self.expr('integer', 0)}) " if self.maybe(0.03) else ""
        )
        text = f"{with_clause}select {distinct}{', '.join(targets)}"
        if source:
            text += f" from {source}"
        text += where
        if self.maybe(0.3):
            direction = rng.choice(("", " desc", " asc nulls first", " nulls last", " using <"))
            text += f" order by {rng.choice(('1', '1', f'({self.expr(rng.choice(SCALARS[:5]), depth - 1)}) is null', self.pick().sql))}{direction}"
        if self.maybe(0.15):
            text += rng.choice(
                (
                    " limit 5",
                    " limit 3 offset 2",
                    " fetch first 3 rows only",
                    f" limit ({self.scalar_query('integer', 0)})",
                )
            )
        return text, [c for c in columns if text.count(c[0]) > 0]

    def _grouped(self, source: str, where: str, depth: int) -> tuple[str, list[tuple[str, str]]]:
        rng = self.rng
        keys = [self.expr(rng.choice(SCALARS[:5]), 0) for _ in range(rng.randint(1, 2))]
        if self.maybe(0.3):
            keys = [self.pick().sql]
        keys = [f"({k})::text" if re.match(r"[-'$\d]|null|true|false", k) else k for k in keys]
        by = rng.choice(
            (
                ", ".join(keys),
                ", ".join(keys),
                f"grouping sets (({keys[0]}), ())",
                f"rollup ({keys[0]})",
                f"cube ({keys[0]})",
                "1",
            )
        )
        one = self.pick().sql
        aggregate = rng.choice(AGGREGATES).format(one, self.condition(0))
        if self.maybe(0.2):
            aggregate = self.call(rng.choice([f for f in self.words.functions if f.kind == "a"]), 0)
        name = self.fresh()
        extra = f", {one}" if self.maybe(0.15) else ""
        having = f" having {rng.choice(('count(*) > 1', self.condition(0)))}" if self.maybe(0.2) else ""
        self._last = [(name, "text")]
        text = f"select {keys[0]}::text as {name}, {aggregate}{extra} from {source}{where} group by {by}{having}"
        return text + (" order by 1" if self.maybe(0.4) else ""), self._last

    _last: list[tuple[str, str]]

    # -- statements --------------------------------------------------------------------------------------------------

    def query(self) -> str:
        return self.select(self.rng.choice((1, 2, 2, 3)))[0]

    def catalog_function(self, f: Function) -> str:
        """A statement around one function: in the select list, WHERE, FROM, or as an attribute."""
        self.scope.append([])
        source = self._table_item() if self.maybe(0.85) else self.from_item(1)
        call = self.call(f, 1)
        roll = self.rng.random()
        if f.kind in "aw" or roll < 0.6:
            return f"select {call} from {source}{'' if f.kind == 'a' else ' limit 3'}"
        if roll < 0.75:
            return f"select {self.expr('integer', 0)} from {source} where {call} is {'not ' if self.maybe(0.5) else ''}null"
        if roll < 0.9:
            return f"select x.* from {source}, {call} x limit 3"
        return f"select count(*) from {source} group by {call}"

    def operator(self, o: Function) -> str:
        self.scope.append([])
        source = self._table_item()
        text = self.operation(o, 1)
        if self.maybe(0.3) and o.result == "boolean":
            return f"select {self.expr('integer', 0)} from {source} where {text} order by 1"
        return f"select {text} from {source} limit 5"

    def sqlglot_call(self) -> str:
        """A name that sqlglot takes for a function of its own, with any arguments."""
        self.scope.append([])
        source = self._table_item()
        name = self.rng.choice(self.words.sqlglot)
        inside = ", ".join(self.expr(self.rng.choice(SCALARS), 0) for _ in range(self.rng.randint(0, 3)))
        return f"select {name}({inside}) from {source} limit 3"

    def wrapped(self) -> list[str]:
        """What holds a query: EXPLAIN, cursors, PREPARE, COPY, several statements at once."""
        rng, text, name = self.rng, self.query(), self.fresh()
        if "$" in text and "$$" not in text:
            text = "select id, name, mail from people order by id"
        options = rng.choice(("", "analyze ", "verbose ", "(costs off) ", "(analyze, timing off, summary off, costs off) ",
            "(format json) ", "(generic_plan) ", "(verbose, settings) ", "(buffers off, costs off) "))  # fmt: skip
        return rng.choice((
            [f"explain {options}{text}"],
            ["begin", f"declare {name} {rng.choice(('', 'scroll ', 'no scroll ', 'binary '))}cursor for {text}",
             f"fetch {rng.choice(('1', 'all', 'forward 2', 'backward 1', 'last'))} from {name}", f"move 1 in {name}",
             f"fetch next from {name}", f"close {name}", "commit"],
            [f"declare {name} cursor with hold for {text}", f"fetch 2 {name}", f"select * from pg_cursors where name = '{name}'"],
            [f"prepare {name} as {text}", f"execute {name}", f"explain (costs off) execute {name}", f"deallocate {name}"],
            [f"prepare {name}(int) as select * from people where id = $1", f"execute {name}({self.expr('integer', 1)})"],
            [f"copy ({text}) to stdout{rng.choice(('', ' csv header', ' (format csv, header)', ' binary', ' with (delimiter $$|$$)'))}"],
            [f"copy {rng.choice(self.words.tables).name} to stdout"],
            [f"{text}; {self.query()}"], [f"begin; {text}; rollback; {self.query()}"],
            [f"table {rng.choice(self.words.tables).name}"], [f"{text};"], [f"({text})"], [f"begin read only; {text}; commit"],
            [f"savepoint a; {text}"], ["begin", text, f"savepoint {name}", self.query(), f"rollback to {name}", text, "end"],
            [f"create temp table {name} as {text}"], [f"select * into {name} from ({text}) x"],
            [f"with {name} as ({text}) table {name}"], [f"{text} for update"], [f"create view pg_temp.{name} as {text}"],
            [f"explain {options}execute {name}"], [f"do $${text}$$"], [f"call shop.{name}()"], ["refresh materialized view vault.ledger_sum"],
        ))  # fmt: skip

    def session(self) -> list[str]:
        """Settings, transactions, and what a session keeps."""
        rng = self.rng
        name, value = rng.choice(SETTINGS), rng.choice(VALUES)
        probe = rng.choice(
            ("show " + name, "show all", "select * from pg_settings", f"select current_setting('{name}')", self.query())
        )
        first = rng.choice((
            f"set {name} to {value}", f"set local {name} = {value}", f"set session {name} = {value}", f"reset {name}", "reset all",
            "discard all", "discard plans", "discard temp", "discard sequences", f"select set_config('{name}', {self.expr('text', 0)}, {value in ('on', 'true')})",
            "set transaction read write", "begin read write", "start transaction isolation level serializable, read only, deferrable",
            "set session characteristics as transaction read write", "set session authorization default", "set role none",
            f"set time zone {value}", "set names 'utf8'", "set schema 'vault'", f"select pg_catalog.set_config('{name}', {value!r}, false)",
            "set xml option document", "listen x", "unlisten *", "notify x", "lock table orders", "checkpoint", "set transaction snapshot '1'",
            "begin; set local transaction_read_only = off", "close all", "deallocate all", "show session authorization", "show time zone",
        ))  # fmt: skip
        return [first, probe] if self.maybe(0.6) else [first]

    def write(self) -> str:
        """What must never run."""
        rng, table = self.rng, self.rng.choice(self.words.tables)
        column = rng.choice(table.columns or (Column("id", "integer", False),))
        return rng.choice((
            f"insert into {table.name} select * from {table.name}", f"update {table.name} set {quote(column.name)} = null",
            f"delete from {table.name}", f"truncate {table.name}", f"with x as (delete from {table.name} returning *) select * from x",
            "select nextval('shop.invoice_no')", "select lo_create(0)", "select pg_advisory_lock(1)", f"alter table {table.name} add x int",
            f"merge into {table.name} t using orders o on true when matched then delete", "select pg_notify('x', 'y')",
            f"with x as (select 1), y as (insert into {table.name} default values) {self.query()}", "select setval('shop.invoice_no', 99)",
            f"comment on table {table.name} is 'x'", f"grant select on {table.name} to public", f"analyze {table.name}", "vacuum",
            "create extension dblink", "load 'x'", "select lo_import('/etc/passwd')", "select pg_reload_conf()", "create function f() returns int return 1",
            "select shop.bump()", "select (1).bump", f"explain analyze update {table.name} set {quote(column.name)} = null",
            "copy orders from stdin", "copy orders to program 'x'", "select txid_current()", "select pg_current_xact_id()",
        ))  # fmt: skip


Maker = Callable[[Grammar], list[str]]
