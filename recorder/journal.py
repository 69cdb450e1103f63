"""Writing: the recorder of one server, and the recordings of its sessions.

`append` chains an event into memory and does no I/O; `flush` is one `write`. The caller flushes a statement before it
forwards it. Must not know sockets, policies or grants. Invariants: what `flush` returned for is in the file; after a
failed write a recording never writes again; and a recording that cannot be sealed is finished by `recovery`, at the
next probe that succeeds or at the next start.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from recorder import chain, files, recovery
from recorder.events import Event, SessionEnd, SessionStart, encode
from recorder.files import RecordError
from recorder.forms import Stamps
from recorder.nodelog import At, Checkpoint, NodeLog, Opened, Seal
from recorder.recovery import Finished
from recorder.shared import Installation

__all__ = ["FREE_FLOOR", "InstallationRecording", "RecordError", "Recorder", "Recording", "append_installation"]

FREE_FLOOR = 64 << 20
"""Bytes that must be free for `Recorder.healthy`: room to end the open sessions in order."""

_sha256 = hashlib.sha256


class Recording:
    """One session's file while it is written."""

    __slots__ = (
        "_digest",
        "_fd",
        "_flushed",
        "_flushed_hash",
        "_lines",
        "_noted",
        "_prev",
        "_recorder",
        "_seq",
        "_size",
        "broken",
        "file",
        "id",
        "path",
    )

    def __init__(self, recorder: "Recorder", session: str, file: str, fd: int) -> None:
        self.id = session
        self.file = file
        self.path = recorder.directory / file
        self.broken: str | None = None
        """Why nothing more can be recorded here; None while all is well."""
        self._recorder = recorder
        self._fd = fd
        self._seq = 0
        self._prev = chain.GENESIS
        self._lines: list[bytes] = []
        self._digest = hashlib.sha256()
        self._size = 0
        self._flushed = 0
        self._flushed_hash = chain.GENESIS
        self._noted = 1  # the first line is in the `open` entry

    def append(self, event: Event) -> None:
        """Chain the event into the buffer; no I/O. RecordError when the recording is broken or closed."""
        self.append_encoded(encode(event))

    def append_encoded(self, body: bytes) -> None:
        """As `append`, for an event that is JSON already (`encode`, `Form.fill`)."""
        if self._fd < 0 or self.broken is not None:
            raise RecordError(self.broken or f"recording {self.id} is closed")
        recorder = self._recorder
        line = chain.compose(self._seq + 1, recorder.stamp(), self._prev, body)
        self._prev = _sha256(line).hexdigest()
        self._seq += 1
        if not self._lines:
            recorder.waiting.add(self)
        self._lines.append(line)

    def flush(self) -> None:
        """Write the buffer. RecordError: it may be in the file in part, and the recording is broken for ever."""
        if self.broken is not None:
            raise RecordError(self.broken)
        lines = self._lines
        if not lines:
            return
        lines.append(b"")
        buffer = b"\n".join(lines)
        lines.clear()
        try:
            files.write_all(self._fd, buffer)
            if self._recorder.sync:
                os.fdatasync(self._fd)
        except OSError as cause:
            error = files.record_error("write", self.path, cause)
            self.spoil(error)
            raise error from cause
        self._digest.update(buffer)
        self._size += len(buffer)
        self._flushed = self._seq
        self._flushed_hash = self._prev
        self._recorder.waiting.discard(self)

    def close(self, end: SessionEnd) -> None:
        """Last line, flush, seal. Raises RecordError at most once: when this very call could not finish the
        recording."""
        if self._fd < 0:
            return
        told = self.broken is not None
        try:
            if not told:
                self.append(end)
                self.flush()
            self._recorder.finish(self, "sealed")
        except RecordError:
            if not told:
                raise

    def spoil(self, error: RecordError) -> None:
        """Break the recording and tell the recorder."""
        self.broken = str(error)
        self._lines.clear()
        self._recorder.waiting.discard(self)
        self._recorder.fail(self.broken)

    def check(self) -> None:
        """Break the recording if its file is no longer the one that was written: deleted, replaced, cut or grown by
        another hand."""
        if self.broken is not None or self._fd < 0:
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
        os.close(self._fd)
        self._fd = -1


