"""What a recordings folder wants again and again, whoever serves: checkpoints, packing, deleting what is too old.

One process of an installation does it, in a thread: nothing here may run on a loop. Must not know sessions. Invariant:
a round that fails says why and leaves everything as it was or further on; the next one goes on.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from recorder import retention
from recorder.entries import Stored
from recorder.files import RecordError
from recorder.pack import Form, Packer, StoppedError
from recorder.retention import Candidate
from recorder.treelog import Ship, TreeLog

PATIENCE = 60.0
"""Seconds from a seal to its compression: what has just ended is what people look at. Encryption does not wait."""
PRUNE_EVERY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Done:
    """What one round did."""

    checkpoint: bytes | None
    packed: list[Stored]
    deleted: list[Candidate]


class Upkeep:
    """Keeps one folder. `retain`: seconds, or None for ever. `ship` gets each new checkpoint (in the same thread)."""

    def __init__(
        self,
        directory: Path,
        *,
        form: Form,
        retain: float | None,
        now: Callable[[], datetime],
        ship: Ship | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._retain = retain
        self._now = now
        self._ship = ship
        self._stop = threading.Event()
        self._tree = TreeLog(self._directory)
        self._packer = Packer(
            self._directory, form, now, delay=0.0 if form.recipients else PATIENCE, stopped=self._stop.is_set
        )
        self._pruned: datetime | None = None

    def round(self) -> Done:
        """Everything that is due. OSError, RecordError."""
        try:
            packed = self._packer.round()
        except StoppedError:
            packed = []
        deleted = self._prune()
        checkpoint = self._tree.round(self._now())
        if checkpoint is not None and self._ship is not None:
            self._ship(checkpoint)
        return Done(checkpoint, packed, deleted)

    def stop(self) -> None:
        """Let a round that runs in another thread end soon."""
        self._stop.set()

    def last_words(self) -> None:
        """The end of the log as a server leaves it. Never raises: the next server writes a checkpoint too."""
        self._stop.set()
        with contextlib.suppress(OSError, RecordError):
            self.round()

    def _prune(self) -> list[Candidate]:
        if self._retain is None or self._stop.is_set():
            return []
        now = self._now()
        if self._pruned is not None and now - self._pruned < PRUNE_EVERY:
            return []
        self._pruned = now
        why = f"recording.retention is {self._retain:.0f} s"
        deleted, _ = retention.prune(self._directory, self._now, self._retain, why=why, by="daypass")
        return deleted
