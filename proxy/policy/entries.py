"""What a walk notes of FROM lists: their entries, level by level, and which of them a name can mean.

Postgres looks for a table's name at its own query level first and then further out; a name that a join's alias hides,
or that stands further right in the FROM list, is passed over. Where that is not certain here, every candidate counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.policy.bind import Shown
from proxy.policy.columns import Columns
from proxy.policy.oracle import Node


@dataclass(frozen=True, slots=True)
class Rel:
    """One entry of a FROM list: the name that it answers to and the columns it is known to have."""

    name: str
    columns: Columns
    shown: Shown | None = None
    hidden: bool = False
    """Whether a join's alias hides the name outside of the join."""

    def is_table(self, schema: tuple[str, ...]) -> bool:
        """Whether `schema.name` can mean this entry; without a schema every entry can be meant."""
        if not schema:
            return True
        return self.shown is not None and (self.shown.relation.schema, self.shown.relation.name) == (*schema, self.name)


@dataclass(slots=True)
class Level:
    """One query level: the entries of its FROM list, and the query around it."""

    outer: Level | None
    rels: list[Rel] = field(default_factory=list)
    in_from: bool = True
    """While the FROM list itself is read, not all of its names can be seen."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A place where a relation is named: `holder[key]` is its RangeVar in the tree."""

    shown: Shown
    holder: Any
    key: Any
    location: int
    alias: str | None
    written: tuple[str, ...]


@dataclass(slots=True)
class Query:
    """One plain SELECT inside the statement, with the entries of its own FROM list."""

    node: Node
    rels: list[Rel]


def owners(name: str, level: Level, in_from: bool) -> list[Rel]:
    """Every FROM entry that `name` can mean: those of its own query where all of them are visible, else all around."""
    found = [rel for rel in level.rels if rel.name == name]
    if in_from or all(rel.hidden for rel in found):
        outer = level.outer
        while outer is not None:
            found += [rel for rel in outer.rels if rel.name == name]
            outer = outer.outer
    return found
