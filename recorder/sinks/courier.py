"""Carries what one sink has not got yet to it, batch by batch, and waits longer and longer while it does not take them.

Runs in a thread of its own, so that a sink that hangs holds up nothing else. Must not know what a sink is beyond
`Take`. Invariant: the cursor on the disk moves only after `take` has returned; two processes never deliver to one sink
at once.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recorder import chain
from recorder.sinks import cursor, held
from recorder.sinks.feed import Feed, Item

LINES = 500
BYTES = 1 << 20
"""Of one batch; a line that is longer goes alone."""
EVERY = 1.0
"""Seconds between two looks at a record that did not grow."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0


class NotTaken(Exception):
    """The sink has not taken the batch, for all we know: it comes again. `too_large`: a smaller one may pass."""

    def __init__(self, text: str, *, too_large: bool = False) -> None:
        super().__init__(text)
        self.too_large = too_large


Take = Callable[[Sequence[Item]], None]
"""Returns when the sink has the items for good; else raises NotTaken. Called from one thread."""
Tell = Callable[..., object]
"""A line for the log of the server: its name, and facts."""


@dataclass(slots=True)
class Counts:
    """What became of it in this process."""

    delivered: int = 0
    errors: int = 0
    skipped: int = 0
    backlog: int = 0


class Courier:
    """Serves one sink of one folder. `sync`: whether a line must be on the disk before it leaves."""

    def __init__(
        self,
        directory: Path,
        name: str,
        take: Take,
        *,
        sync: bool,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        tell: Tell,
        close: Callable[[], None] = lambda: None,
        feed: type[Feed] = Feed,
    ) -> None:
        self.name = name
        self.counts = Counts()
        self._directory = directory.absolute()
        self._take = take
        self._close = close
        self._feed = feed
        self._sync = sync
        self._now = now
        self._monotonic = monotonic
        self._tell = tell
        self._refused = 0
        self._resume = 0.0
        self._lines = LINES
        self._leads = threading.Event()
        self._stop, self._abandon = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)

    def begin(self, *, history: bool) -> None:
        """Before the first session: from here on everything is owed to this sink. OSError, RecordError."""
        cursor.begin(self._directory, self.name, history=history, lines=self._feed is Feed)

    def start(self) -> None:
        """Go on by itself, while this process leads."""
        self._thread.start()

    def lead(self, leads: bool) -> None:
        """Whether this process delivers."""
        if leads:
            self._leads.set()
        else:
            self._leads.clear()
            self.counts.backlog = 0

    def finish(self) -> None:
        """Deliver what there still is and end; wait for it with `join`."""
        self._stop.set()

    def join(self, patience: float) -> None:
        """What is under way after `patience` seconds may come again: the next process goes on where the cursor is."""
        if self._thread.is_alive():
            self._thread.join(patience)
        self._abandon.set()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self._try()
        self._try()
        self._close()

    def _try(self) -> None:
        if not self._leads.is_set():
            return
        try:
            self.round()
        except Exception as problem:  # a thread that dies tells nobody
            self.counts.errors += 1
            self._tell("sink_round_failed", sink=self.name, reason=f"{type(problem).__name__}: {problem}")

    def round(self) -> None:
        """Deliver all there is, or what the sink takes of it. OSError, RecordError: the record cannot be read, or the
        cursor not be kept."""
        with cursor.locked(self._directory, self.name) as ours:
            if not ours:
                self.counts.backlog = 0
                return
            feed = self._feed(self._directory, cursor.load(self._directory, self.name), sync=self._sync)
            feed.look()
            if self._monotonic() >= self._resume:
                self._deliver(feed)
                feed = self._feed(self._directory, cursor.load(self._directory, self.name), sync=self._sync)
                feed.look()
            self.counts.backlog = feed.backlog()
        held.release(self._directory)

    def _deliver(self, feed: Feed) -> None:
        batch: list[Item] = []
        size = 0
        try:
            for item in feed.items():
                batch.append(item)
                size += item.size
                if len(batch) >= self._lines or size >= BYTES:
                    self._hand_over(feed, batch)
                    batch, size = [], 0
                    if self._abandon.is_set() or not self._leads.is_set():
                        return
            if batch:
                self._hand_over(feed, batch)
        except NotTaken as problem:
            self._not_taken(problem, batch)
            return
        self._keep(feed)  # recordings that are behind us now
        self._lines = min(LINES, self._lines * 2)

    def _hand_over(self, feed: Feed, batch: list[Item]) -> None:
        self._take(batch)
        feed.cursor.delivered += len(batch)
        feed.cursor.last, feed.cursor.error = chain.stamp(self._now()).decode().strip('"'), ""
        self._keep(feed)
        self.counts.delivered += len(batch)
        if self._refused:
            self._tell("sink_takes_again", sink=self.name)
        self._refused = 0

    def _keep(self, feed: Feed) -> None:
        if feed.cursor != cursor.load(self._directory, self.name):
            cursor.save(self._directory, self.name, feed.cursor)
        self.counts.skipped += len(feed.skipped)
        for what in feed.skipped:
            self._tell("sink_skipped", sink=self.name, reason=what)
        feed.skipped.clear()

    def _not_taken(self, problem: NotTaken, batch: list[Item]) -> None:
        self.counts.errors += 1
        self._refused += 1
        if problem.too_large and len(batch) > 1:
            self._lines, wait = len(batch) // 2, 0.0
        else:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._refused - 1, 20))
        self._resume = self._monotonic() + wait
        self._tell("sink_failed", sink=self.name, reason=str(problem), first=batch[0].id, again_in=wait)
        stands = cursor.load(self._directory, self.name)
        stands.error = str(problem)
        cursor.save(self._directory, self.name, stands)


def retire(directory: Path, names: Sequence[str], tell: Tell) -> None:
    """Sinks that are configured no more are owed nothing. OSError, RecordError."""
    for name in cursor.retire(directory, frozenset(names)):
        tell("sink_retired", sink=name, message="nothing is kept for it any more; it goes on if it comes back")
    held.release(directory)
