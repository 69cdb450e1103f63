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
    before = pos
    last = end - HEADER
    while pos <= last:
        kind, length = header(data, pos)
        # Result rows are 'D', COPY rows 'd'; the first test settles the common case.
        if (kind != DATA_ROW and kind != COPY_DATA) or length < 4:  # noqa: PLR1714 - two comparisons beat a tuple
            break
        before = pos
        pos += 1 + length
        rows += 1
    # Only the last step can lead beyond the end, so only there is it looked at.
    return (pos, rows) if pos <= end else (before, rows - 1)


def walk_plainly(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """The same answer by the general rule of framing; the twin that the property test holds `walk` against."""
    rows = 0
    for kind, _, stop in spans(data[:end], pos):
        if kind not in (DATA_ROW, COPY_DATA):
            break
        pos, rows = stop, rows + 1
    return pos, rows
