"""Expressions of a grammar of queries: of a type that is asked for, over the columns in scope."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass

from proxy.policy.builtins import quote
from tests.twoworld.vocabulary import ARRAY_OF, LITERALS, POLYMORPHIC, Function, Vocabulary

SCALARS = ("integer", "text", "numeric", "boolean", "date", "timestamp with time zone", "jsonb", "text[]", "bigint")
AGGREGATES = ("count(*)", "count({0})", "max({0})", "min({0})", "array_agg({0})", "string_agg({0}::text, ',')",
    "count(distinct {0})", "jsonb_agg({0})", "array_agg({0} order by {0})", "count({0}) filter (where {1})")  # fmt: skip
WINDOWS = ("row_number() over ({w})", "rank() over ({w})", "lag({0}) over ({w})", "first_value({0}) over ({w})",
    "count(*) over ({w})", "max({0}) over w", "ntile(3) over ({w})", "sum(1) over ({w} rows unbounded preceding)")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """A column in scope: how it is written, its type, whether it is hidden."""

    sql: str
    type: str
    hidden: bool


class Expressions(ABC):
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

    @abstractmethod
    def select(self, depth: int = 2) -> tuple[str, list[tuple[str, str]]]:
        """A query and the columns that it gives."""

    @abstractmethod
    def scalar_query(self, kind: str, depth: int, *, one: bool = True) -> str:
        """A subquery of one column of a type, of one row where asked."""

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
