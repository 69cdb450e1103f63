"""A grammar of queries: sentences over a vocabulary, drawn by a random generator.

Most sentences are right, so that they get past analysis and show what they would show: every expression is asked for
with a type and built from columns in scope, literals, casts, subqueries, functions and operators of that type. `spice`
is how often a hidden name is taken where a shown one would do. One draw gives the steps of one session.
"""

from __future__ import annotations

import re

from proxy.policy.builtins import quote
from tests.twoworld.expressions import AGGREGATES, SCALARS, WINDOWS, Expressions, Item
from tests.twoworld.vocabulary import Table


class Grammar(Expressions):
    """Sentences over the expressions: FROM, joins, WITH, grouping, and all that a query has."""

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
        kind = rng.choice(("join", "inner join", "left join", "right join", "full join", "cross join", "natural join",
            "natural left join", ","))  # fmt: skip
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
