"""Finished recordings as the files that they are stored in, and checkpoints, for sinks that keep objects.

A recording is handed out in the form that it lies in for good: sealed, compressed, encrypted. Must not know stores.
Invariant: as of `feed`: what is handed out counts as delivered in the cursor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recorder import pack, stored
from recorder.entries import NodeEntry, Seal, Stored
from recorder.sinks.cursor import Place
from recorder.sinks.feed import Feed, Item


@dataclass(frozen=True, slots=True)
class Parcel(Item):
    """A file, and its path below the recordings folder."""

    path: Path
    file: str
    bytes: int

    @property
    def size(self) -> int:
        return self.bytes


class PlainParcels(Feed):
    """Where sealed recordings stay as they are."""

    def backlog(self) -> int:
        return sum(place.end for place in self.cursor.open.values() if place.end is not None)

    def items(self) -> Iterator[Item]:
        for id_, place in list(self.cursor.open.items()):
            if place.end is None:  # a session that was open when the sink was new
                continue
            path = self._directory / place.file
            if not path.exists():
                # The log says `stored` before the file has its name: it has it soon, or when its packer is back.
                if not stored.locate(path).exists() and not path.with_name(path.name + pack.NEW).exists():
                    self._skip(id_, "is gone")
                continue
            del self.cursor.open[id_]
            yield Parcel(f"{id_}:file", id_, 0, "", "file", b"", path, place.file, place.end)
        yield from self._checkpoint()

    def _learn(self, entry: NodeEntry) -> None:
        if isinstance(entry, Seal):
            self.cursor.open[entry.id] = Place(entry.file, end=entry.bytes)


class Parcels(PlainParcels):
    """Where they are packed."""

    def _learn(self, entry: NodeEntry) -> None:
        if isinstance(entry, Stored):
            self.cursor.open[entry.id] = Place(entry.file, end=entry.bytes)
