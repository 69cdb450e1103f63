"""Finishing what a dead writer left: half lines are cut aside, and the file is sealed as `interrupted`.

Runs at a server's start, and for a recording whose write failed once writing works again. Must not judge: a file that
somebody changed is sealed as it lies, and `verify` finds the change in its chain or in a checkpoint of the node log.
Invariant: no whole line is ever dropped.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recorder import chain, files
from recorder.events import Recovered, encode
from recorder.nodelog import NodeLog, Opened, Seal, known_files, unsealed

ADOPTABLE = 1
"""Lines that a recording may hold before the node log names it: only its first. Nothing was forwarded for it yet."""


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


def recover_all(directory: Path, node: NodeLog, now: Callable[[], datetime]) -> list[Finished]:
    """Finish every recording that the node log leaves open, and those that died before the log named them.
    RecordError."""
    finished = []
    left = unsealed(node.path)
    known = known_files(node.path)
    for file in files.session_files(directory):
        session = Path(file).stem
        if file in known or session in left or not _adoptable(directory / file):
            continue  # a longer file that the log does not know was put there by another hand: verify reports it
        node.append([(now(), Opened(id=session, file=file, first=chain.GENESIS))])
        left[session] = file
    for session, file in left.items():
        if (directory / file).exists():  # a missing one stays open in the log, so that verify goes on reporting it
            finished.append(recover(directory, node, session, file, now()))
    return finished


def recover(directory: Path, node: NodeLog, session: str, file: str, at: datetime) -> Finished:
    """Cut, note and seal one recording. RecordError when that cannot be written."""
    path = directory / file
    try:
        with contextlib.ExitStack() as closing:
            fd = os.open(path, os.O_RDWR | os.O_APPEND)
            closing.callback(os.close, fd)
            tail = chain.read_tail(fd, os.fstat(fd).st_size)
            state = "sealed" if tail.event == "session.end" and not tail.torn else "interrupted"
            head, size = tail.head, tail.whole
            if state == "interrupted":
                head, size = _note(fd, path, tail, at)
            os.fsync(fd)
            whole = hashlib.sha256()
            for start in range(0, size, 1 << 20):
                whole.update(os.pread(fd, min(1 << 20, size - start), start))
    except OSError as cause:
        raise files.record_error("recover", path, cause) from cause
    seal = Seal(
        id=session, file=file, state=state, lines=head.seq, last=head.hash, bytes=size, sha256=whole.hexdigest()
    )
    node.append([(at, seal)])
    return Finished(session, file, state, head.seq, len(tail.torn))


def _note(fd: int, path: Path, tail: chain.Tail, at: datetime) -> tuple[chain.Head, int]:
    """Cut the torn line aside and add the line that says so; the new end and size. A `recovered` line of an earlier
    attempt is enough."""
    if not tail.torn and tail.event == "recovered":
        return tail.head, tail.whole
    name = files.cut_aside(fd, path, offset=tail.whole, torn=tail.torn) if tail.torn else None
    event = Recovered(
        detail="the writer died before the end of the session",
        offset=tail.whole,
        bytes=len(tail.torn),
        sha256=hashlib.sha256(tail.torn).hexdigest() if tail.torn else None,
        file=name,
    )
    line = chain.compose(tail.head.seq + 1, chain.stamp(at), tail.head.hash, encode(event))
    files.write_all(fd, line + b"\n")
    return chain.Head(tail.head.seq + 1, chain.digest(line)), tail.whole + len(line) + 1


def _adoptable(path: Path) -> bool:
    with path.open("rb") as file:
        return sum(1 for _ in zip(range(ADOPTABLE + 1), file, strict=False)) <= ADOPTABLE
