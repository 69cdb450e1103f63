"""Whether a round may be left out: nobody has written into the state since one that left nothing to do.

An idle server would ask the same questions each second. Knows nothing of what is asked. Invariant: where it cannot be
told from the file alone (Postgres, a file written this very moment), the round is made.
"""

from __future__ import annotations

from proxy.access.store import Store
from proxy.clock import Clock


class Quiet:
    """One round's memory. Ask `holds` before anything is read; tell `rest` when nothing was left to do."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: tuple[int, ...] | None = None
        self._rested: tuple[int, ...] | None = None

    def holds(self) -> bool:
        """Whether the state is as it was when `rest` was told."""
        self._seen = self._store.mark(self._clock.microseconds())
        return self._seen is not None and self._seen == self._rested

    def rest(self) -> None:
        """What stood in the state when `holds` was asked leaves nothing to do."""
        self._rested = self._seen
