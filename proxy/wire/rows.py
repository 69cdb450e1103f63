"""The header walk over result rows: the one loop that runs for every row of every result.

DataRow and CopyData carry what the client asked for and nothing that daypass must read, so the walk steps from
header to header and makes no object that outlives a step. It counts; it never looks into a row.
There are two loops that do the same: one makes no objects once this file is compiled, the other is the quicker one
where it is not. Invariant: they stop at the first message that is not a row, at the first row that is not all there,
and at a length that cannot be right; they never step beyond the end of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.wire.framing import COPY_DATA, DATA_ROW, HEADER, TYPE_AND_LENGTH, spans, uint32

# ruff: noqa: PLR1714 - two comparisons beat a tuple; the first settles the common case (results are 'D', COPY is 'd')


def walk_bytes(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """As `walk`: the loop for compiled code."""
    rows = 0
    before = pos
    last = end - HEADER
    while pos <= last:
        kind = data[pos]
        length = uint32(data, pos + 1)
        if (kind != DATA_ROW and kind != COPY_DATA) or length < 4:
            break
        before = pos
        pos += 1 + length
        rows += 1
    # Only the last step can lead beyond the end, so only there is it looked at.
    return (pos, rows) if pos <= end else (before, rows - 1)


def walk_unpacked(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """As `walk`: the loop for interpreted code."""
    rows = 0
    header = TYPE_AND_LENGTH
    before = pos
    last = end - HEADER
    while pos <= last:
        kind, length = header(data, pos)
        if (kind != DATA_ROW and kind != COPY_DATA) or length < 4:
            break
        before = pos
        pos += 1 + length
        rows += 1
    return (pos, rows) if pos <= end else (before, rows - 1)


def walk_plainly(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """The same answer by the general rule of framing; the twin that the property test holds the others against."""
    rows = 0
    for kind, _, stop in spans(data[:end], pos):
        if kind not in (DATA_ROW, COPY_DATA):
            break
        pos, rows = stop, rows + 1
    return pos, rows


walk: Final[Callable[[bytes, int, int], tuple[int, int]]] = walk_unpacked if __file__.endswith(".py") else walk_bytes
"""Step over the whole rows in data[pos:end]; returns (position after the last one, number of rows)."""
