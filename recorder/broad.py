"""Reading with all processors: a large file in pieces side by side, joined where they meet; many small ones at once.

Of a large file it only says yes: every line stands where it was written. Where that is not so, or the file is not
plain, it is read from end to end by `walk`, which names what is wrong. Invariant: the answer is that of `walk` alone.
"""

import hashlib
import os
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, repeat
from multiprocessing import get_context
from pathlib import Path

from recorder import chain, stored
from recorder.stored import BrokenError, Identity, SealedError
from recorder.walk import Walk, in_order, walk

LARGE = 64 << 20
"""Bytes from which it pays to start processes."""
_BATCH = 8 << 20
"""Bytes that a process is given at once, about."""
_PIECE = 16 << 20
"""Bytes of a large file that a process is given at once, about: few enough that all processors end together."""
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a file, all in order in itself: its first line's number and `prev`, its last one's number and hash."""

    first: int
    prev: str
    last: int
    hash: str
    hashes: dict[int, str]
    torn: int


@dataclass(frozen=True, slots=True)
class Job:
    """A file that is to be read as `walk` does; None where there is nothing to read."""

    path: Path | None
    file: str
    wanted: Collection[int]


def many(jobs: Sequence[Job], *, large: int = LARGE) -> Iterator[Walk | None]:
    """What `walk` says of each, in their order. None: it is to be read alone, since it is large, or cannot be read
    (then the reader is told why), or all of them are too little work."""
    processors, sizes = len(os.sched_getaffinity(0)), [_size(job.path) for job in jobs]
    small = [size if size < large else 0 for size in sizes]
    if processors == 1 or sum(small) < large:
        yield from repeat(None, len(jobs))
        return
    batches, held = [[jobs[0]]], small[0]
    for job, size in zip(jobs[1:], small[1:], strict=True):
        if held + size > _BATCH:
            batches.append([])
            held = 0
        batches[-1].append(job)
        held += size
    with ProcessPoolExecutor(processors, mp_context=get_context("spawn")) as pool:
        for found in pool.map(_each, batches, repeat(large)):
            yield from found


def _each(jobs: list[Job], large: int) -> list[Walk | None]:
    return [_alone(job, large) for job in jobs]


def _alone(job: Job, large: int) -> Walk | None:
    if job.path is None or _size(job.path) >= large:
        return None
    try:
        return walk(job.path, job.file, wanted=job.wanted)
    except (OSError, SealedError, BrokenError):
        return None


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def read(
    path: Path, file: str, *, wanted: Collection[int] = (), keys: Sequence[Identity] = (), large: int = LARGE
) -> Walk:
    """As `walk`."""
    processors = len(os.sched_getaffinity(0))
    if processors > 1 and stored.suffix(path) in ("", stored.PLAIN):
        size = _size(path)  # 0 where it is in another form by now, which `walk` finds
        if size >= max(large, 1) and (seen := _side_by_side(path, size, sorted(wanted), processors)) is not None:
            return seen
    return walk(path, file, wanted=wanted, keys=keys)


def _side_by_side(path: Path, size: int, wanted: list[int], processors: int) -> Walk | None:
    step = max(1, size // max(processors, size // _PIECE))
    with path.open("rb") as source:
        first = source.readline().rstrip(b"\n")
        cuts = [0]
        for at in range(step, size, step):
            source.seek(at)
            source.readline()
            cuts.append(source.tell())
    cuts.append(size)
    parts = [(start, end) for start, end in pairwise(cuts) if start < end]
    with ProcessPoolExecutor(processors, mp_context=get_context("spawn")) as pool:
        whole = pool.submit(_digest, path, size)
        pieces = list(pool.map(_piece, [path] * len(parts), *zip(*parts, strict=True), [wanted] * len(parts)))
        sha256 = whole.result()
    number, last, hashes = 0, chain.GENESIS, dict[int, str]()
    for piece in pieces:
        if piece is None or (piece.first, piece.prev) != (number + 1, last):
            return None
        number, last = piece.last, piece.hash
        hashes |= piece.hashes
    end = pieces[-1]
    torn = end.torn if end is not None else 0
    return Walk(lines=number, size=size, last=last, sha256=sha256, torn=torn, first=first, hashes=hashes)


def _digest(path: Path, size: int) -> str:
    whole, left = hashlib.sha256(), size
    with path.open("rb", buffering=0) as source:
        while left and (block := source.read(min(_BLOCK, left))):
            whole.update(block)
            left -= len(block)
    return whole.hexdigest()


def _piece(path: Path, start: int, end: int, wanted: list[int]) -> _Piece | None:
    """The lines from byte `start` to `end`; None where one of them is not in order."""
    rest, text, first, prev, number, last = b"", b"", 0, "", 0, ""
    hashes: dict[int, str] = {}
    with path.open("rb", buffering=0) as source:
        source.seek(start)
        left = end - start
        while left and (block := source.read(min(_BLOCK, left))):
            left -= len(block)
            lines = (rest + block if rest else block).split(b"\n")
            rest = lines.pop()
            if not lines:
                continue
            if not first:
                head = chain.decode(lines[0])
                if head is None:
                    return None
                first, prev = head.seq, head.prev
                number, last = first - 1, prev
            found = in_order(lines, number + 1, last) or _one_by_one(lines, number + 1, last)
            if found is None:
                return None
            at = bisect_left(wanted, number + 1)
            while at < len(wanted) and wanted[at] <= number + len(lines):
                hashes[wanted[at]] = found[wanted[at] - number - 1]
                at += 1
            number, last, text = number + len(lines), found[-1], lines[-1]
    if chain.decode(text) is None:
        return None
    return _Piece(first, prev, number, last, hashes, len(rest))


def _one_by_one(lines: list[bytes], first: int, last: str) -> list[str] | None:
    """As `in_order`, for lines that are not all of one shape."""
    found = []
    for number, text in enumerate(lines, first):
        line = chain.decode(text)
        if line is None or (line.seq, line.prev) != (number, last):
            return None
        last = chain.digest(text)
        found.append(last)
    return found