class InstallationRecording:
    """The installation's own recording as a server uses it: `append` and `flush` as on a session's."""

    id = Installation.id

    def __init__(self, recorder: "Recorder") -> None:
        self._recorder = recorder
        self._file = Installation(recorder.directory, sync=recorder.sync)
        self._head = chain.START
        self._noted = 0
        self.path = self._file.path

    def append(self, event: Event) -> None:
        """Keep the event for the next flush; no I/O."""
        self._file.add(event, self._recorder.now())
        self._recorder.waiting.add(self)

    def flush(self) -> None:
        """Write what waits, chained behind whatever other processes wrote. RecordError: it is not recorded."""
        self._recorder.waiting.discard(self)
        try:
            self._head = self._file.flush(self._recorder.now())
        except RecordError as error:
            self._recorder.fail(str(error))
            raise

    def check(self) -> None:
        """Read the end anew (other processes write too), and see that the file still lies under its name."""
        if not self._file.in_place():
            self._recorder.fail(f"{self.path} was moved or deleted")
            self.close()
            self._file = Installation(self._recorder.directory, sync=self._recorder.sync)
        with contextlib.suppress(RecordError):
            self.flush()

    def news(self) -> At | None:
        """As `Recording.news`."""
        if self._head.seq == self._noted:
            return None
        self._noted = self._head.seq
        return At(self.id, self._head.seq, self._head.hash)

    def close(self) -> None:
        self._file.close()


