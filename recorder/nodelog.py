"""The node log: one signed chain that names every recording of an installation, its checkpoints and its seal.

It is what makes a removed file, a cut tail and a swapped file visible: `open` names a file before its first
statement, `checkpoint` holds the ends of open recordings, `seal` the end and the SHA-256 of a finished one.
`node.head` beside it holds the log's own end, signed, so that a log cut short does not fit it. Must not know
sessions. Invariant: every line is signed, and `node.head` is never ahead of the log.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from recorder import chain, checkpoint, files, rotation
from recorder.entries import (
    At,
    Checkpoint,
    KeyRotated,
    NodeCut,
    NodeEntry,
    NodeStart,
    Opened,
    Seal,
    Stored,
    decode_entry,
)
from recorder.events import Event
from recorder.files import RecordError
from recorder.seal import Signer
from recorder.shared import SharedLog

__all__ = ["At", "Checkpoint", "Follower", "NodeLog", "Opened", "Seal", "entries", "known_files", "read_end"]


class End(msgspec.Struct, frozen=True):
    """What `node.head` holds."""

    seq: int
    hash: str
    sig: str

    def text(self) -> bytes:
        return b"%d %b" % (self.seq, self.hash.encode())


class NodeLog(SharedLog):
    """The log, open for append; any process of the installation may hold one. Makes the signing key when the folder
    is new."""

    def __init__(self, directory: Path, *, sync: bool) -> None:
        super().__init__(directory / files.NODE, sync=sync)
        self._head_file = directory / files.HEAD
        self._head_fd = -1
        self._directory = directory
        self._successor: Signer | None = None
        """Who signs from the second of the next lines on."""
        try:
            with files.locked(self._fd, self.path):
                fresh = os.fstat(self._fd).st_size == 0 and not self._head_file.exists()
                rotation.settle(directory, self.path)
                self._signer = Signer.load(directory, create=fresh)
                self._key_mark = rotation.mark(directory)
                self._head_fd = os.open(self._head_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as cause:
            self.close()
            raise files.record_error("open", self._head_file, cause) from cause
        except RecordError:
            self.close()
            raise

    def start(self, at: datetime) -> None:
        """Say that this process now writes here."""
        self.append([(at, _start(self._signer))])

    def rotate(self, at: datetime, by: str) -> str:
        """Sign with a new key from here on; its fingerprint. RecordError: the old one stays in force, or whoever writes
        next finishes the rotation."""
        with files.locked(self._fd, self.path):
            try:
                self._renew_signer()
                super()._append((), at)  # what there is to say of before, the old key says
                fresh = rotation.prepare(self._directory)
                self._hand_over(fresh, at, by)
                rotation.finish(self._directory)
                self._key_mark = rotation.mark(self._directory)
            except OSError as cause:
                self._size = -1
                raise files.record_error("rotate the key in", self._directory / "keys", cause) from cause
        return self._signer.fingerprint

    def _hand_over(self, fresh: Signer, at: datetime, by: str) -> None:
        """Both lines in one write: a log that names a key which has signed nothing looks like one of another key."""
        old, self._successor = self._signer, fresh
        start = _start(fresh)
        try:
            super()._append([(at, KeyRotated(public=start.public, by=by)), (at, start)], at)
        except BaseException:
            self._signer, self._successor = old, None
            raise

    @property
    def fingerprint(self) -> str:
        """Of the key that signs now."""
        return self._signer.fingerprint

    def sealed_head(self, origin: str, size: int, root: bytes) -> bytes:
        """The checkpoint of the tree over this log, signed. Call with the log held."""
        self._renew_signer()
        return checkpoint.compose(origin, size, root, self._signer.key)

    def holding(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else appends meanwhile. RecordError when it cannot be had."""
        return files.locked(self._fd, self.path)

    def append_held(self, event: Event, at: datetime) -> chain.Head:
        """As `append` of one event, for who holds the log already."""
        return self._append([(at, event)], at)

    def _append(self, events: Sequence[tuple[datetime, Event]], at: datetime) -> chain.Head:
        self._renew_signer()
        if os.fstat(self._fd).st_size == 0:
            # The very first line alone: only with one line may a death have left no `node.head`.
            super()._append((), at)
        return super()._append(events, at)

    def _renew_signer(self) -> None:
        """Another process may have rotated the key, or died while it did."""
        rotation.settle(self._directory, self.path)
        mark = rotation.mark(self._directory)
        if mark != self._key_mark:
            self._signer = Signer.load(self._directory, create=False)
            self._key_mark = mark

    def _finish(self, line: bytes) -> bytes:
        signed = self._signer.sign(line)
        if self._successor is not None:
            self._signer, self._successor = self._successor, None
        return signed

    def _missing(self, head: chain.Head) -> list[Event]:
        found: list[Event] = []
        text = os.pread(self._head_fd, 1024, 0)
        end = read_end(text)
        if end is None and (text or head.seq > 1):
            found.append(NodeCut(have=head.seq, last=head.seq, detail="node.head was gone or unreadable"))
        elif end is not None and end.seq > head.seq:
            found.append(NodeCut(have=head.seq, last=end.seq, detail="lines are missing at the log's end"))
        elif end is not None and end.seq == head.seq and end.hash != head.hash:
            found.append(NodeCut(have=head.seq, last=end.seq, detail="the last line is another than was signed"))
        return ([_start(self._signer)] if head.seq == 0 else []) + found

    def _written(self, head: chain.Head) -> None:
        end = End(head.seq, head.hash, "")
        data = msgspec.json.encode(End(head.seq, head.hash, self._signer.sign_text(end.text())))
        os.pwrite(self._head_fd, data.ljust(511) + b"\n", 0)  # one sector: never half old, half new
        if self._sync:
            os.fdatasync(self._head_fd)

    def close(self) -> None:
        super().close()
        if self._head_fd >= 0:
            os.close(self._head_fd)
            self._head_fd = -1


