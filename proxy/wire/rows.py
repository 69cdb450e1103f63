"""The header walk over result rows: the one loop that runs for every row of every result.

DataRow and CopyData carry what the client asked for and nothing that daypass must read, so the walk steps from
header to header and makes no object that outlives a step. It counts; it never looks into a row.
Invariant: it stops at the first message that is not a row, at the first row that is not all there, and at a
length that cannot be right; it never steps beyond the end of the data.
"""

from __future__ import annotations

from proxy.wire.framing import COPY_DATA, DATA_ROW, HEADER, TYPE_AND_LENGTH, spans


def walk(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Step over the whole rows in data[pos:end]; returns (position after the last one, number of rows)."""
    rows = 0
    header = TYPE_AND_LENGTH
    last = end - HEADER
    while pos <= last:
        kind, length = header(data, pos)
        # Both are tested by one comparison on the common path: result rows are 'D', COPY rows 'd'.
        if kind != DATA_ROW and kind != COPY_DATA:  # noqa: PLR1714 - two comparisons are faster than a tuple
            break
        after = pos + 1 + length
        if after > end or length < 4:
            break
        pos = after
        rows += 1
    return pos, rows


def walk_plainly(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """The same answer by the general rule of framing; the twin that the property test holds `walk` against."""
    rows = 0
    for kind, _, stop in spans(data[:end], pos):
        if kind not in (DATA_ROW, COPY_DATA):
            break
        pos, rows = stop, rows + 1
    return pos, rows
