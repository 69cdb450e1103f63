"""One recording while it is written: a session's, and the installation's own as a server uses it.

`append` chains an event into memory and does no I/O; `flush` writes, and with `fsync` waits for the disk; `commit` is
`flush` that lets the disk take its time. Must not know sockets, policies or grants. Invariants: what `flush` returned
for, or `commit` told of, is as safe as `durability` says; a recording that is `broken` lets nothing more be forwarded,
and writes no more than its end; after a failed write or sync it writes nothing.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from recorder import chain, files
from recorder.events import Event, SessionEnd, encode
from recorder.files import RecordError
from recorder.group import Group, Keeper
from recorder.nodelog import At, Seal
from recorder.shared import Installation

_sha256 = hashlib.sha256


class Common:
    """What the recordings of one process share. `full` is called when the disk is: whether room was made; `finish`
    seals and lets go; `fail` turns unhealthy."""

    def __init__(
        self,
        directory: Path,
        *,
        sync: bool,
        now: Callable[[], datetime],
        stamp: Callable[[], bytes],
        full: Callable[[str], bool],
        finish: Callable[["Recording", str], None],
        fail: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.sync = sync
        self.now = now
        self.stamp = stamp
        self.full = full
        self.finish = finish
        self.fail = fail
        self.group: Group | None = None
        self.keeper: Keeper | None = None
        self.waiting: set[Recording | InstallationRecording] = set()


class Recording:
    """One session's file while it is written."""

    __slots__ = (
        "_closed",
        "_common",
        "_digest",
        "_ending",
        "_fd",
        "_flushed",
        "_flushed_hash",
        "_lines",
        "_noted",
        "_prev",
        "_seq",
        "_size",
        "broken",
        "dead",
        "file",
        "id",
        "path",
    )

    def __init__(self, common: Common, session: str, file: str, fd: int) -> None:
        self.id = session
        self.file = file
        self.path = common.directory / file
        self.broken: str | None = None
        """Why nothing more may be forwarded here; None while all is well."""
        self.dead = False
        """Whether not even its end can be written: recovery will finish it."""
        self._common = common
        self._fd = fd
        self._seq = 0
        self._prev = chain.GENESIS
        self._lines: list[bytes] = []
        self._digest = hashlib.sha256()
        self._size = 0
        self._flushed = 0
        self._flushed_hash = chain.GENESIS
        self._noted = 1  # the first line is in the `open` entry
        self._ending = self._closed = False

    def begin(self, start: Event) -> None:
        """Write the first line. RecordError."""
        self.append(start)
        self._write()

    def append(self, event: Event) -> None:
        """Chain the event into the buffer; no I/O. RecordError when the recording is dead or closed."""
        self.append_encoded(encode(event))

    def append_encoded(self, body: bytes) -> None:
        """As `append`, for an event that is JSON already (`encode`, `Form.fill`)."""
        if self._closed or self.dead:
            raise RecordError(self.broken or f"recording {self.id} is closed")
        common = self._common
        line = chain.compose(self._seq + 1, common.stamp(), self._prev, body)
        self._prev = _sha256(line).hexdigest()
        self._seq += 1
        if not self._lines:
            common.waiting.add(self)
        self._lines.append(line)

    def flush(self) -> None:
        """Write the buffer. RecordError: it may be in the file in part, and nothing may be forwarded any more."""
        if self.broken is not None:
            raise RecordError(self.broken)
        if self._lines:
            self._write()
            if self._common.sync:
                self.sync()

    def commit(self, told: Callable[[], None] | None = None) -> bool:
        """As `flush`; False where the lines are still on their way to the disk. Then `told` is called when they are
        there, or when the recording is `broken` because they never will be."""
        group = self._common.group
        if group is None:
            self.flush()
            return True
        if self.broken is not None:
            raise RecordError(self.broken)
        if not self._lines:
            return True
        offset = self._size
        try:
            group.add(self, offset, self._write(), told)
        except RecordError as error:
            self.stop(str(error))
            raise
        return False

    def _write(self) -> bytes:
        lines = self._lines
        lines.append(b"")
        buffer = b"\n".join(lines)
        lines.clear()
        full: RecordError | None = None
        try:
            files.write_all(self._fd, buffer)
        except OSError as cause:
            full = files.record_error("write", self.path, cause)
            if cause.errno not in files.FULL or not self._common.full(str(full)) or not self._write_again(buffer):
                self.spoil(full)
                raise full from cause
        self._digest.update(buffer)
        self._size += len(buffer)
        self._flushed = self._seq
        self._flushed_hash = self._prev
        self._common.waiting.discard(self)
        if full is not None and not self._ending:
            raise full  # recorded, and told to nobody
        return buffer

    def _write_again(self, buffer: bytes) -> bool:
        """The disk was full and room was made: write anew what may have been written in part."""
        try:
            os.ftruncate(self._fd, self._size)
            files.write_all(self._fd, buffer)
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Its file to the disk; nothing where it is let go of. RecordError: the recording is dead, because a sync that
        is tried again after a failure says yes to what was lost."""
        if self._fd < 0 or self.dead:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as cause:
            error = files.record_error("sync", self.path, cause)
            if self._common.keeper is None:
                self.spoil(error)
            else:  # this is its thread; whoever asked tells the recorder
                self.stop(str(error))
                self.dead = True
            raise error from cause

    def close(self, end: SessionEnd) -> None:
        """Last line, flush, seal. Raises RecordError at most once: when this very call could not finish the
        recording."""
        if self._closed:
            return
        told = self.dead
        self._ending = True
        try:
            if not told:
                self.append(end)
                self._write()
        except RecordError:
            self._closed = True
            with contextlib.suppress(RecordError):
                self._common.finish(self, "sealed")
            raise
        self._closed = True
        self._common.finish(self, "sealed")

    def stop(self, reason: str) -> None:
        """Nothing more may be forwarded here; its end can still be written."""
        if self.broken is None:
            self.broken = reason

    def spoil(self, error: RecordError) -> None:
        """The file is not to be trusted any more: break the recording and tell the recorder."""
        self.stop(str(error))
        self.dead = True
        self._lines.clear()
        self._common.waiting.discard(self)
        self._common.fail(str(error))

    def check(self) -> None:
        """Break the recording if its file is no longer the one that was written: deleted, replaced, cut or grown by
        another hand."""
        if self.dead or self._fd < 0:
            return
        try:
            here, there = os.fstat(self._fd), self.path.stat()
        except OSError as cause:
            return self.spoil(files.record_error("find", self.path, cause))
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) or here.st_size != self._size:
            self.spoil(RecordError(f"{self.path} was changed by another hand"))

    @property
    def head(self) -> chain.Head:
        """The end of what is written."""
        return chain.Head(self._flushed, self._flushed_hash)

    def news(self) -> At | None:
        """The end of what is written, if it moved since the last call."""
        if self._flushed == self._noted:
            return None
        self._noted = self._flushed
        return At(self.id, self._flushed, self._flushed_hash)

    def seal(self, state: str) -> Seal:
        """What the node log is to say of it."""
        return Seal(
            id=self.id,
            file=self.file,
            state=state,
            lines=self._flushed,
            last=self._flushed_hash,
            bytes=self._size,
            sha256=self._digest.hexdigest(),
        )

    def release(self) -> None:
        """Close the file, and so let it go: from here on it is sealed, or anybody's to recover."""
        self._closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class InstallationRecording:
    """The installation's own recording as a server uses it: `append` and `flush` as on a session's."""

    id = Installation.id

    def __init__(self, common: Common) -> None:
        self._common = common
        self._file = Installation(common.directory, sync=common.sync)
        self._waiting: list[tuple[datetime, Event]] = []
        self._head = chain.START
        self._noted = 0
        self.path = self._file.path

    def append(self, event: Event) -> None:
        """Keep the event for the next flush; no I/O."""
        self._waiting.append((self._common.now(), event))
        self._common.waiting.add(self)

    def flush(self) -> None:
        """Write what waits, chained behind whatever other processes wrote. RecordError: it is not recorded."""
        common = self._common
        common.waiting.discard(self)
        waiting, self._waiting = self._waiting, []
        now = common.now()
        try:
            self._head = self._file.write(waiting, now)
        except RecordError as error:
            common.fail(str(error))
            raise

    def commit(self) -> None:
        """As `flush`; with group commit it only is on its way, and an error turns the recorder unhealthy."""
        common = self._common
        if common.keeper is None:
            self.flush()
            return
        common.waiting.discard(self)
        waiting, self._waiting = self._waiting, []
        now = common.now()
        common.keeper.do(lambda: self._file.write(waiting, now), self._written)

    def _written(self, result: chain.Head | RecordError) -> None:
        if isinstance(result, RecordError):
            self._common.fail(str(result))
        else:
            self._head = result

    def check(self) -> None:
        """Read the end anew (other processes write too), and see that the file still lies under its name."""
        if not self._file.in_place():
            self._common.fail(f"{self.path} was moved or deleted")
            old, self._file = self._file, Installation(self._common.directory, sync=self._common.sync)
            if self._common.keeper is None:
                old.close()
            else:
                self._common.keeper.do(old.close, lambda _: None)
        with contextlib.suppress(RecordError):
            self.commit()

    def news(self) -> At | None:
        """As `Recording.news`."""
        if self._head.seq == self._noted:
            return None
        self._noted = self._head.seq
        return At(self.id, self._head.seq, self._head.hash)

    def close(self) -> None:
        self._file.close()
