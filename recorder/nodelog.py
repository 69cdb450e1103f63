"""The node log: one signed chain that names every recording of an installation, its checkpoints and its seal.

It is what makes a removed file, a cut tail and a swapped file visible: `open` names a file before its first
statement, `checkpoint` holds the ends of open recordings, `seal` the end and the SHA-256 of a finished one.
`node.head` beside it holds the log's own end, signed, so that a log cut short does not fit it. Must not know
sessions. Invariant: every line is signed, and `node.head` is never ahead of the log.
"""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from recorder import chain, files
from recorder.events import Event
from recorder.files import RecordError
from recorder.seal import Signer
from recorder.shared import SharedLog


class NodeStart(Event, frozen=True, kw_only=True, omit_defaults=True, tag="node.start"):
    """A server took the folder, or the log was made. `public` is the raw Ed25519 public key, hex."""

    pid: int
    public: str


class Opened(Event, frozen=True, kw_only=True, omit_defaults=True, tag="open"):
    """A session's recording exists: its path below the folder, and its first line's hash (zeros where it had none)."""

    id: str
    file: str
    first: str


class At(msgspec.Struct, frozen=True):
    """How far recording `id` was, and the hash of that line."""

    id: str
    seq: int
    hash: str


class Checkpoint(Event, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint"):
    """The ends of the recordings that grew since the last one."""

    heads: list[At]


class Seal(Event, frozen=True, kw_only=True, omit_defaults=True, tag="seal"):
    """A recording is finished: `state` is sealed or interrupted, `last` its last line's hash, `sha256` that of all
    its bytes."""

    id: str
    file: str
    state: str
    lines: int
    last: str
    bytes: int
    sha256: str


class NodeCut(Event, frozen=True, kw_only=True, omit_defaults=True, tag="node.cut"):
    """On opening, the log did not fit `node.head`: lines up to `last` were signed once, and only those up to `have`
    are there."""

    have: int
    last: int
    detail: str


NodeEntry = NodeStart | Opened | Checkpoint | Seal | NodeCut
ENTRIES: dict[str, type[NodeStart | Opened | Checkpoint | Seal | NodeCut]] = {
    "node.start": NodeStart,
    "open": Opened,
    "checkpoint": Checkpoint,
    "seal": Seal,
    "node.cut": NodeCut,
}


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
        try:
            with files.locked(self._fd, self.path):
                fresh = os.fstat(self._fd).st_size == 0 and not self._head_file.exists()
                self._signer = Signer.load(directory, create=fresh)
                self._head_fd = os.open(self._head_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as cause:
            self.close()
            raise files.record_error("open", self._head_file, cause) from cause
        except RecordError:
            self.close()
            raise

    def start(self, at: datetime) -> None:
        """Say that this process now writes here."""
        self.append([(at, self._start())])

    def _start(self) -> NodeStart:
        return NodeStart(pid=os.getpid(), public=self._signer.public.public_bytes_raw().hex())

    def _finish(self, line: bytes) -> bytes:
        return self._signer.sign(line)

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
        return ([self._start()] if head.seq == 0 else []) + found

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


def decode_entry(line: bytes, event: str) -> NodeEntry | None:
    """The line's entry; None for an event that this version does not know, or a line that lacks what it must hold."""
    kind = ENTRIES.get(event)
    try:
        return msgspec.json.decode(line, type=kind) if kind is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


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
                if entry is not None:
                    yield entry


def known_files(path: Path) -> set[str]:
    """Every file that the log names."""
    return {entry.file for entry in entries(path) if isinstance(entry, Opened)}


def entries(path: Path) -> Iterable[NodeEntry]:
    """What the log says, unchecked. Nothing where there is no log."""
    return Follower(path).news() if path.exists() else ()