class Recorder:
    """Writes the session recordings of one process. Constructing it takes the folder's lock, makes or loads the signing
    key, and finishes what dead writers left open (`recovered` says what was done). RecordError when any of it fails.

    durability: `write` survives the death of the process; `fsync` also a power cut (each flush waits for the disk).
    now: aware time in UTC; microseconds: the same since 1970, a quicker way to it where there is one.
    fatal: called with the reason when the record turns unwritable. lock: whether this process takes the folder; not,
    where its supervisor holds it for several.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durability: str = "write",
        now: Callable[[], datetime],
        fatal: Callable[[str], None] | None = None,
        free_floor: int = FREE_FLOOR,
        microseconds: Callable[[], int] | None = None,
        lock: bool = True,
    ) -> None:
        if durability not in ("write", "fsync"):
            raise ValueError(f"durability is write or fsync, not {durability!r}")
        self.directory = directory.absolute()
        self.sync = durability == "fsync"
        self.now = now
        self.stamp = Stamps(microseconds).now if microseconds is not None else lambda: chain.stamp(now())
        self.waiting: set[Recording | InstallationRecording] = set()
        self._fatal = fatal
        self._floor = free_floor
        self._fault: str | None = None
        self._closed = False
        self._open: dict[str, Recording] = {}
        self._unfinished: set[str] = set()
        self._lock: files.FolderLock | None = None
        try:
            files.make_folder(self.directory)
        except OSError as cause:
            raise files.record_error("create", self.directory, cause) from cause
        with contextlib.ExitStack() as undo:
            if lock:
                self._lock = files.FolderLock(self.directory)
                undo.callback(self._lock.close)
            self._node = NodeLog(self.directory, sync=self.sync)
            undo.callback(self._node.close)
            self._node.start(now())
            self._strays = recovery.Strays(self.directory, self._node, now)
            self.recovered = self._strays.first()
            self._installation = InstallationRecording(self)
            undo.pop_all()
        self.probe()

    def open(self, session: str, start: SessionStart) -> Recording:
        """A new recording, its first line written and named in the node log. RecordError when it cannot be;
        ValueError for a bad id."""
        file = files.session_file(session, self.now())
        path = self.directory / file
        try:
            files.make_folder(path.parent)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as refused:
            error = files.record_error("create", path, refused)
            if not isinstance(refused, FileExistsError):
                self.fail(str(error))
            raise error from refused
        if not files.hold(fd) or os.fstat(fd).st_size:  # somebody's recovery came between the last line and this one
            os.close(fd)
            raise RecordError(f"{path} was taken by another process")
        recording = Recording(self, session, file, fd)
        try:
            recording.append(start)
            recording.flush()
            if self.sync:
                files.sync_folder(path.parent)
            self._node.append([(self.now(), Opened(id=session, file=file, first=recording.head.hash))])
        except (RecordError, OSError) as cause:
            recording.release()
            with contextlib.suppress(
                OSError
            ):  # nothing was forwarded under it; left over, it is adopted as interrupted
                path.unlink()
            self.fail(str(cause))
            raise cause if isinstance(cause, RecordError) else files.record_error("sync", path, cause) from cause
        self._open[session] = recording
        return recording

    def installation(self) -> InstallationRecording:
        """The recording of grants and refused logins; the command line writes to the same file
        (`append_installation`)."""
        return self._installation

    def healthy(self) -> bool:
        """Whether sessions can be recorded, as far as the last write or probe knows. Costs nothing."""
        return self._fault is None

    @property
    def fault(self) -> str | None:
        """Why `healthy` is false."""
        return self._fault

    def probe(self) -> None:
        """Try for real: free space, a file written and removed, the node log in its place, broken recordings
        finished."""
        try:
            space = os.statvfs(self.directory)
            if space.f_bavail * space.f_frsize < self._floor:
                raise RecordError(f"less than {self._floor >> 20} MiB free in {self.directory}")
            self._try_write()
            if not self._node.in_place():
                raise RecordError(f"the node log in {self.directory} was moved or deleted; start again")
            for session in list(self._unfinished):
                self._strays.finish(session)
                self._unfinished.discard(session)
        except OSError as cause:
            self.fail(str(files.record_error("write in", self.directory, cause)))
        except RecordError as error:
            self.fail(str(error))
        else:
            self._fault = None

    def _try_write(self) -> None:
        probe = self.directory / files.PROBE
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            files.write_all(fd, b"\0" * 4096)
            if self.sync:
                os.fdatasync(fd)
        finally:
            os.close(fd)
            probe.unlink(missing_ok=True)  # two processes of one installation may try at once

    def flush_all(self) -> None:
        """Write what waits in all recordings. Never raises: a recording that fails is broken, and its session learns
        it there."""
        for recording in list(self.waiting):
            with contextlib.suppress(RecordError):
                recording.flush()

    def checkpoint(self) -> list[Finished]:
        """Enter the ends of the recordings that grew in the node log, look that all files are still there, and finish
        what other processes left open when they died; what was finished. Never raises."""
        self.probe()
        for recording in list(self._open.values()):
            recording.check()
        self._installation.check()
        try:
            self._checkpoint()
            return self._strays.again(self._open)
        except RecordError as error:
            self.fail(str(error))
            return []

    def _checkpoint(self) -> None:
        growing: list[Recording | InstallationRecording] = [*self._open.values(), self._installation]
        heads = [head for recording in growing if (head := recording.news())]
        if heads:
            self._node.append([(self.now(), Checkpoint(heads=heads))])

    def finish(self, recording: Recording, state: str) -> None:
        """Seal a recording whose last line is written; one that is broken is left for recovery. RecordError when it
        cannot be sealed now."""
        self._open.pop(recording.id, None)
        try:
            if recording.broken is not None:
                self._unfinished.add(recording.id)
            else:
                self._node.append([(self.now(), recording.seal(state))])
        except RecordError as error:
            self._unfinished.add(recording.id)
            self.fail(str(error))
            raise
        finally:
            # In this order: what nobody holds and nobody sealed is the file of a dead writer.
            recording.release()

    def fail(self, reason: str) -> None:
        """Turn unhealthy; tell `fatal` once per fault."""
        fresh, self._fault = self._fault is None, reason
        if fresh and self._fatal is not None:
            self._fatal(reason)

    def let_go(self) -> None:
        """Let another server take the folder. The recordings that are open here stay ours until they end; no new one
        may be opened."""
        if self._lock is not None:
            self._lock.close()

    def close(self) -> None:
        """Write what waits, seal recordings that nobody closed as interrupted, let the folder go. Never raises; may
        be called twice."""
        if self._closed:
            return
        self._closed = True
        self.flush_all()
        for recording in list(self._open.values()):
            with contextlib.suppress(RecordError):
                self.finish(recording, "interrupted")
        with contextlib.suppress(RecordError):
            self._checkpoint()
        self._installation.close()
        self._node.close()
        self.let_go()


def append_installation(directory: Path, event: Event, now: Callable[[], datetime]) -> None:
    """Record a grant's step from any process, at once and on the disk, whether a server runs or not. RecordError: it
    is not recorded, and the step must not happen."""
    directory = directory.absolute()
    with contextlib.ExitStack() as closing:
        node = NodeLog(directory, sync=True)
        closing.callback(node.close)
        file = Installation(directory, sync=True)
        closing.callback(file.close)
        file.add(event, now())
        head = file.flush(now())
        node.append([(now(), Checkpoint(heads=[At(Installation.id, head.seq, head.hash)]))])
