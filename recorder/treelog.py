"""Writing checkpoints: the signed head of the tree over the node log, as long as the log grows.

    checkpoint               the newest one: ship it off the machine, `verify --checkpoint` compares
    checkpoints/<date>       the last one of each day (UTC)
    checkpoints/conflict-*   one that the log no longer fits: kept, so that verify goes on saying so
    .tree, .tree.lock        where the tree was left, so that nobody reads the whole log again, a cache; its lock

Must not know recordings. Invariants: a checkpoint is never ahead of the log, and one that the log does not fit is never
written over.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from recorder import chain, checkpoint, files, tree
from recorder.checkpoint import Checkpoint
from recorder.entries import NodeCut, NodeStart, TreeStart, decode_entry
from recorder.nodelog import NodeLog
from recorder.seal import fingerprint, raw_public

CHECKPOINT = "checkpoint"
FOLDER = "checkpoints"
CACHE = ".tree"
LOCK = ".tree.lock"
PATIENCE = 30.0
"""Seconds for another process that makes a checkpoint: it waits for the disk."""
CONFLICT = "conflict-"
_STARTED = b'"event":"tree.start"'
_BLOCK = 1 << 20


class _Place(msgspec.Struct):
    """How far the tree got: `size` lines, which end at byte `offset`, the last of them with hash `last`."""

    size: int = 0
    offset: int = 0
    last: str = chain.GENESIS
    nodes: list[str] = msgspec.field(default_factory=list)
    started: bool = False


class TreeLog:
    """Makes the checkpoints of one folder. Any process may have one; a lock keeps them apart."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._log = self._directory / files.NODE
        self._place: _Place | None = None
        self._frontier = tree.Frontier()
        self._doubted = True
        self._marks: dict[int, bytes] = {}

    def round(self, at: datetime) -> bytes | None:
        """Write a checkpoint if the log grew since the last; the checkpoint, where a new one was written. OSError,
        RecordError."""
        if not self._log.exists() or (self._place is not None and self._log.stat().st_size == self._place.offset):
            return None
        lock = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            files.give(self._directory / LOCK)
            # Of the checkpoints alone: who appends to the log does not wait while they are brought to the disk.
            with files.locked(lock, self._directory / LOCK, patience=PATIENCE):
                return self._round(at)
        finally:
            os.close(lock)

    def _round(self, at: datetime) -> bytes | None:
        node = NodeLog(self._directory, sync=True)
        try:
            self._catch_up()  # most of it, while others may write
            with node.holding():
                made = self._make(node, at)
            if made is not None:
                self._publish(*made, at)
            return made[0] if made is not None else None
        finally:
            node.close()

    def _make(self, node: NodeLog, at: datetime) -> tuple[bytes, bytes] | None:
        """The checkpoint, and the cache that belongs to it. Call with the log held."""
        self._catch_up()
        place, old = self._place, self._current()
        if place is None or not place.size:
            return None
        if self._doubted and old is not None and self._marks.get(old.size) != old.root:
            self._keep_aside(old)
        self._doubted = False
        if old is None and (self._directory / CHECKPOINT).exists():
            self._keep_aside(None)
        elif place.started and not (self._directory / CHECKPOINT).exists():
            lost = NodeCut(have=place.size, last=place.size, detail="the file checkpoint was gone")
            node.append_held(lost, at)
            self._catch_up()
        origin = self._origin(node)
        if not place.started:  # once in the life of a log: what it will say there is has to be there before
            self._publish(*self._signed(node, place, origin), at)
            node.append_held(TreeStart(origin=origin), at)
            self._catch_up()
        return self._signed(node, place, origin)

    def _signed(self, node: NodeLog, place: _Place, origin: str) -> tuple[bytes, bytes]:
        place.nodes = [one.hex() for one in self._frontier.nodes]
        return node.sealed_head(origin, self._frontier.size, self._frontier.root()), msgspec.json.encode(place)

    def _publish(self, data: bytes, cache: bytes, at: datetime) -> None:
        with self._log.open("rb") as log:
            os.fdatasync(log.fileno())  # a power cut must not leave less of the log than a checkpoint saw
        files.make_folder(self._directory / FOLDER)
        files.give(self._directory / FOLDER)
        _replace(self._directory / FOLDER / f"{at:%Y-%m-%d}", data)
        _replace(self._directory / CHECKPOINT, data)
        _replace(self._directory / CACHE, cache)

    def _current(self) -> Checkpoint | None:
        with suppress(FileNotFoundError):
            return checkpoint.parse((self._directory / CHECKPOINT).read_bytes())
        return None

    def _keep_aside(self, old: Checkpoint | None) -> None:
        """The log is not the one that this checkpoint was made of."""
        files.make_folder(self._directory / FOLDER)
        name = f"{CONFLICT}{old.size}-{old.root.hex()[:8]}" if old is not None else f"{CONFLICT}unreadable"
        (self._directory / CHECKPOINT).replace(self._directory / FOLDER / name)

    def _origin(self, node: NodeLog) -> str:
        return f"daypass/node/{maker(self._directory) or node.fingerprint}"

    def _catch_up(self) -> None:
        """Take the lines that were written since. Where the log is not the one that was left, begin anew."""
        with self._log.open("rb") as log:
            if self._place is None:
                self._place, self._frontier = self._cached(log.fileno())
                self._doubted = self._place.size == 0
            elif self._taken_back(log.fileno(), self._place):
                self._place, self._frontier, self._doubted = _Place(), tree.Frontier(), True
            place, old = self._place, self._current() if self._doubted else None
            log.seek(place.offset)
            for raw in log:
                if not raw.endswith(b"\n"):
                    break
                text = raw[:-1]
                self._frontier.add(tree.leaf(text))
                place.size += 1
                place.offset += len(raw)
                place.last = chain.digest(text)
                place.started = place.started or _STARTED in text
                if old is not None and place.size == old.size:
                    self._marks[old.size] = self._frontier.root()

    def _taken_back(self, log: int, place: _Place) -> bool:
        """What was read while others wrote may be gone: one whose write failed takes its lines back."""
        if os.fstat(log).st_size < place.offset:
            return True
        tail = chain.read_tail(log, place.offset)
        return place.size > 0 and (tail.whole, tail.head.hash) != (place.offset, place.last)

    def _cached(self, log: int) -> tuple[_Place, tree.Frontier]:
        try:
            place = msgspec.json.decode((self._directory / CACHE).read_bytes(), type=_Place)
            size = os.fstat(log).st_size
            if place.offset <= size:
                tail = chain.read_tail(log, place.offset)
                if (tail.whole, tail.head.hash) == (place.offset, place.last):
                    return place, tree.Frontier(place.size, map(bytes.fromhex, place.nodes))
        except (FileNotFoundError, msgspec.DecodeError, ValueError):
            pass
        return _Place(), tree.Frontier()


def maker(directory: Path) -> str | None:
    """What names a log for ever: the fingerprint of the key that signed its first line, whichever signs now. None where
    that line cannot be read."""
    with (directory / files.NODE).open("rb") as lines:
        entry = decode_entry(lines.readline().rstrip(b"\n"), "node.start")
    key = raw_public(entry.public) if isinstance(entry, NodeStart) else None
    return fingerprint(key) if key is not None else None


def notes(directory: Path) -> list[tuple[str, bytes]]:
    """All checkpoints that lie in a recordings folder, as paths below it and what they hold."""
    found = [directory / CHECKPOINT, *sorted((directory / FOLDER).glob("*"))]
    kept = []
    for file in found:
        with suppress(FileNotFoundError, IsADirectoryError):
            if not file.name.endswith(".new"):
                kept.append((file.relative_to(directory).as_posix(), file.read_bytes()))
    return kept


Ship = Callable[[bytes], None]
"""Takes a new checkpoint off the machine, as one signed note. For the sinks; see `upkeep.Upkeep`."""


def _replace(file: Path, data: bytes) -> None:
    new = file.with_name(file.name + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        files.write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    files.give(new)
    new.replace(file)
