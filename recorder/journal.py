"""Writing: the recorder of one server. It opens, checkpoints and seals recordings, and knows whether it can.

The caller flushes or commits a statement before it forwards it (`recording`). With `turns` and `fsync` nothing here
waits for the disk in the caller's thread: `group` does. Must not know sockets, policies or grants. Invariants: a
recording is named in the node log before its first statement; one that cannot be sealed is finished by `recovery`, at
the next probe that succeeds or at the next start; and when the disk is full the reserve is for the ends of sessions.
"""

import contextlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from recorder import chain, files, recovery, reserve
from recorder.entries import NodeEntry
from recorder.events import Event, SessionStart
from recorder.files import RecordError
from recorder.forms import Stamps
from recorder.group import Group, Keeper, Turns
from recorder.nodelog import At, Checkpoint, NodeLog, Opened
from recorder.recording import Common, InstallationRecording, Recording
from recorder.recovery import Finished
from recorder.reserve import Reserve
from recorder.shared import Installation

__all__ = [
    "FREE_FLOOR",
    "InstallationRecording",
    "RecordError",
    "Recorder",
    "Recording",
    "Turns",
    "append_installation",
]

T = TypeVar("T")

FREE_FLOOR = 64 << 20
"""Bytes that must be free for `Recorder.healthy`: room to end the open sessions in order."""


