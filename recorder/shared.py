"""A chained file that several processes may append to: the node log and the installation's recording.

Each append holds the file by `flock`, looks whether another process wrote since, reads the chain's end where it did,
and writes whole lines. Must not know what the lines mean. Invariant: under the lock the file ends in a whole line; a
failed append leaves the file as it was, and a line torn by a dead writer is cut aside and said so in the chain.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from recorder import chain, files
from recorder.events import Event, Recovered, encode
from recorder.files import RecordError


class SharedLog:
    """One such file, open for append. `sync`: each append is on the disk (fdatasync) before it returns."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        self.path = path
        self._sync = sync
        self._size = -1
        self._head = chain.START
        try:
            files.make_folder(path.parent)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as cause:
            raise files.record_error("open", path, cause) from cause

    def append(self, events: Sequence[tuple[datetime, Event]]) -> chain.Head:
        """Write the events (at least one), chained to whatever stands last; the new end. RecordError: none of them is
        in the file, or all are and the error is about what lies beside it (`there`)."""
        with files.locked(self._fd, self.path):
            try:
                return self._append(events, events[0][0])
            except OSError as cause:
                self._size = -1
                raise files.record_error("write", self.path, cause) from cause

    def head(self, at: datetime) -> chain.Head:
        """The end of the chain as it stands now, whoever wrote it. A line found torn is cut aside, and said so with
        time `at`."""
        with files.locked(self._fd, self.path):
            try:
                if os.fstat(self._fd).st_size != self._size:
                    self._append((), at)
            except OSError as cause:
                raise files.record_error("read", self.path, cause) from cause
            return self._head

    def in_place(self) -> bool:
        """Whether the open file still is the one under its name (not deleted, moved or replaced)."""
        try:
            here, there = os.fstat(self._fd), self.path.stat()
        except OSError:
            return False
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, events: Sequence[tuple[datetime, Event]], at: datetime) -> chain.Head:
        found: list[Event] = []
        if os.fstat(self._fd).st_size != self._size:
            found = self._catch_up()
        todo = [(at, event) for event in found] + list(events)
        if not todo:
            return self._head
        head, lines = self._head, []
        for when, event in todo:
            line = self._finish(chain.compose(head.seq + 1, chain.stamp(when), head.hash, encode(event)))
            head = chain.Head(head.seq + 1, chain.digest(line))
            lines.append(line + b"\n")
        data = b"".join(lines)
        try:
            files.write_all(self._fd, data)
            if self._sync:
                os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # else the next append cuts the torn line aside
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)
        self._head = head
        try:
            self._written(head)
        except OSError as cause:
            # Nothing is taken back: what lies beside the file may be behind it, and never ahead.
            text = f"cannot write the end of {self.path} beside it: {cause.strerror or cause}"
            raise RecordError(text, errno=cause.errno, there=True) from cause
        return head

    def _catch_up(self) -> list[Event]:
        size = os.fstat(self._fd).st_size
        tail = chain.read_tail(self._fd, size)
        found: list[Event] = []
        if tail.torn:
            name = files.cut_aside(self._fd, self.path, offset=tail.whole, torn=tail.torn)
            found.append(
                Recovered(
                    detail="a writer died in the middle of a line; the half line was cut aside",
                    offset=tail.whole,
                    bytes=len(tail.torn),
                    sha256=hashlib.sha256(tail.torn).hexdigest(),
                    file=name,
                )
            )
        self._head, self._size = tail.head, tail.whole
        return found + self._missing(tail.head)

    def _finish(self, line: bytes) -> bytes:
        """Last change to a composed line before it is hashed and written."""
        return line

    def _missing(self, head: chain.Head) -> list[Event]:
        """What must be said about lines that should be there and are not."""
        del head
        return []

    def _written(self, head: chain.Head) -> None:
        """Called under the lock after each append."""


class Installation:
    """The installation's own recording: grants and refused logins. Same use as a session's recording, safe for
    several processes."""

    id = "installation"

    def __init__(self, directory: Path, *, sync: bool) -> None:
        self._log = SharedLog(directory / files.INSTALLATION, sync=sync)
        self._waiting: list[tuple[datetime, Event]] = []

    @property
    def path(self) -> Path:
        return self._log.path

    def add(self, event: Event, at: datetime) -> None:
        """Keep the event for the next `flush`; no I/O."""
        self._waiting.append((at, event))

    def flush(self, at: datetime) -> chain.Head:
        """Write what waits; the chain's end at time `at`. RecordError: it is not written, and waits no longer; the
        step it records must fail."""
        waiting, self._waiting = self._waiting, []
        return self.write(waiting, at)

    def write(self, events: Sequence[tuple[datetime, Event]], at: datetime) -> chain.Head:
        """As `flush`, of these events."""
        return self._log.append(events) if events else self._log.head(at)

    def in_place(self) -> bool:
        return self._log.in_place()

    def close(self) -> None:
        self._log.close()
