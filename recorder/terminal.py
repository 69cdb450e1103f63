"""A real terminal for the player: keys one by one, the transcript above, one status line at the bottom.

The transcript scrolls as any output does and stays when the player ends. Must not know what keys mean. Invariant: the
terminal is left as it was found, however the player ends.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from recorder import player
from recorder.player import Action, Deck, Jump, Quit, Say, Show
from recorder.scene import Scene, clock

_NAMED: Final = {"\x1b[C": "right", "\x1b[D": "left", "\x1bOC": "right", "\x1bOD": "left", "\x1b": "escape"}
_CONTEXT: Final = 200
"""Entries that are looked at to fill a screen after a jump."""
Wait = Callable[[int, float | None], bool]


def wait_for(fd: int, seconds: float | None) -> bool:
    """Whether something can be read within `seconds` (None: for ever)."""
    return bool(select.select([fd], [], [], seconds)[0])


class Keys:
    """Keys of a terminal, as they are pressed. `wait` and `now` are the clock's; a test gives its own."""

    def __init__(self, fd: int, *, wait: Wait = wait_for, now: Callable[[], float] = time.monotonic) -> None:
        self._fd = fd
        self._wait = wait
        self.now = now
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._left: list[str] = []

    def next(self, seconds: float | None) -> str | None:
        """The next key, or None when `seconds` are over. A closed terminal is `q`."""
        until = None if seconds is None else self.now() + seconds
        while not self._left:
            rest = None if until is None else max(0.0, until - self.now())
            if not self._wait(self._fd, rest):
                return None
            try:
                data = os.read(self._fd, 256)
            except OSError:
                return "q"
            if not data:
                return "q"
            self._left = list(_split(self._decode(data)))
        return self._left.pop(0)


def _split(text: str) -> Iterator[str]:
    """Keys of what a terminal sent at once; sequences that have no name here are dropped."""
    while text:
        if text[0] != "\x1b":
            yield text[0]
            text = text[1:]
            continue
        length = 1
        if text[1:2] in ("[", "O"):
            length = 2
            while length < len(text) and not "@" <= text[length] <= "~":
                length += 1
            length += 1
        name = _NAMED.get(text[:length])
        text = text[length:]
        if name is not None:
            yield name


class Theatre:
    """Shows a deck on a console, and gives it the keys."""

    def __init__(self, deck: Deck, scene: Scene, console: Console, keys: Keys, *, state: str) -> None:
        self._deck = deck
        self._scene = scene
        self._console = console
        self._keys = keys
        self._state = state
        self._remark = player.HELP
        self._since = keys.now()

    def run(self) -> None:
        """Until somebody quits, or to the end where nobody stopped it. Where it begins later than at the first entry,
        what stands before is drawn too."""
        if self._deck.at < 0 and (first := self._deck.step()):
            self._act([Jump(self._deck.at), *first[1:]] if self._deck.at > 0 else first)
        while not self._deck.over:
            self._status()
            due = self._deck.due()
            key = self._keys.next(None if due is None else max(0.0, self._since + due - self._keys.now()))
            if key is not None:
                self._remark = ""
            actions = self._deck.step() if key is None else self._deck.press(key)
            if due is None or not all(isinstance(action, Say) for action in actions):
                self._since = self._keys.now()  # else a key was pressed while an entry is waited for: that goes on
            if not self._act(actions):
                break
        self._write("\r\x1b[2K")

    def _act(self, actions: list[Action]) -> bool:
        for action in actions:
            match action:
                case Show(entry):
                    self._lines(self._scene.draw(entry, state=self._state))
                case Jump(at):
                    self._jump(at)
                case Say(text):
                    self._remark = text
                case Quit():
                    return False
        return True

    def _jump(self, at: int) -> None:
        """A screen as it was when entry `at` had just come."""
        height = max(self._console.height - 1, 1)
        self._scene.forget()
        lines: list[Text] = []
        for number, entry in self._deck.tape.entries(0):
            if number == 0:  # the head says which database the prompt shows
                lines = self._scene.draw(entry, state=self._state)
            break
        begin = max(1, at - min(_CONTEXT, height))
        if at > 0:
            lines = lines if begin == 1 else []
            for number, entry in self._deck.tape.entries(begin):
                if number > at:
                    break
                lines += self._scene.draw(entry, state=self._state)
        self._write("\r\x1b[2J\x1b[H")
        self._lines(_last(lines, height, self._console.width))

    def _lines(self, lines: list[Text]) -> None:
        self._write("\r\x1b[2K")
        for line in lines:
            self._console.print(line, soft_wrap=True, highlight=False)

    def _status(self) -> None:
        deck, tape = self._deck, self._deck.tape
        width = self._console.width - 1
        if deck.typed is not None:
            text = f"/{deck.typed}"
        else:
            mark = "■" if deck.ended else "‖" if deck.paused else "▶"
            speed = f" ×{deck.speed:g}" if deck.speed != 1 else ""
            place = f"{clock(deck.offset)[1:-5]} / {clock(tape.seconds)[1:-5]}"
            refused = f"  {tape.refusals} refused" if tape.refusals else ""
            text = f" {mark}{speed} {place}  {deck.at + 1}/{tape.length}{refused}  {self._remark or '? keys'} "
        line = Text(text[:width], "reverse" if self._console.color_system else "")
        with self._console.capture() as captured:
            self._console.print(line, end="", soft_wrap=True, highlight=False)
        self._write(f"\r\x1b[2K{captured.get()}")

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


def _last(lines: list[Text], height: int, width: int) -> list[Text]:
    """As many of the last lines as fill a screen."""
    left, kept = height, list[Text]()
    for line in reversed(lines):
        left -= max(1, -(-line.cell_len // max(width, 1)))
        if left < 0 and kept:
            break
        kept.append(line)
    return kept[::-1]


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """The terminal gives keys one by one and echoes none; as it was, afterwards."""
    before: list[Any] = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
