"""Keeps the search index up to date while the record grows, so that the first search finds it warm.

Another process reads and writes it, a bounded piece at a time. Knows nothing of statements. Invariants: a record that
did not grow costs a look at one file; what lies encrypted for others is not indexed, as an index holds it in the clear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from proxy.config import Recording
from proxy.server import aside
from proxy.server.aside import NotAnswered
from recorder import files
from recorder.aside import Fill
from recorder.search_feed import Filled

log = structlog.get_logger()

EVERY: Final = 30.0
MOST: Final = 100_000
"""Statements of one piece: a few seconds."""
AGAIN: Final = 600.0
"""Seconds until it is tried again after an error."""


class Indexer:
    """The rounds over one recordings folder."""

    def __init__(self, recording: Recording, monotonic: Callable[[], float]) -> None:
        self._folder = recording.dir.absolute()
        self._wanted = recording.index == "background" and not recording.recipients
        self._monotonic = monotonic
        self._seen = -1
        self._resume = float("-inf")

    async def round(self) -> None:
        """Enter a piece of what is new. Never raises for what an index may have."""
        size = self._size() if self._wanted else self._seen
        if size == self._seen or self._monotonic() < self._resume:
            return
        try:
            filled = msgspec.json.decode(await aside.ask(Fill(str(self._folder), MOST)), type=Filled | None)
        except (NotAnswered, msgspec.DecodeError) as problem:
            log.warning("index_failed", reason=str(problem), again_in=AGAIN)
            self._resume = self._monotonic() + AGAIN
            return
        if filled is not None and not filled.more:
            self._seen = size

    def _size(self) -> int:
        """Of the node log, in which every recording that grows is entered."""
        try:
            return (self._folder / files.NODE).stat().st_size
        except OSError:
            return self._seen
