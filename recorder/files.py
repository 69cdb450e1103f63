"""The recordings folder: where each thing lies, and the few system calls that touch it.

    <dir>/<yyyy>/<mm>/<session>.jsonl   one session            <file>.torn          half lines cut aside
    <dir>/installation.jsonl            grants, refused logins <dir>/keys/          signing.pem (secret), public.pem
    <dir>/node.jsonl, node.head         the node log, its end  <dir>/.lock          held by the server that accepts
    <dir>/.ahead/<pid>-<n>.wal          what a group commit wrote (see `ahead`)
    <dir>/.installation                 whose folder it is

An open recording is held by its writer with `flock`, so the system itself tells a living writer from a dead one.
Knows paths and descriptors; must not know events. Invariant: files are made 0600, folders 0700, and a write is whole
or an error.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

NODE = "node.jsonl"
HEAD = "node.head"
INSTALLATION = "installation.jsonl"
LOCK = ".lock"
PROBE = ".probe"
OWNER = ".installation"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where there is no room: giving some back helps."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RESERVED = frozenset({"node", "installation"})


class RecordError(Exception):
    """The record cannot be kept. Nothing may go upstream after it; `errno` is the system's, where it had one. `there`:
    what was to be written is in the file all the same."""

    def __init__(self, text: str, *, errno: int | None = None, there: bool = False) -> None:
        super().__init__(text)
        self.errno = errno
        self.there = there


def record_error(action: str, path: Path, cause: OSError) -> RecordError:
    """A RecordError that names the file and what the system said."""
    return RecordError(f"cannot {action} {path}: {cause.strerror or cause}", errno=cause.errno)


def session_file(session: str, at: datetime) -> str:
    """The recording's path below the folder. ValueError for an id that is no plain file name."""
    if not _ID.fullmatch(session) or session in _RESERVED:
        raise ValueError(f"not a session id: {session!r}")
    return f"{at:%Y}/{at:%m}/{session}.jsonl"


def session_files(directory: Path) -> list[str]:
    """All session recordings on disk, as paths below the folder, oldest month first."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.glob("[0-9]*/[0-9]*/*.jsonl"))


def make_folder(path: Path) -> None:
    """The folder and its parents, private to this user."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def give(path: Path) -> None:
    """What root makes in a folder belongs to the folder's owner: the server has to read it, and is not root."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def sync_folder(path: Path) -> None:
    """Make the folder's entries (new and renamed files) survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | bytearray) -> None:
    """One `write`, and more only where the system took less. OSError leaves an unknown part written."""
    done = os.write(fd, data)
    while done < len(data):
        with memoryview(data) as view:
            more = os.write(fd, view[done:])
        if more == 0:
            raise OSError(errno.EIO, "the system took no bytes")
        done += more


def cut_aside(fd: int, path: Path, *, offset: int, torn: bytes) -> str:
    """Move what stands after byte `offset` into `<path>.torn` (which keeps growing) and cut it from the file; the
    torn file's name."""
    aside = set_aside(path, torn)
    os.ftruncate(fd, offset)
    return aside


def set_aside(path: Path, data: bytes) -> str:
    """Add bytes that have no place in the file to `<path>.torn`; the torn file's name."""
    aside = path.with_name(path.name + ".torn")
    out = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        write_all(out, data + b"\n")
        os.fsync(out)
    finally:
        os.close(out)
    return aside.name


@contextmanager
def locked(fd: int, path: Path, *, patience: float = 2.0) -> Iterator[None]:
    """Hold the file against other processes of this host. RecordError after `patience` seconds: a holder never needs
    that long."""
    if fd < 0:
        raise RecordError(f"{path} is closed")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RecordError(f"{path} is held by another process") from None
            time.sleep(0.002)
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def hold(fd: int, *, patience: float = 0.5) -> bool:
    """Hold the file for as long as `fd` is open; False when another holds it. `patience` (seconds) is for those who
    hold it for an instant, to see whether somebody does."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)


def held(path: Path) -> bool:
    """Whether a live process of this host holds the file. One that cannot be opened is held by nobody we know."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def claim(directory: Path, installation: str) -> None:
    """The folder is this installation's from now on, if it was nobody's. RecordError where it is another's: each would
    call the other's recordings its own."""
    owner, mine = directory / OWNER, directory / f"{OWNER}-{os.getpid()}"
    try:
        if not owner.exists():
            make_folder(directory)
            mine.write_text(installation + "\n")
            try:
                os.link(mine, owner)  # whole, or not at all
            except FileExistsError:
                pass
            finally:
                mine.unlink()
        found = owner.read_text().strip()
    except OSError as cause:
        raise record_error("read", owner, cause) from cause
    if found != installation:
        raise RecordError(
            f"{directory} belongs to another installation of daypass ({found}, and this is {installation}): "
            f"give each a recording.dir of its own, or delete {owner} where this one is to go on with its recordings"
        )


class FolderLock:
    """The one server that accepts sessions for a folder. Held from construction to `close`, and let go by the system
    when the process dies."""

    def __init__(self, directory: Path, *, patience: float = 0.5) -> None:
        self._path = directory / LOCK
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as cause:
            raise record_error("open", self._path, cause) from cause
        if not hold(self._fd, patience=patience):
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise RecordError(f"{directory} is in use by pid {holder}; one server writes a recordings folder")
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Let the folder go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
