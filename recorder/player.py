"""The player's logic: where it is on the tape, when the next entry is due, and what a key does.

A state machine without a terminal and without a clock: `due` says how long to wait, `step` and `press` what is to be
shown. Must not print, read keys or ask the time. Invariant: what `press` and `step` give is the whole change of what is
seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from recorder.replay import MAX_IDLE
from recorder.tape import Tape
from recorder.timeline import Entry

SPEEDS: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SEEK: Final = 10.0
"""Seconds of an arrow key."""
HELP: Final = "space pause  . step  n refusal  [ ] marks  + - speed  / search  q quit  ? more"
END: Final = "the end; q quits"
MORE: Final = "; search again  ← → 10 s  g begin  G end"


class Jump(NamedTuple):
    """The screen is to be drawn anew, ending with entry number `at`."""

    at: int


class Show(NamedTuple):
    """One entry is to be added."""

    entry: Entry


class Say(NamedTuple):
    """A remark in the status line."""

    text: str


class Quit(NamedTuple):
    """It is over."""


Action = Jump | Show | Say | Quit


class Deck:
    """Plays one tape. `at`: the entry to begin with."""

    def __init__(self, tape: Tape, *, speed: float = 1.0, max_idle: float = MAX_IDLE, at: int = 0) -> None:
        self.tape = tape
        self.speed = speed
        self.paused = False
        self.typed: str | None = None
        """What has been typed of a search; None when none is being typed."""
        self._max_idle = max_idle
        self._needle = ""
        self._now = 0.0
        self._shown = -1
        self._next: tuple[int, Entry] | None = None
        self._load(at)

    @property
    def at(self) -> int:
        """The number of the last entry that is shown; -1 before the first."""
        return self._shown

    @property
    def offset(self) -> float:
        """How far into the recording that is, in seconds."""
        return self._now

    @property
    def ended(self) -> bool:
        return self._next is None

    @property
    def over(self) -> bool:
        """Whether everything was shown, and nobody stopped it to look."""
        return self._next is None and not self.paused and self.typed is None

    def due(self) -> float | None:
        """Seconds to wait for the next entry; None where only a key can bring it."""
        if self.paused or self._next is None or self.typed is not None:
            return None
        gap = self._next[1].offset - self._now
        return max(0.0, min(gap, self._max_idle)) / self.speed if self._shown >= 0 else 0.0

    def step(self) -> list[Action]:
        """The next entry."""
        if self._next is None:
            return []
        number, entry = self._next
        self._shown, self._now = number, entry.offset
        self._next = next(self._entries, None)
        if self._next is None:
            return [Show(entry), Say(END)]
        return [Show(entry)]

    def press(self, key: str) -> list[Action]:
        """What a key does. A key that means nothing does nothing."""
        if self.typed is not None:
            return self._type(key)
        match key:
            case "q" | "\x03" | "\x04":
                return [Quit()]
            case " ":
                self.paused = not self.paused
                return [Say("")]
            case ".":
                self.paused = True
                return self.step() or [Say(END)]
            case "]":
                return self._to(self.tape.next_mark(self._shown), "there is no mark after this")
            case "[":
                return self._to(self.tape.mark_before(self._shown), "there is no mark before this")
            case "n":
                return self._to(self.tape.next_refusal(self._shown), "nothing is refused after this")
            case "+" | "=":
                return self._faster(1)
            case "-" | "_":
                return self._faster(-1)
            case "right" | "left":
                way = SEEK if key == "right" else -SEEK
                return self._to(self.tape.at_time(max(0.0, self._now + way)), "", pause=False)
            case "g":
                return self._to(0, "")
            case "G":
                return self._to(self.tape.length - 1, "")
            case "/":
                self.typed = ""
                return [Say("")]
            case ";":
                return self._search()
            case "?" | "h":
                return [Say(MORE)]
        return []

    def _type(self, key: str) -> list[Action]:
        typed = self.typed or ""
        if key in ("\r", "\n"):
            self._needle, self.typed = typed or self._needle, None
            return self._search()
        if key in ("escape", "\x03"):
            self.typed = None
        elif key in ("\x7f", "\b"):
            self.typed = typed[:-1] if typed else None
        elif len(key) == 1 and key.isprintable():
            self.typed = typed + key
        return [Say("")]

    def _search(self) -> list[Action]:
        if not self._needle:
            return [Say("nothing to search for; type / and words")]
        return self._to(self.tape.search(self._needle, self._shown), f"nothing holds {self._needle!r}")

    def _faster(self, way: int) -> list[Action]:
        nearest = min(range(len(SPEEDS)), key=lambda at: abs(SPEEDS[at] - self.speed))
        self.speed = SPEEDS[min(max(nearest + way, 0), len(SPEEDS) - 1)]
        return [Say("")]

    def _to(self, number: int | None, otherwise: str, *, pause: bool = True) -> list[Action]:
        """Jump so that entry `number` is the last that is seen, and wait there."""
        if number is None:
            return [Say(otherwise)]
        self._load(number)
        shown = self.step()
        self.paused = self.paused or pause
        return [Jump(self._shown), *shown[1:]]

    def _load(self, at: int) -> None:
        self._entries: Iterator[tuple[int, Entry]] = self.tape.entries(at)
        self._next = next(self._entries, None)
