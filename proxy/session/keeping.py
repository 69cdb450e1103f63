"""How much of a session is recorded: of results, and of the values in texts. What the configuration says, and a policy
may ask for more of the one and less of the other.

Pure values. Invariant: what is put together never records less of results, nor more of literals, than each part asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

NONE: Final = 0
COUNTS: Final = 1
DIGEST: Final = 2
SAMPLE: Final = 3
FULL: Final = 4
_LEVELS: Final = {"none": NONE, "counts": COUNTS, "digest": DIGEST, "sample": SAMPLE, "full": FULL}
_LITERALS: Final = ("keep", "hash", "drop")


@dataclass(frozen=True, slots=True)
class Keeping:
    """`results` and `literals` as in config.yaml under `recording`; `key` is the installation's, for digests."""

    results: str = "counts"
    literals: str = "keep"
    key: bytes = b""

    @property
    def level(self) -> int:
        """How much of results; each includes what is below it."""
        return _LEVELS[self.results.partition(":")[0]]

    @property
    def sample(self) -> int:
        """How many rows of each result, 0 where it is not a matter of number."""
        return int(self.results.partition(":")[2] or 0)

    def joined(self, asked: Iterable[tuple[str | None, str | None]]) -> Keeping:
        """The same with what others ask for: (results, literals), None where they ask for nothing."""
        found = self
        for results, literals in asked:
            if results is not None:
                other = replace(found, results=results)
                if (other.level, other.sample) > (found.level, found.sample):
                    found = other
            if literals is not None and _LITERALS.index(literals) > _LITERALS.index(found.literals):
                found = replace(found, literals=literals)
        return found


DEFAULT: Final = Keeping()