def read_end(text: bytes) -> End | None:
    """`node.head` decoded; None where it is not as written (512 bytes, padded with blanks)."""
    try:
        end = msgspec.json.decode(text, type=End)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return end if msgspec.json.encode(end).ljust(511) + b"\n" == text else None


class Follower:
    """Reads the log as it grows, each line once and unchecked: what it opened and did not seal (`unsealed`: id to file
    below the folder). Unreadable lines are skipped; `verify` reports them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.unsealed: dict[str, str] = {}

    def update(self) -> None:
        """Learn what was written since the last call. OSError when the log cannot be read."""
        for _ in self.news():
            pass

    def news(self) -> Iterator[NodeEntry]:
        """What was written since the last call, as it is read. OSError when the log cannot be read."""
        return (entry for _, entry in self.timed())

    def timed(self) -> Iterator[tuple[str, NodeEntry]]:
        """As `news`, each with its time (RFC 3339)."""
        with self._path.open("rb") as lines:
            if lines.seek(0, os.SEEK_END) < self._offset:  # another file: what was learnt of the old one still stands
                self._offset = 0
            lines.seek(self._offset)
            for raw in lines:
                if not raw.endswith(b"\n"):
                    return
                self._offset += len(raw)
                line = chain.decode(raw[:-1])
                entry = decode_entry(raw[:-1], line.event) if line is not None else None
                if isinstance(entry, Opened):
                    self.unsealed[entry.id] = entry.file
                elif isinstance(entry, Seal):
                    self.unsealed.pop(entry.id, None)
                if line is not None and entry is not None:
                    yield line.at, entry


def known_files(path: Path) -> set[str]:
    """Every file that the log names."""
    return {entry.file for entry in entries(path) if isinstance(entry, Opened | Stored)}


def entries(path: Path) -> Iterable[NodeEntry]:
    """What the log says, unchecked. Nothing where there is no log."""
    return Follower(path).news() if path.exists() else ()


def _start(signer: Signer) -> NodeStart:
    return NodeStart(pid=os.getpid(), public=signer.public.public_bytes_raw().hex())