class Recorder:
    """Writes the session recordings of one process. Constructing it takes the folder's lock, makes or loads the signing
    key, and finishes what dead writers left open (`recovered` says what was done). RecordError when any of it fails.

    durability: `write` survives the death of the process; `fsync` also a power cut (each flush waits for the disk).
    now: aware time in UTC; microseconds: the same since 1970, a quicker way to it where there is one.
    fatal: called with the reason when the record turns unwritable. lock: whether this process takes the folder; not,
    where its supervisor holds it for several. turns: the loop whose sessions share syncs, with `fsync`.
    free_floor: bytes that must be free for a session to begin. reserved: bytes kept for the ends of sessions.
    installation: whose folder it is; another's is refused.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durability: str = "write",
        now: Callable[[], datetime],
        fatal: Callable[[str], None] | None = None,
        free_floor: int = FREE_FLOOR,
        reserved: int = 0,
        microseconds: Callable[[], int] | None = None,
        lock: bool = True,
        turns: Turns | None = None,
        installation: str | None = None,
    ) -> None:
        if durability not in ("write", "fsync"):
            raise ValueError(f"durability is write or fsync, not {durability!r}")
        self.directory = directory.absolute()
        self.sync = durability == "fsync"
        self.now = now
        self._fatal = fatal
        self._floor = free_floor
        self._fault: str | None = None
        self._faults = 0
        self._closed = False
        self._open: dict[str, Recording] = {}
        self._unfinished: set[str] = set()
        self._found: list[Finished] = []
        self._lock: files.FolderLock | None = None
        self._common = Common(
            self.directory,
            sync=self.sync,
            now=now,
            stamp=Stamps(microseconds).now if microseconds is not None else lambda: chain.stamp(now()),
            full=self._full,
            finish=self.finish,
            fail=self.fail,
        )
        self.waiting = self._common.waiting
        self._reserve = Reserve(self.directory, reserved)
        try:
            files.make_folder(self.directory)
        except OSError as cause:
            raise files.record_error("create", self.directory, cause) from cause
        if installation is not None:
            files.claim(self.directory, installation)
        with contextlib.ExitStack() as undo:
            if lock:
                self._lock = files.FolderLock(self.directory)
                undo.callback(self._lock.close)
            self._node = NodeLog(self.directory, sync=self.sync)
            undo.callback(self._node.close)
            self._node.start(now())
            self._strays = recovery.Strays(self.directory, self._node, now)
            self.recovered = self._strays.first()
            self._installation = InstallationRecording(self._common)
            undo.callback(self._installation.close)
            if turns is not None and self.sync:
                self._common.keeper = Keeper(turns)
                undo.callback(self._common.keeper.close)
                self._common.group = Group(self.directory, turns, self._common.keeper, self._stop_all)
            undo.pop_all()
        self.probe()

    # Sessions

    def open(self, session: str, start: SessionStart) -> Recording:
        """A new recording, its first line written and named in the node log. RecordError when it cannot be;
        ValueError for a bad id."""
        recording = self._create(session, start)
        try:
            self._name(recording, self.now())
        except RecordError as error:
            self._drop(recording, error)
            raise
        self._open[session] = recording
        return recording

    def open_soon(self, session: str, start: SessionStart, then: Callable[[Recording | RecordError], None]) -> None:
        """As `open`; `then` gets the recording, at once or when the disk has it, or why there is none."""
        try:
            recording, at = self._create(session, start), self.now()
        except RecordError as error:
            return then(error)

        def named(result: RecordError | None) -> None:
            if isinstance(result, RecordError):
                self._drop(recording, result)
                return then(result)
            self._open[session] = recording
            return then(recording)

        return self._soon(lambda: self._name(recording, at), named)

    def _create(self, session: str, start: SessionStart) -> Recording:
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
        recording = Recording(self._common, session, file, fd)
        try:
            recording.begin(start)
        except RecordError as error:
            self._drop(recording, error)
            raise
        return recording

    def _name(self, recording: Recording, at: datetime) -> None:
        """Make the recording known: its first line on the disk, and its name in the node log. RecordError."""
        if self.sync:
            recording.sync()
            try:
                files.sync_folder(recording.path.parent)
            except OSError as cause:
                raise files.record_error("sync", recording.path.parent, cause) from cause
        self._node.append([(at, Opened(id=recording.id, file=recording.file, first=recording.head.hash))])

    def _drop(self, recording: Recording, error: RecordError) -> None:
        """Nothing was forwarded under it; left over, it is adopted as interrupted, as it is where the log names it."""
        recording.release()
        if not error.there:
            with contextlib.suppress(OSError):
                recording.path.unlink()
        self.fail(str(error))

    def finish(self, recording: Recording, state: str) -> None:
        """Seal a recording whose last line is written; one that is dead is left for recovery. RecordError when it
        cannot be sealed now; with group commit it is tried soon."""
        self._open.pop(recording.id, None)
        self.waiting.discard(recording)
        if recording.dead:
            self._unfinished.add(recording.id)
            self._soon(recording.release, lambda _: None)
            return
        at = self.now()

        def sealed(result: RecordError | None) -> None:
            if isinstance(result, RecordError):
                self._unfinished.add(recording.id)
                if recording.dead and self._common.group is not None:
                    self._common.group.broken(str(result))
                self.fail(str(result))
                if self._common.keeper is None:
                    raise result

        self._soon(lambda: self._seal(recording, state, at), sealed)

    def _seal(self, recording: Recording, state: str, at: datetime) -> None:
        try:
            if self.sync:
                recording.sync()
            self._enter((at, recording.seal(state)))
        finally:
            # In this order: what nobody holds and nobody sealed is the file of a dead writer.
            recording.release()

    def _enter(self, entry: tuple[datetime, NodeEntry]) -> None:
        """Into the node log, also on a full disk as long as the reserve lasts. RecordError."""
        try:
            self._node.append([entry])
        except RecordError as error:
            if error.there or error.errno not in files.FULL or not self._full(str(error)):
                raise
            self._node.append([entry])

    def _soon(self, work: Callable[[], T], then: Callable[[T | RecordError], None]) -> None:
        """Do `work`, which may wait for the disk."""
        if self._common.keeper is not None:
            return self._common.keeper.do(work, then)
        try:
            result = work()
        except RecordError as error:
            return then(error)
        return then(result)

    def installation(self) -> InstallationRecording:
        """The recording of grants and refused logins; the command line writes to the same file
        (`append_installation`)."""
        return self._installation

    # Health

    def healthy(self) -> bool:
        """Whether sessions can be recorded, as far as the last write or probe knows. Costs nothing."""
        return self._fault is None

    @property
    def fault(self) -> str | None:
        """Why `healthy` is false."""
        return self._fault

    @property
    def free(self) -> int:
        """Bytes that may still be written in the folder; 0 where nobody can say."""
        try:
            return reserve.free(self.directory)
        except OSError:
            return 0

    @property
    def reserved(self) -> int:
        """Bytes that are kept for the ends of sessions."""
        return self._reserve.held

    @property
    def syncs(self) -> int:
        """How many group commits there were."""
        return self._common.group.syncs if self._common.group is not None else 0

    def roomy(self) -> bool:
        """Whether there is room for another session: `free_floor` bytes."""
        return self.free >= self._floor

    def probe(self) -> None:
        """Try for real: free space, a file written and removed, the node log in its place, the reserve, broken
        recordings finished."""
        try:
            if reserve.free(self.directory) < self._floor + self._reserve.missing:
                needed = (self._floor + self._reserve.missing) / (1 << 20)
                raise RecordError(f"less than {needed:g} MiB free in {self.directory}")
            self._try_write()
            if not self._node.in_place():
                raise RecordError(f"the node log in {self.directory} was moved or deleted; start again")
            self._reserve.make()
        except OSError as cause:
            self.fail(str(files.record_error("write in", self.directory, cause)))
        except RecordError as error:
            self.fail(str(error))
        else:
            if self._common.keeper is None or self._fault is not None or self._unfinished:
                faults = self._faults
                self._soon(self._mend, lambda result: self._mended(result, faults))

    def _mend(self) -> None:
        if self._common.group is not None:
            self._common.group.renew()
        for session in list(self._unfinished):
            self._strays.finish(session)
            self._unfinished.discard(session)

    def _mended(self, result: RecordError | None, faults: int) -> None:
        if isinstance(result, RecordError):
            self.fail(str(result))
        elif faults == self._faults:
            self._fault = None

    def _try_write(self) -> None:
        probe = self.directory / files.PROBE
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            files.write_all(fd, b"\0" * 4096)
            if self.sync and self._common.keeper is None:
                os.fdatasync(fd)
        finally:
            os.close(fd)
            probe.unlink(missing_ok=True)  # two processes of one installation may try at once

    def _full(self, reason: str) -> bool:
        """The disk is full: give the reserve back, for the ends of the sessions; whether there was one."""
        if not self._reserve.spend():
            return False
        self._stop_all(reason)
        return True

    def _stop_all(self, reason: str) -> None:
        """No session goes on; each can still record its end."""
        for recording in list(self._open.values()):
            recording.stop(reason)
        self.fail(reason)

    def fail(self, reason: str) -> None:
        """Turn unhealthy; tell `fatal` once per fault."""
        fresh, self._fault = self._fault is None, reason
        self._faults += 1
        if fresh and self._fatal is not None:
            self._fatal(reason)

    # Rounds

    def flush_all(self) -> None:
        """Write what waits in all recordings. Never raises: a recording that fails is broken, and its session learns
        it there."""
        for recording in list(self.waiting):
            with contextlib.suppress(RecordError):
                recording.commit()

    def checkpoint(self) -> list[Finished]:
        """Enter the ends of the recordings that grew in the node log, look that all files are still there, and finish
        what other processes left open when they died; what was finished since the last call. Never raises."""
        self.probe()
        for recording in list(self._open.values()):
            recording.check()
        self._installation.check()
        open_ = [recording for recording in self._open.values() if not recording.dead]
        growing: list[Recording | InstallationRecording] = [*open_, self._installation]
        heads = [head for recording in growing if (head := recording.news())]
        grown, at, ours = {head.id for head in heads}, self.now(), dict(self._open)

        def work() -> list[Finished]:
            if self._common.keeper is not None:  # what a checkpoint names must be in the file, not only ahead of it
                for recording in open_:
                    if recording.id in grown:
                        recording.sync()
            self._checkpoint(heads, at)
            return self._strays.again(ours)

        def done(result: list[Finished] | RecordError) -> None:
            if isinstance(result, list):
                self._found += result
            else:
                if self._common.group is not None and any(recording.dead for recording in open_):
                    self._common.group.broken(str(result))
                self.fail(str(result))

        self._soon(work, done)
        found, self._found = self._found, []
        return found

    def _checkpoint(self, heads: list[At], at: datetime) -> None:
        if heads:
            self._node.append([(at, Checkpoint(heads=heads))])

    # The end

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
        group, keeper = self._common.group, self._common.keeper
        self._common.group = self._common.keeper = None
        if keeper is not None:
            keeper.close()
        self.flush_all()
        for recording in list(self._open.values()):
            with contextlib.suppress(RecordError):
                self.finish(recording, "interrupted")
        if group is not None:
            group.close(whole=not self._unfinished)
        heads = [head] if (head := self._installation.news()) else []
        with contextlib.suppress(RecordError):
            self._checkpoint(heads, self.now())
        self._reserve.close()
        self._installation.close()
        self._node.close()
        self.let_go()


def append_installation(
    directory: Path, event: Event, now: Callable[[], datetime], *, installation: str | None = None
) -> None:
    """Record a grant's step from any process, at once and on the disk, whether a server runs or not. RecordError: it
    is not recorded, and the step must not happen."""
    directory = directory.absolute()
    if installation is not None:
        files.claim(directory, installation)
    with contextlib.ExitStack() as closing:
        node = NodeLog(directory, sync=True)
        closing.callback(node.close)
        file = Installation(directory, sync=True)
        closing.callback(file.close)
        file.add(event, now())
        head = file.flush(now())
        node.append([(now(), Checkpoint(heads=[At(Installation.id, head.seq, head.hash)]))])
