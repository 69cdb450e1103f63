"""What a sink has not got yet: whole lines of recordings and of the installation's, and the newest checkpoint.

The node log says which recordings there are. A line is handed out when it is as safe as `durability` says. Must not
know where lines go. Invariant: whenever an item is handed out, the cursor says that it and all before it are delivered;
whoever could not deliver it throws the cursor away.
"""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from recorder import chain, checkpoint, files, reading, stored
from recorder.entries import Expired, NodeEntry, Opened, Seal, decode_entry
from recorder.shared import Installation
from recorder.sinks import held
from recorder.sinks.cursor import Cursor, Place
from recorder.stored import BrokenError, SealedError
from recorder.treelog import CHECKPOINT, maker


@dataclass(frozen=True, slots=True)
class Item:
    """One event on its way. `line` is JSON, byte for byte as it stands in the record; the `id` is its own for ever."""

    id: str
    recording: str
    seq: int
    at: str
    event: str
    line: bytes

    @property
    def size(self) -> int:
        """Bytes that delivering it costs."""
        return len(self.line)

    def framed(self, installation: str) -> bytes:
        """As one JSON object on one line, without a newline."""
        head = msgspec.json.encode({"id": self.id, "installation": installation, "recording": self.recording})
        return head[:-1] + b',"line":' + self.line + b"}"


class Feed:
    """The items after `cursor`, which moves as they are handed out. `skipped` says what could not be handed out."""

    def __init__(self, directory: Path, cursor: Cursor, *, sync: bool) -> None:
        self._directory = directory
        self.cursor = cursor
        self._sync = sync
        self.skipped: list[str] = []

    def look(self) -> None:
        """Learn from the node log what there is. OSError."""
        cursor = self.cursor
        log = self._directory / files.NODE
        if not log.exists():
            return
        with log.open("rb") as lines:
            size = _settled(lines.fileno(), sync=False)
            if not _ends_line(lines.fileno(), cursor.node):  # another log: rather twice than not at all
                cursor.node = 0
            for at, raw in reading.lines_of(lines, cursor.node):
                if at >= size:
                    break
                cursor.node = at + len(raw) + 1
                line = chain.decode(raw)
                entry = decode_entry(raw, line.event) if line is not None else None
                if isinstance(entry, Expired) and entry.id in cursor.open:
                    self._skip(entry.id, "was deleted before the sink had it all")
                elif entry is not None:
                    self._learn(entry)

    def _learn(self, entry: NodeEntry) -> None:
        if isinstance(entry, Opened):
            self.cursor.open[entry.id] = Place(entry.file)
        elif isinstance(entry, Seal) and entry.id in self.cursor.open:
            self.cursor.open[entry.id].end = entry.bytes

    def backlog(self) -> int:
        """Bytes of lines that are not handed out yet. OSError."""
        waiting = _size(self._directory / files.INSTALLATION) - self.cursor.installation
        for place in self.cursor.open.values():
            waiting += (_size(self._directory / place.file) if place.end is None else place.end) - place.at
        return max(0, waiting)

    def items(self) -> Iterator[Item]:
        """All there are. Call `look` before. OSError."""
        yield from self._installation()
        for id_, place in list(self.cursor.open.items()):
            yield from self._recording(id_, place)
        yield from self._checkpoint()

    def _installation(self) -> Iterator[Item]:
        file = self._directory / files.INSTALLATION
        if not file.exists():
            return
        with file.open("rb") as lines:
            size = _settled(lines.fileno(), sync=self._sync)
            if not _ends_line(lines.fileno(), self.cursor.installation):
                self.cursor.installation = 0
            if size == self.cursor.installation:
                return
            # Each host of an installation has one, and so has a folder that is begun anew.
            name = f"{Installation.id}-{maker(self._directory) or ''}"
            for at, raw in reading.lines_of(lines, self.cursor.installation):
                if at >= size:
                    return
                self.cursor.installation = at + len(raw) + 1
                yield from _item(Installation.id, raw, name)

    def _recording(self, id_: str, place: Place) -> Iterator[Item]:
        sealed = place.end is not None
        try:
            for at, raw in self._lines(id_, place):
                place.at = at + len(raw) + 1
                yield from _item(id_, raw)
        except FileNotFoundError:
            if sealed:
                self._skip(id_, "is gone")
        except SealedError:
            self._skip(id_, "lies encrypted, and its plain lines were not kept")
        except BrokenError as problem:
            self._skip(id_, f"is damaged: {problem}")
        else:
            if sealed:
                del self.cursor.open[id_]

    def _lines(self, id_: str, place: Place) -> Iterator[tuple[int, bytes]]:
        path = self._directory / place.file
        try:
            file = path.open("rb")
        except FileNotFoundError:  # packed; where that was to encrypt it, the plain lines were kept before
            kept = held.find(self._directory, id_)
            yield from reading.lines(kept if kept is not None else stored.locate(path), place.at)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            if not _ends_line(file.fileno(), place.at):
                place.at = 0
            if size > place.at and self._sync:
                os.fdatasync(file.fileno())
            for at, raw in reading.lines_of(file, place.at):
                if at >= size:
                    return
                yield at, raw

    def _checkpoint(self) -> Iterator[Item]:
        """The newest says all that those before it said."""
        try:
            data = (self._directory / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return
        note = checkpoint.parse(data)
        if note is None:
            return
        # The root too: a log that was written anew must not look like one that a receiver has seen.
        id_ = f"checkpoint:{note.size}:{note.root.hex()[:16]}"
        if id_ != self.cursor.checkpoint:
            self.cursor.checkpoint = id_
            at = datetime.fromtimestamp((self._directory / CHECKPOINT).stat().st_mtime, tz=UTC)
            stamp = chain.stamp(at).decode().strip('"')
            line = msgspec.json.encode({"event": "checkpoint", "at": stamp, "size": note.size, "note": data.decode()})
            yield Item(id_, "checkpoint", note.size, stamp, "checkpoint", line)

    def _skip(self, id_: str, why: str) -> None:
        del self.cursor.open[id_]
        self.cursor.skipped += 1
        self.skipped.append(f"recording {id_} {why}")


def _item(id_: str, raw: bytes, name: str = "") -> Iterator[Item]:
    head = reading.head(raw)
    if head is not None:  # what is no line, verify reports
        yield Item(f"{name or id_}:{head.seq}", id_, head.seq, head.at, head.event, raw)


def _settled(fd: int, *, sync: bool) -> int:
    """Bytes of a shared file that nobody will take back. A writer holds it while it may. OSError."""
    fcntl.flock(fd, fcntl.LOCK_SH)
    try:
        size = os.fstat(fd).st_size
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)
    if sync:
        os.fdatasync(fd)
    return size


def _ends_line(fd: int, place: int) -> bool:
    """Whether a line ends before byte `place`: else the cursor is of another file, such as one that was put back from a
    backup and has grown again. OSError."""
    return place == 0 or os.pread(fd, 1, place - 1) == b"\n"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
