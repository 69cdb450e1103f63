"""Reading a recording however it is stored: plain, compressed (zstd), encrypted (age), or both.

    <id>.jsonl   <id>.jsonl.zst   <id>.jsonl.age   <id>.jsonl.zst.age

Every reader opens recordings here and nowhere else, and sees the lines as they were written. Must not know seals or
the node log. Invariants: plain text never touches the disk, memory is bounded whatever the size, and a file that is
replaced by another form of itself while somebody looks for it is still found.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import pyrage
import zstandard

PLAIN = ".jsonl"
SUFFIXES = (PLAIN, ".jsonl.zst", ".jsonl.zst.age", ".jsonl.age")
_BLOCK = 1 << 20
_WINDOW = 1 << 27
"""The most memory that a compressed file may ask for."""

Identity = Any
"""An age identity (x25519 or ssh), as `identities` reads it from a file."""


class SealedError(Exception):
    """The contents cannot be read here: they are encrypted, and no key that was given opens them."""


class BrokenError(Exception):
    """The stored bytes are not a whole compressed or encrypted file."""


def session_id(file: str | Path) -> str:
    """The session whose recording has this path, whatever its form."""
    return Path(file).name.partition(PLAIN)[0]


def suffix(file: str | Path) -> str:
    """The form that the path names: one of SUFFIXES, or nothing where it is none."""
    name = Path(file).name
    found = name[len(session_id(file)) :]
    return found if found in SUFFIXES else ""


def session_files(directory: Path) -> list[str]:
    """All session recordings on disk in any form, as paths below the folder, oldest month first."""
    found = directory.glob("[0-9]*/[0-9]*/*.jsonl*")
    return sorted(path.relative_to(directory).as_posix() for path in found if suffix(path))


def locate(path: Path) -> Path:
    """Where the recording lies now: at `path`, or beside it in another form. `path` itself where it is gone."""
    if path.exists() or not suffix(path):
        return path
    stem = path.name.partition(PLAIN)[0]
    there = (path.with_name(stem + form) for form in SUFFIXES)
    return next((other for other in there if other.exists()), path)


def encrypted(file: str | Path) -> bool:
    """Whether a recording of this path needs a key to be read."""
    return suffix(file).endswith(".age")


def identities(file: Path) -> list[Identity]:
    """The secret keys in an age identity file, or in an OpenSSH key file. OSError; ValueError says what is wrong."""
    data = file.read_bytes()
    try:
        if b"PRIVATE KEY-----" in data:
            return [pyrage.ssh.Identity.from_buffer(data)]
        text = data.decode()
        named = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        found = [pyrage.x25519.Identity.from_str(line) for line in named]
    except (pyrage.IdentityError, UnicodeDecodeError, ValueError):
        raise ValueError(f"{file} holds no age identity (AGE-SECRET-KEY-1…) and no OpenSSH key") from None
    if not found:
        raise ValueError(f"{file} holds no age identity; age-keygen makes one")
    return found


@contextlib.contextmanager
def reading(path: Path, keys: Sequence[Identity] = ()) -> Iterator[BinaryIO]:
    """The plain bytes of a recording, for a `with`. A recording that has just been stored in another form is found.
    OSError; SealedError without the right key; BrokenError, also in mid-read, where the stored bytes are damaged."""
    with contextlib.ExitStack() as closing:
        try:
            source: BinaryIO = closing.enter_context(path.open("rb"))
        except FileNotFoundError:
            path = locate(path)
            source = closing.enter_context(path.open("rb"))
        form = suffix(path)
        if form.endswith(".age"):
            source = closing.enter_context(_decrypted(source, path, keys))
        if ".zst" in form:
            source = closing.enter_context(_decompressed(source))
        try:
            yield source
        except zstandard.ZstdError as cause:
            raise BrokenError(f"{path} is no whole zstd file: {cause}") from cause


def opened(path: Path, keys: Sequence[Identity] = ()) -> BinaryIO:
    """As `reading`, to be sought in as well. What is not plain is decoded into memory that belongs to no disk."""
    if suffix(locate(path)) in ("", PLAIN):
        with contextlib.suppress(FileNotFoundError):
            return path.open("rb")
    held: BinaryIO = open(os.memfd_create("recording", os.MFD_CLOEXEC), "w+b")  # noqa: SIM115 - the caller closes it
    try:
        with reading(path, keys) as source:
            while block := source.read(_BLOCK):
                held.write(block)
    except BaseException:
        held.close()
        raise
    held.seek(0)
    return held


@contextlib.contextmanager
def _decompressed(source: BinaryIO) -> Iterator[BinaryIO]:
    size = _size(source)
    raw = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(source, read_size=_BLOCK, closefd=False)
    with io.BufferedReader(_Whole(cast(Any, raw), size), _BLOCK) as lines:
        yield lines


def _size(source: BinaryIO) -> int | None:
    """How many bytes a compressed file says that it holds; None where it cannot be told (age's own end then tells)."""
    if not isinstance(source, io.BufferedReader):
        return None
    try:
        size = zstandard.get_frame_parameters(source.peek(32)).content_size
    except zstandard.ZstdError as cause:
        raise BrokenError(f"this is no zstd file: {cause}") from None
    return size if 0 <= size < 1 << 62 else None


class _Whole(io.RawIOBase):
    """What is decoded, to its end: zstd takes a file that was cut off for a shorter one."""

    def __init__(self, raw: BinaryIO, size: int | None) -> None:
        self._raw = raw
        self._size = size
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        count: int = cast(Any, self._raw).readinto(into)
        self._done += count
        if not count and len(into) and self._size is not None and self._done != self._size:
            raise BrokenError(f"the compressed file ends after {self._done} of {self._size} bytes")
        return count


@contextlib.contextmanager
def _decrypted(source: BinaryIO, path: Path, keys: Sequence[Identity]) -> Iterator[BinaryIO]:
    """age gives the bytes away as it likes, so it does that in a thread of its own, through a pipe."""
    if not keys:
        raise SealedError(f"{path.name} is encrypted: give the key with --identity FILE")
    out, into = os.pipe()
    failed: list[Exception] = []

    def work() -> None:
        with contextlib.suppress(BrokenPipeError), open(into, "wb") as sink:
            try:
                pyrage.decrypt_io(source, sink, keys)
            except Exception as cause:
                failed.append(cause)

    thread = threading.Thread(target=work, name="age", daemon=True)
    thread.start()
    reader = _Checked(open(out, "rb", buffering=_BLOCK), failed, path)  # noqa: SIM115
    try:
        yield cast(BinaryIO, reader)
    finally:
        reader.close()
        thread.join()


class _Checked:
    """The end of a pipe; where it ends too early, says why."""

    def __init__(self, pipe: IO[bytes], failed: list[Exception], path: Path) -> None:
        self._pipe = pipe
        self._failed = failed
        self._path = path

    def read(self, size: int = -1) -> bytes:
        data = self._pipe.read(size)
        if len(data) < size or size < 0:
            self._check()
        return data

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pipe
        self._check()

    def readline(self) -> bytes:
        line = self._pipe.readline()
        if not line.endswith(b"\n"):
            self._check()
        return line

    def close(self) -> None:
        self._pipe.close()

    def _check(self) -> None:
        for cause in self._failed:
            if "No matching keys" in str(cause):
                raise SealedError(f"{self._path.name} is encrypted to other keys than the one given") from None
            raise BrokenError(f"{self._path} is no whole age file: {cause}") from None
