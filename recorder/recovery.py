"""Finishing what a dead writer left: what only its write-ahead file has is put in, half lines are cut aside, and the
file is sealed as `interrupted`.

Runs at a server's start, again and again while it lives (another process of the installation may have died), and for a
recording whose write failed once writing works again. Must not judge: a file that somebody changed is sealed as it
lies, and `verify` finds the change in its chain or in a checkpoint of the node log.
Invariants: no whole line is ever dropped, and a file that a living process holds is not touched.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recorder import ahead, chain, files
from recorder.events import Recovered, encode
from recorder.nodelog import Follower, NodeLog, Opened, Seal

ADOPTABLE = 1
"""Lines that a recording may hold before the node log names it: only its first. Nothing was forwarded for it yet."""

DIED = "the writer died before the end of the session"

PATIENCE = 0.05
"""Seconds to wait for somebody who only looks whether a recording is held."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What was done to one recording."""

    id: str
    file: str
    state: str
    lines: int
    torn: int

    def __str__(self) -> str:
        torn = f", {self.torn} torn bytes cut aside" if self.torn else ""
        return f"recording {self.id} was left open and is now {self.state}: {self.lines} lines{torn}"


class Strays:
    """The recordings that the node log leaves open, and whose writers are gone."""

    def __init__(self, directory: Path, node: NodeLog, now: Callable[[], datetime]) -> None:
        self._directory = directory
        self._node = node
        self._now = now
        self._log = Follower(node.path)
        self._completed: dict[str, int] = {}
        """How many bytes came from write-ahead files, by path."""

    def first(self) -> list[Finished]:
        """Finish every recording of a dead writer, also those that died before the log named them. RecordError."""
        try:
            # By id, too: the beginning of a sealed recording, put elsewhere, must not be sealed in its place.
            known = {entry.id for entry in self._log.news() if isinstance(entry, Opened)}
        except OSError as cause:
            raise files.record_error("read", self._node.path, cause) from cause
        for file in files.session_files(self._directory):
            session = Path(file).stem
            if session in known or not _adoptable(self._directory / file):
                continue  # a longer file that the log does not know was put there by another hand: verify reports it
            if not files.held(self._directory / file):
                self._node.append([(self._now(), Opened(id=session, file=file, first=chain.GENESIS))])
        return self.again()

    def again(self, ours: Container[str] = ()) -> list[Finished]:
        """Finish what the log names and nobody holds any more; `ours` need not be looked at. RecordError."""
        self._complete()
        # A missing one stays open in the log, so that verify goes on reporting it.
        left = [(id_, self._directory / file) for id_, file in self._log.unsealed.items() if id_ not in ours]
        dead = [id_ for id_, path in left if path.exists() and not files.held(path)]
        return [finished for id_ in dead if (finished := self.finish(id_)) is not None]

    def finish(self, session: str) -> Finished | None:
        """Finish one recording; None where its writer lives, or another process has done it. RecordError."""
        self._complete()
        file = self._log.unsealed.get(session)
        if file is None:
            return None
        path = self._directory / file
        try:
            with contextlib.ExitStack() as closing:
                fd = os.open(path, os.O_RDWR | os.O_APPEND)
                closing.callback(os.close, fd)
                if not files.hold(fd, patience=PATIENCE):
                    return None
                self._update()  # whoever held it until now sealed it before letting go
                if session not in self._log.unsealed:
                    return None
                return _finish(fd, path, session, file, self._node, self._now(), self._completed.pop(file, 0))
        except OSError as cause:
            raise files.record_error("recover", path, cause) from cause

    def _complete(self) -> None:
        self._update()
        self._completed.update(ahead.complete(self._directory, set(self._log.unsealed.values())))

    def _update(self) -> None:
        try:
            self._log.update()
        except OSError as cause:
            raise files.record_error("read", self._node.path, cause) from cause


def _finish(fd: int, path: Path, session: str, file: str, node: NodeLog, at: datetime, completed: int) -> Finished:
    """Cut, note and seal one recording that this process holds."""
    _from_disk(fd)
    tail = chain.read_tail(fd, os.fstat(fd).st_size)
    state = "sealed" if tail.event == "session.end" and not tail.torn else "interrupted"
    head, size = tail.head, tail.whole
    if state == "interrupted":
        head, size = _note(fd, path, tail, at, completed)
    os.fsync(fd)
    whole = hashlib.sha256()
    for start in range(0, size, 1 << 20):
        whole.update(os.pread(fd, min(1 << 20, size - start), start))
    seal = Seal(
        id=session, file=file, state=state, lines=head.seq, last=head.hash, bytes=size, sha256=whole.hexdigest()
    )
    node.append([(at, seal)])
    return Finished(session, file, state, head.seq, len(tail.torn))


def _from_disk(fd: int) -> None:
    """Sync the file, and let the next read see what the disk has: after a sync that failed in its writer's hands, the
    system may keep and show what was never written, and say that it was."""
    os.fsync(fd)
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _note(fd: int, path: Path, tail: chain.Tail, at: datetime, completed: int) -> tuple[chain.Head, int]:
    """Cut the torn line aside and add the line that says so; the new end and size. A `recovered` line of an earlier
    attempt is enough."""
    if not tail.torn and tail.event == "recovered":
        return tail.head, tail.whole
    name = files.cut_aside(fd, path, offset=tail.whole, torn=tail.torn) if tail.torn else None
    event = Recovered(
        detail=DIED + (f"; {completed} bytes were taken from its write-ahead file" if completed else ""),
        offset=tail.whole,
        bytes=len(tail.torn),
        sha256=hashlib.sha256(tail.torn).hexdigest() if tail.torn else None,
        file=name,
    )
    line = chain.compose(tail.head.seq + 1, chain.stamp(at), tail.head.hash, encode(event))
    files.write_all(fd, line + b"\n")
    return chain.Head(tail.head.seq + 1, chain.digest(line)), tail.whole + len(line) + 1


def _adoptable(path: Path) -> bool:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError):  # verify reports it
        return False
    with file:
        return sum(1 for _ in zip(range(ADOPTABLE + 1), file, strict=False)) <= ADOPTABLE
