"""Writing checkpoints: the signed head of the tree over the node log, as long as the log grows.

    checkpoint               the newest one: ship it off the machine, `verify --checkpoint` compares
    checkpoints/<date>       the last one of each day (UTC)
    checkpoints/conflict-*   one that the log no longer fits: kept, so that verify goes on saying so
    .tree                    where the tree was left, so that nobody reads the whole log again; a cache

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
    """Makes the checkpoints of one folder. Any process may have one; the log's own lock keeps them apart."""

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
        node = NodeLog(self._directory, sync=True)
        try:
            self._catch_up()  # most of it, while others may write
            with node.holding():
                return self._write(node, at)
        finally:
            node.close()

    def _write(self, node: NodeLog, at: datetime) -> bytes | None:
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
        data = self._publish(node, place, origin, at)
        if not place.started:
            node.append_held(TreeStart(origin=origin), at)
            self._catch_up()
            data = self._publish(node, place, origin, at)
        return data

    def _publish(self, node: NodeLog, place: _Place, origin: str, at: datetime) -> bytes:
        data = node.sealed_head(origin, self._frontier.size, self._frontier.root())
        files.make_folder(self._directory / FOLDER)
        files.give(self._directory / FOLDER)
        _replace(self._directory / FOLDER / f"{at:%Y-%m-%d}", data)
        _replace(self._directory / CHECKPOINT, data)
        place.nodes = [one.hex() for one in self._frontier.nodes]
        _replace(self._directory / CACHE, msgspec.json.encode(place))
        return data

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
            elif os.fstat(log.fileno()).st_size < self._place.offset:
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
