"""Reading one chained file from end to end, and saying what does not fit.

Finds by the chain alone: a changed byte (the next line's `prev` does not fit), a line removed, added, moved, or made
unreadable. What the chain cannot tell, because it is at the file's end or was rewritten whole, `verify` finds with
the node log. Must not know either. Invariant: a half line at the end is told apart from damage, since every file that
is being written may have one.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from recorder import chain, stored
from recorder.stored import Identity

_BLOCK = 1 << 18
_HEADER = 200
"""Where the header of a line as we compose it ends, at the latest."""
MOST = 50
"""Findings kept of one file; a file with more is damaged beyond listing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `file` is the path below the recordings folder, `line` counts from 1."""

    kind: str
    file: str
    line: int | None
    detail: str


@dataclass(slots=True)
class Walk:
    """What one reading of a file showed. `hashes` holds those of the lines that were asked for; `torn` counts the
    bytes after the last whole line; `first` is the first line."""

    lines: int = 0
    size: int = 0
    last: str = chain.GENESIS
    sha256: str = ""
    torn: int = 0
    first: bytes = b""
    hashes: dict[int, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def walk(
    path: Path,
    file: str,
    *,
    wanted: Collection[int] = (),
    each: Callable[[int, bytes, chain.Line], None] | None = None,
    every: Callable[[bytes], None] | None = None,
    keys: Sequence[Identity] = (),
) -> Walk:
    """Read `path`, called `file` in findings; `each` gets number, bytes and header of every readable line, `every` the
    bytes of every whole one; `keys` open an encrypted one. OSError, SealedError or BrokenError as `stored.reading`."""
    seen, order = Walk(), _Order(file)
    rest, text, left = b"", b"", sorted(wanted, reverse=True)
    with stored.reading(path, keys) as source, _Whole() as whole:
        while block := source.read(_BLOCK):
            whole.update(block)
            seen.size += len(block)
            lines = (rest + block if rest else block).split(b"\n")
            rest = lines.pop()
            if not lines:
                continue
            first, text = seen.lines + 1, lines[-1]
            seen.first = seen.first if seen.lines else lines[0]
            hashes = None if each is not None or not order.expects(first) else in_order(lines, first, seen.last)
            if hashes is not None:
                order.passed(len(lines))
                seen.last = hashes[-1]
            else:
                hashes = [_step(seen, order, line, each) for line in lines]
            seen.lines = first + len(lines) - 1
            while left and left[-1] <= seen.lines:
                seq = left.pop()
                if seq >= first:
                    seen.hashes[seq] = hashes[seq - first]
            if every is not None:
                for line in lines:
                    every(line)
        seen.sha256 = whole.hexdigest()
    if (
        seen.lines and order.expects(seen.lines + 1) and chain.decode(text) is None
    ):  # nothing is chained to the last one
        order.step(seen.lines, None, seen.last)
    seen.torn = len(rest)
    seen.findings = order.finish()
    return seen


def _step(seen: Walk, order: "_Order", text: bytes, each: Callable[[int, bytes, chain.Line], None] | None) -> str:
    seen.lines += 1
    line = chain.decode(text)
    order.step(seen.lines, line, seen.last)
    seen.last = chain.digest(text)
    if each is not None and line is not None:
        each(seen.lines, text, line)
    return seen.last


def in_order(lines: list[bytes], first: int, last: str) -> list[str] | None:
    """The lines' hashes, if all of them are chained as we write them; compared all at once, since most are. What else
    is in a line, the next line's `prev` pins. None: look at each."""
    digits = len(str(first))
    at = lines[0].find(b'","prev":"', 0, _HEADER)
    if at < 0 or len(str(first + len(lines) - 1)) != digits:
        return None
    start, end = 14 + digits, at + 85
    numbers = b',"at":"{"seq":'.join([b"%d" % seq for seq in range(first, first + len(lines))])
    if b"".join(map(itemgetter(slice(start)), lines)) != b'{"seq":%b,"at":"' % numbers:
        return None
    sha256 = hashlib.sha256
    hashes = [sha256(line).hexdigest() for line in lines]
    links = '","event":"","prev":"'.join([last, *hashes[:-1]])
    if b"".join(map(itemgetter(slice(at, end)), lines)) != f'","prev":"{links}","event":"'.encode():
        return None
    return hashes


class _Whole:
    """The hash of all blocks, taken in a thread: hashlib lets go of the interpreter for as long as a block takes, and
    the lines are checked meanwhile. One block waits at most."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def __enter__(self) -> "_Whole":
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def update(self, block: bytes) -> None:
        if self._thread is None:
            if len(block) < _BLOCK:  # a small file is done before a thread has begun
                return self._sha256.update(block)
            self._thread = ThreadPoolExecutor(1)
        if self._running is not None:
            self._running.result()
        self._running = self._thread.submit(self._sha256.update, block)

    def hexdigest(self) -> str:
        if self._running is not None:
            self._running.result()
        return self._sha256.hexdigest()


class _Order:
    """Follows `seq` and `prev` and names what happened where they break."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._next = 1
        self._gaps: dict[int, int] = {}
        self._broken = False
        self._found: list[Finding] = []

    def expects(self, seq: int) -> bool:
        """Whether all is in order so far, and this line is the next."""
        return not self._broken and self._next == seq

    def passed(self, count: int) -> None:
        """So many lines stood as they were written."""
        self._next += count

    def step(self, number: int, line: chain.Line | None, prev: str) -> None:
        after_break, self._broken = self._broken, True
        if line is None:
            self._note("unreadable", number, "is no line of a recording")
            self._next += 1
        elif line.seq > self._next:
            for seq in range(self._next, min(line.seq, self._next + MOST)):
                self._gaps[seq] = number
            self._next = line.seq + 1
        elif line.seq < self._next:
            if self._gaps.pop(line.seq, None) is not None:
                self._note("reordered", number, f"stands in another place than it was written (seq {line.seq})")
            else:
                self._note("added", number, f"was not written here: a line {line.seq} came before it")
        else:
            self._broken = False
            self._next = line.seq + 1
            if line.prev != prev and not after_break:
                at = number - 1 if number > 1 else 1
                self._note(
                    "changed", at, "is not what the next line was chained to" if number > 1 else "has no right start"
                )

    def finish(self) -> list[Finding]:
        for seq, number in self._gaps.items():
            self._note("removed", number, f"line {seq} is missing before this one")
        return sorted(self._found, key=lambda finding: finding.line or 0)

    def _note(self, kind: str, line: int, detail: str) -> None:
        if len(self._found) < MOST:
            self._found.append(Finding(kind, self._file, line, detail))
