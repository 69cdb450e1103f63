"""How large a statement may be, in one table: beyond these sizes it is refused before a parser can be hurt by it.

`LIGHT` is what is judged where it is asked for, between two turns of the event loop: whatever keeps within it takes a
few milliseconds. `FULL` is what is judged at all; what lies between them has a process of its own, and a time limit
there (see `worker`). Each figure was found with `python -m tests.bench.guard`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Caps:
    """Counts are of one text; depths are of what is open at one place of it."""

    bytes: int
    words: int
    """Tokens but for white space."""
    parens: int
    """Depth of round brackets."""
    brackets: int
    """Depth of square brackets: sqlglot reads each level twice."""
    subscripts: int
    """Square brackets in all."""
    type_calls: int
    """Depth of calls by a type's name, as in int4(…): sqlglot reads each level twice."""
    parts: int
    """Queries, and FROM entries."""


LIGHT: Final = Caps(
    bytes=4 << 10, words=500, parens=16, brackets=1, subscripts=24, type_calls=1, parts=20
)  # fmt: skip
FULL: Final = Caps(
    bytes=1 << 20, words=100_000, parens=100, brackets=12, subscripts=100_000, type_calls=12, parts=500
)  # fmt: skip

SHAPE_BYTES: Final = 10 << 10
SHAPE_PARENS: Final = 200
"""Up to here libpg_query is asked for a text's shape in the event loop; nested queries cost it quadratic time."""
COMMENTS: Final = 8
"""Depth of comments: libpg_query reads nested ones in quadratic time."""
STATEMENTS: Final = 100
"""Statements in one text."""
WRAPPED: Final = 64 << 10
"""Bytes of a statement with another one inside (EXPLAIN, DECLARE, PREPARE, COPY)."""
NAME: Final = 63
"""Bytes of a name; Postgres cuts longer ones."""
