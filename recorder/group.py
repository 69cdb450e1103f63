"""Group commit: the sessions of one process that wait for the disk at the same time share one sync.

What is added in one turn of the event loop, and while the sync before is under way, goes to the write-ahead file
together; then all who wait are told. Nobody waits inside of the loop: one thread syncs the write-ahead file, another
does whatever else waits for the disk (opening, sealing, syncing the recordings themselves). Must not know events.
Invariants: who is told has its lines on the disk, or its recording is stopped; a file whose sync failed is never
synced again.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from recorder import files
from recorder.ahead import SIZE, Frame, Segment
from recorder.files import RecordError

T = TypeVar("T")
Told = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Turns:
    """The event loop, as much of it as is needed. `soon` runs something at the end of this turn, `back` in the loop's
    own thread from any other (`call_soon`, `call_soon_threadsafe`)."""

    soon: Callable[[Callable[[], None]], object]
    back: Callable[[Callable[[], None]], object]


class Grouped(Protocol):
    """A recording, as the group sees it."""

    @property
    def file(self) -> str: ...
    def sync(self) -> None:
        """Its own file, to the disk; nothing where it is closed. RecordError: never again."""


class Keeper:
    """One thread for what waits for the disk; the loop's thread gets the result."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._pool = ThreadPoolExecutor(1, "recorder")

    def do(self, work: Callable[[], T], then: Callable[[T | RecordError], None]) -> None:
        """Do `work` after what was asked for before; `then` gets what it returned, or the error."""

        def done(future: Future[T]) -> None:
            problem = future.exception()
            if problem is None:
                result: T | RecordError = future.result()
            else:
                result = problem if isinstance(problem, RecordError) else RecordError(f"recorder: {problem!r}")
            self._turns.back(lambda: then(result))

        self._pool.submit(work).add_done_callback(done)

    def close(self) -> None:
        """Wait until all is done."""
        self._pool.shutdown()


class Group:
    """See the module's text. All methods are called by the loop's thread. RecordError when it cannot begin."""

    def __init__(
        self, directory: Path, turns: Turns, keeper: Keeper, fail: Callable[[str], None], *, size: int = SIZE
    ) -> None:
        self._directory = directory
        self._turns = turns
        self._keeper = keeper
        self._fail = fail
        self._size = size
        self._made = 0
        self._frames: list[Frame] = []
        self._waiting: list[Told] = []
        self._asked = self._busy = False
        self._dirty: dict[Grouped, None] = {}
        """The recordings with frames in the segment."""
        self._new: dict[Grouped, None] = {}
        """Those with frames that wait."""
        self._segment: Segment | None = None
        self._spare: Segment | None = None
        self._retired: list[Segment] = []
        self.syncs = 0
        """How often the write-ahead file was synced."""
        self._work: queue.SimpleQueue[tuple[Segment, list[Frame], list[Told]] | None] = queue.SimpleQueue()
        self.renew()
        self._thread = threading.Thread(target=self._run, name="group-commit")
        self._thread.start()

    def add(self, recording: Grouped, offset: int, data: bytes, told: Told | None) -> None:
        """Let these lines, which are in the recording's own file, reach the disk with the next group. RecordError
        while there is nothing to write to."""
        if self._segment is None:
            raise RecordError("there is no write-ahead file: the disk did not take the last one")
        self._frames.append(Frame(recording.file, offset, data))
        self._new[recording] = None
        if told is not None:
            self._waiting.append(told)
        self._ask()

    def _ask(self) -> None:
        if not self._asked and not self._busy:
            self._asked = True
            self._turns.soon(self._start)

    def _start(self) -> None:
        self._asked = False
        frames, waiting, new = self._frames, self._waiting, self._new
        self._frames, self._waiting, self._new = [], [], {}
        if self._segment is None:
            for told in waiting:  # their recordings are stopped
                told()
            return
        segment = self._fresh(self._segment)
        self._dirty.update(new)
        self._busy = True
        self._work.put((segment, frames, waiting))

    def _fresh(self, segment: Segment) -> Segment:
        """The segment for the next frames. Where this one is full it is the other, and the recordings with frames in
        this one are synced themselves, so that it can be written again."""
        spare = self._spare
        if segment.used < self._size or spare is None:
            return segment
        self._segment, self._spare = spare, None
        dirty, self._dirty = list(self._dirty), {}

        def sync() -> None:
            for recording in dirty:
                recording.sync()

        def synced(result: RecordError | None) -> None:
            if isinstance(result, RecordError):
                self._retired.append(segment)
                self.broken(str(result))
            elif self._segment is None:  # broken meanwhile
                segment.close(remove=True)
            else:
                segment.restart()
                self._spare = segment

        self._keeper.do(sync, synced)
        return spare

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            segment, frames, waiting = work
            error: str | None = None
            try:
                segment.write(frames)
            except OSError as cause:
                error = str(files.record_error("write", segment.path, cause))
            except Exception as bug:
                error = f"group commit: {bug!r}"
            self._turns.back(lambda waiting=waiting, error=error: self._done(waiting, error))  # type: ignore[misc]

    def _done(self, waiting: list[Told], error: str | None) -> None:
        self._busy = False
        self.syncs += 1
        if error is not None:
            self.broken(error)
        self._let_go()
        for told in waiting:
            told()
        if self._frames:
            self._ask()

    def broken(self, reason: str) -> None:
        """The disk did not take something: nothing more goes to these files, and all sessions end."""
        self._retired += [segment for segment in (self._segment, self._spare) if segment is not None]
        self._segment = self._spare = None
        self._dirty.clear()
        self._let_go()
        self._fail(reason)

    def _let_go(self) -> None:
        """Close what is not written any more; `ahead.complete` reads it when the recordings are let go of."""
        if not self._busy:
            for segment in self._retired:
                segment.close(remove=False)
            self._retired.clear()

    def renew(self) -> None:
        """Have a write-ahead file to write to. RecordError."""
        if self._segment is not None:
            return
        made: list[Segment] = []
        try:
            while len(made) < 2:
                self._made += 1
                # The name may be taken: process ids come again, in containers at every start.
                with contextlib.suppress(FileExistsError):
                    made.append(Segment(self._directory, f"{os.getpid()}-{self._made}", self._size))
        except OSError as cause:
            for segment in made:
                segment.close(remove=True)
            raise files.record_error("make write-ahead files in", self._directory, cause) from cause
        self._segment, self._spare = made

    def close(self, *, whole: bool) -> None:
        """End, when nothing waits any more. `whole`: every recording is synced and sealed, so no frame is needed."""
        self._work.put(None)
        self._thread.join()
        self._busy = False
        self._let_go()
        for segment in (self._segment, self._spare):
            if segment is not None:
                segment.close(remove=whole)
        self._segment = self._spare = None
