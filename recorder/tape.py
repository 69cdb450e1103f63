"""A recording with places in it: any of its events at once, by its line, its time, a mark or a word.

Goes through the file once, and keeps only where every 256th line begins and which lines are marks; everything else is
read when it is asked for: a recording of a million events is neither held in memory nor slow to jump in. Must not draw.
Invariant: entry N is the N-th line that has a line's head, whichever way it was come to.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import re
import weakref
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from recorder import reading, stored, timeline
from recorder.stored import Identity
from recorder.timeline import Entry

STEP: Final = 256
"""Lines from one kept place to the next."""
# In JSON text a quote inside of a string is escaped: these stand nowhere but as keys of the line.
_DENY, _ERROR = b',"verdict":"deny"', b',"sqlstate":"'
_TELLING: Final = re.compile(rb',"(?:verdict":"(?:deny|hold)"|sqlstate":")')
_MARKS: Final = frozenset({b"cancel", b"notice", b"hold", b"session.end", b"recovered"})
_OFFSET: Final = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Tape:
    """One recording as far as it was written when it was opened. Errors as `stored.opened` has them."""

    def __init__(self, path: Path, keys: Sequence[Identity] = ()) -> None:
        self._file = stored.opened(path, keys)
        weakref.finalize(self, self._file.close)
        self._places = array("q")
        self._offsets = array("d")
        self._refused = array("q")
        self._marks = array("q")
        self._first: datetime | None = None
        self._last = b""
        self.length = 0
        """How many entries there are."""
        self.seconds = 0.0
        """How long it lasts."""
        place = 0
        for lines in reading.blocks_of(self._file):
            place = self._take(lines, reading.events(lines), place)
        with contextlib.suppress(ValueError):
            self.seconds = self._since_first(self._last)

    def _take(self, lines: list[bytes], events: list[bytes | None], place: int) -> int:
        """Note what is worth it of the lines from byte `place` on; returns where they end."""
        starts = list(itertools.accumulate([len(raw) + 1 for raw in lines], initial=0))
        places, end = [place + start for start in starts], place + starts[-1]
        if None in events:
            kept = [at for at, event in enumerate(events) if event is not None]
            lines, events, places = [lines[at] for at in kept], [events[at] for at in kept], [places[at] for at in kept]
            starts = list(itertools.accumulate([len(raw) + 1 for raw in lines], initial=0))
        at = 0
        while self._first is None and at < len(lines):
            self._note(self.length + at, places[at], lines[at])
            at += 1
        for block in range(at + -(self.length + at) % STEP, len(lines), STEP):
            self._note(self.length + block, places[block], lines[block])
        marked = {at for at, event in enumerate(events) if event in _MARKS}
        for found in _TELLING.finditer(b"\n".join(lines)):  # all lines at once: few have any
            at = bisect.bisect_right(starts, found.start()) - 1
            if events[at] == (b"outcome" if found[0] == _ERROR else b"statement"):
                marked.add(at)
        marks = sorted(marked)
        self._marks.extend([self.length + at for at in marks])
        self._refused.extend([self.length + at for at in marks if events[at] == b"statement" and _DENY in lines[at]])
        self.length += len(lines)
        self._last = lines[-1] if lines else self._last
        return end

    def entries(self, at: int = 0) -> Iterator[tuple[int, Entry]]:
        """The entries from number `at` (from 0) on, each with its number. What cannot be read has a number, and is
        passed over."""
        if not 0 <= at < self.length or self._first is None:
            return
        offset = self._offsets[at // STEP]
        for number, raw in self._lines(at // STEP):
            entry = timeline.entry(raw, self._first, offset)
            if entry is not None:
                offset = entry.offset
                if number >= at:
                    yield number, entry

    def at_time(self, seconds: float) -> int:
        """The first entry that is not earlier; the last one where none is."""
        block = max(0, bisect.bisect_left(self._offsets, seconds) - 1)
        for number, entry in self.entries(block * STEP):
            if entry.offset >= seconds:
                return number
        return max(0, self.length - 1)

    def find(self, text: str) -> int:
        """The entry that a person means: `#12` or `12` (a line of the recording), `1:30`, `90s` (from the start), or a
        time of day with its date. ValueError says how it is written."""
        number = text.removeprefix("#")
        if number.isdigit():
            return self._at_seq(int(number))
        offset = _OFFSET.fullmatch(text)
        if offset is not None:
            hours, minutes, seconds, amount, unit = offset.groups()
            if unit is not None:
                return self.at_time(float(amount) * _UNITS[unit])
            return self.at_time(int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds))
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is no place; write 1:30, 90s, #12 or 2026-01-05T09:00:00Z") from None
        if self._first is None:
            return 0
        return self.at_time((moment.replace(tzinfo=moment.tzinfo or self._first.tzinfo) - self._first).total_seconds())

    def next_refusal(self, after: int) -> int | None:
        """The next statement that was refused, after number `after`."""
        return _after(self._refused, after)

    def next_mark(self, after: int) -> int | None:
        """The next refusal, error, notice, cancel or end."""
        return _after(self._marks, after)

    def mark_before(self, before: int) -> int | None:
        """The nearest of these before number `before`."""
        at = bisect.bisect_left(self._marks, before) - 1
        return self._marks[at] if at >= 0 else None

    @property
    def refusals(self) -> int:
        return len(self._refused)

    def search(self, text: str, after: int) -> int | None:
        """The next entry after number `after` that holds the text, however it is capitalised; from the beginning again
        where there is none."""
        needle = text.lower()
        # What JSON writes as it is can be looked for in the line itself; only a line that has it is decoded.
        plain = needle.encode() if needle.isascii() and needle.isprintable() and not set(needle) & {'"', "\\"} else b""
        for begin, end in ((after + 1, self.length), (0, after + 1)):
            for number, raw in self._lines(begin // STEP):
                if number >= end:
                    break
                if number < begin or plain not in raw.lower():
                    continue
                entry = timeline.entry(raw, self._first, 0.0)
                if entry is not None and any(needle in said.lower() for said in timeline.texts(entry)):
                    return number
        return None

    def _lines(self, block: int) -> Iterator[tuple[int, bytes]]:
        """The lines that have a number, from a block on."""
        if block >= len(self._places):
            return
        numbers = itertools.count(block * STEP)
        for _, raw in reading.lines_of(self._file, self._places[block]):
            if reading.event(raw) is not None:
                number = next(numbers)
                if number >= self.length:
                    return
                yield number, raw

    def _note(self, number: int, place: int, raw: bytes) -> None:
        """Where a block begins, and when."""
        offset = self._offsets[-1] if self._offsets else 0.0
        head = reading.head(raw)
        with contextlib.suppress(ValueError):
            if head is not None:
                self._first = self._first or head.time
                offset = max(offset, self._since_first(raw))
        if number % STEP == 0:
            self._places.append(place)
            self._offsets.append(offset)

    def _since_first(self, raw: bytes) -> float:
        head = reading.head(raw)
        if head is None or self._first is None:
            return self.seconds
        return max(0.0, (head.time - self._first).total_seconds())

    def _at_seq(self, seq: int) -> int:
        """Lines are numbered from 1 without a gap, unless somebody took one out."""
        guess = min(max(seq - 1, 0), max(self.length - 1, 0))
        for number, entry in self.entries(guess):
            if entry.seq >= seq:
                return number
        return max(0, self.length - 1)


def _after(marks: array[int], after: int) -> int | None:
    at = bisect.bisect_right(marks, after)
    return marks[at] if at < len(marks) else None
