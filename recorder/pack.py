"""Storing sealed recordings compressed and, where recipients are named, encrypted.

A recording is packed some time after its seal, from the plain file that the seal describes. Each step can be the last
one before a crash, and whoever packs next goes on from there:

    1. <id>.jsonl.zst.new is written and on the disk     4. the plain file is removed
    2. the node log says `stored`
    3. it gets its name

Must not touch what no seal describes, or what is not as it was sealed (`verify` reports it). Invariant: at every moment
the recording can be read in one of its forms.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyrage
import zstandard

from recorder import files, index, stored
from recorder.entries import Expired, Seal, Stored
from recorder.nodelog import Follower, NodeLog
from recorder.sinks import held

NEW = ".new"
LOCK = ".upkeep"
_BLOCK = 1 << 20
_LEVEL = 3


class StoppedError(Exception):
    """Packing was told to stop; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Form:
    """How sealed recordings are to be stored. `recipients` are age or ssh public keys."""

    compress: bool = True
    recipients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for recipient in self.recipients:
            recipient_key(recipient)

    @property
    def suffix(self) -> str:
        return stored.PLAIN + (".zst" if self.compress else "") + (".age" if self.recipients else "")


def recipient_key(text: str) -> Any:
    """The public key that `text` is. ValueError says what would be one."""
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise ValueError(f"{text[:24]!r} is no public key of age (age1…) and none of ssh (ssh-ed25519 …)") from None


@contextmanager
def alone(directory: Path, *, patience: float = 0.0) -> Iterator[bool]:
    """Whether no other process packs or deletes here, within `patience` seconds; none begins before the `with` ends."""
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        files.give(directory / LOCK)
        yield files.hold(fd, patience=patience)
    finally:
        os.close(fd)


class Packer:
    """Packs the recordings of one folder. `stopped` ends a long one; `delay` is the age in seconds that a seal must
    have."""

    def __init__(
        self,
        directory: Path,
        form: Form,
        now: Callable[[], datetime],
        *,
        delay: float = 0.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._directory = directory.absolute()
        self._form = form
        self._now = now
        self._delay = timedelta(seconds=delay)
        self._stopped = stopped
        self._log = Follower(self._directory / files.NODE)
        self._looked = False
        self._sealed: dict[str, tuple[Seal, datetime]] = {}
        self._unfinished: dict[str, Stored] = {}

    def round(self) -> list[Stored]:
        """Finish what others left, pack what is old enough; what was packed. OSError, RecordError, StoppedError."""
        if not (self._directory / files.NODE).exists():
            return []
        with alone(self._directory) as ours:
            return self._round() if ours else []

    def _round(self) -> list[Stored]:
        fresh = not self._looked
        self._learn()
        for entry in self._unfinished.values():
            _finish(self._directory, entry)
        self._unfinished.clear()
        if fresh:
            for left in self._directory.glob(f"[0-9]*/[0-9]*/*{stored.PLAIN}*{NEW}"):
                left.unlink()
        if self._form.suffix == stored.PLAIN:
            return []
        due = self._now() - self._delay
        packed = []
        for id_ in [id_ for id_, (_, at) in self._sealed.items() if at <= due]:
            seal, _ = self._sealed[id_]
            if (done := self._pack(seal)) is not None:
                packed.append(done)
            self._sealed.pop(id_)
        return packed

    def _learn(self) -> None:
        self._looked = True
        for at, entry in self._log.timed():
            if isinstance(entry, Seal):
                self._sealed[entry.id] = (entry, datetime.fromisoformat(at))
            elif isinstance(entry, Stored):
                self._sealed.pop(entry.id, None)
                self._unfinished[entry.id] = entry
            elif isinstance(entry, Expired):
                self._sealed.pop(entry.id, None)
                self._unfinished.pop(entry.id, None)

    def _pack(self, seal: Seal) -> Stored | None:
        """None where the plain file is gone, or is not what was sealed: it stays as it lies, and verify says so."""
        file = seal.file.removesuffix(stored.PLAIN) + self._form.suffix
        new = self._directory / (file + NEW)
        with ExitStack() as undo:
            try:
                source = undo.enter_context((self._directory / seal.file).open("rb"))
            except FileNotFoundError:
                return None
            undo.callback(new.unlink, missing_ok=True)
            before, after = self._write(source, new)
            if (before.size, before.hash) != (seal.bytes, seal.sha256):
                return None
            entry = Stored(
                id=seal.id,
                file=file,
                was=seal.file,
                bytes=after.size,
                sha256=after.hash,
                plain_bytes=seal.bytes,
                plain_sha256=seal.sha256,
                lines=seal.lines,
                last=seal.last,
                recipients=self._form.recipients,
                about=index.about(self._directory, seal.id, seal.file),
            )
            node = NodeLog(self._directory, sync=True)
            try:
                node.append([(self._now(), entry)])
            finally:
                node.close()
            undo.pop_all()
            source.close()
        _finish(self._directory, entry)
        return entry

    def _write(self, source: BinaryIO, new: Path) -> "tuple[_Measured, _Measured]":
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        files.give(new)
        with open(fd, "wb", buffering=_BLOCK) as out:
            before, after = _Measured(source, self._stopped), _Measured(out, self._stopped)
            reader: Any = before
            if self._form.compress:
                size = os.fstat(source.fileno()).st_size
                reader = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_reader(
                    cast(BinaryIO, before), size=size, read_size=_BLOCK, closefd=False
                )
            if self._form.recipients:
                pyrage.encrypt_io(reader, after, [recipient_key(text) for text in self._form.recipients])
            else:
                shutil.copyfileobj(reader, after, _BLOCK)
            out.flush()
            os.fsync(out.fileno())
        return before, after


def _finish(directory: Path, entry: Stored) -> None:
    """Steps 3 and 4, as far as they are not done."""
    file, plain = directory / entry.file, directory / entry.was
    new = file.with_name(file.name + NEW)
    if not file.exists():
        if not new.exists():
            return  # the plain file may be all that is left of it
        new.rename(file)
        files.sync_folder(file.parent)
    if plain.exists() and plain != file and file.stat().st_size == entry.bytes:
        if stored.encrypted(file):
            held.keep(directory, entry.id, plain)
        plain.unlink()
        files.sync_folder(plain.parent)


class _Measured:
    """A file that is read or written in blocks, with the size and SHA-256 of what passed."""

    def __init__(self, file: BinaryIO, stopped: Callable[[], bool]) -> None:
        self._file = file
        self._stopped = stopped
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def hash(self) -> str:
        return self._digest.hexdigest()

    def read(self, size: int = -1) -> bytes:
        if self._stopped():
            raise StoppedError
        return self._pass(self._file.read(size))

    def write(self, data: bytes) -> int:
        self._pass(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def _pass(self, data: bytes) -> bytes:
        self._digest.update(data)
        self.size += len(data)
        return data
