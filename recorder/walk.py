"""Reading one chained file from end to end, and saying what does not fit.

Finds by the chain alone: a changed byte (the next line's `prev` does not fit), a line removed, added, moved, or made
unreadable. What the chain cannot tell, because it is at the file's end or was rewritten whole, `verify` finds with
the node log. Must not know either. Invariant: a half line at the end is told apart from damage, since every file that
is being written may have one.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from recorder import chain

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
) -> Walk:
    """Read `path`, called `file` in findings; `each` gets number, bytes and header of every readable line. OSError
    when unreadable."""
    seen, whole, order = Walk(), hashlib.sha256(), _Order(file)
    with path.open("rb") as lines:
        for raw in lines:
            whole.update(raw)
            seen.size += len(raw)
            if not raw.endswith(b"\n"):
                seen.torn = len(raw)
                break
            seen.lines += 1
            text = raw[:-1]
            line = chain.decode(text)
            order.step(seen.lines, line, seen.last)
            seen.last = chain.digest(text)
            if seen.lines == 1:
                seen.first = text
            if seen.lines in wanted:
                seen.hashes[seen.lines] = seen.last
            if each is not None and line is not None:
                each(seen.lines, text, line)
    seen.sha256 = whole.hexdigest()
    seen.findings = order.finish()
    return seen


class _Order:
    """Follows `seq` and `prev` and names what happened where they break."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._next = 1
        self._gaps: dict[int, int] = {}
        self._broken = False
        self._found: list[Finding] = []

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
