"""The player in a real pseudo-terminal, in a time that the test owns."""

from __future__ import annotations

import os
import select
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from recorder.player import Deck
from recorder.scene import Scene
from recorder.tape import Tape
from recorder.terminal import Keys, Theatre, raw
from tests.recorder.test_tape import record


class Stage:
    """A terminal of 60×12: what is typed, what stands on it, and its clock. Keys come when all that is due was shown
    up to their time."""

    def __init__(self, path: Path, script: list[tuple[float, str]], **options: float) -> None:
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, (12, 60))
        os.set_blocking(self.master, False)
        self.time = 0.0
        self.output = b""
        self._script = script
        tape = Tape(path)
        self.out = os.fdopen(os.dup(self.slave), "w", encoding="utf-8")
        console = Console(
            file=self.out, force_terminal=True, color_system=None, width=60, height=12, legacy_windows=False
        )
        keys = Keys(self.slave, wait=self.wait, now=lambda: self.time)
        self.theatre = Theatre(Deck(tape, **options), Scene(), console, keys, state="sealed")  # type: ignore[arg-type]

    def wait(self, fd: int, seconds: float | None) -> bool:
        self.read()
        if select.select([fd], [], [], 0)[0]:
            return True
        if self._script and (seconds is None or self._script[0][0] <= self.time + seconds):
            at, typed = self._script.pop(0)
            self.time = max(self.time, at)
            os.write(self.master, typed.encode())
            return bool(select.select([fd], [], [], 10)[0])
        assert seconds is not None, "the player waits for a key that never comes"
        self.time += seconds
        return False

    def read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self.output += data
        except BlockingIOError:
            pass

    def run(self) -> list[str]:
        """Play it; what was printed, without the status line."""
        with raw(self.slave):
            self.theatre.run()
        self.read()
        lines = [line.split("\r")[-1] for line in self.text().replace("\r\n", "\n").split("\n")]
        return [line.removeprefix("\x1b[2K") for line in lines]

    def text(self) -> str:
        return self.output.decode()

    def close(self) -> None:
        self.out.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return record(tmp_path, 60)


@pytest.fixture
def stages() -> Iterator[list[Stage]]:
    opened: list[Stage] = []
    yield opened
    for stage in opened:
        stage.close()


def test_it_plays_in_its_own_time_and_ends(path: Path, stages: list[Stage]) -> None:
    stage = Stage(path, [])
    stages.append(stage)
    lines = stage.run()
    assert stage.time == 60
    assert lines[0] == "session s-1  sealed"
    assert '[0:01:00.000] app=> select 60 as Word60, \'"verdict":"deny"\'' in lines
    assert lines[-2].strip() == "60 statements, 60 rows"
    assert lines[-1] == ""


def test_keys(path: Path, stages: list[Stage]) -> None:
    script = [
        (3.5, " "), (100, "."), (100, "."), (101, "+"), (101, " "), (102.2, "?"), (103.1, "n"), (110, "/word20,"),
        (111, "\r"),
        (112, "\x1b[C"), (113, "é\x1b[5~"), (120, "q"),
    ]  # fmt: skip
    stage = Stage(path, script)
    stages.append(stage)
    stage.run()
    text = stage.text()
    assert stage.time == 120
    assert " ‖ 0:00:03 / 0:01:00  7/123  1 refused  ? keys " in text
    assert " ‖ 0:00:04 / 0:01:00  9/123" in text
    assert " ▶ ×2 0:00:08 / 0:01:00" in text  # 2 s at twice the speed, from 4, whatever is pressed meanwhile
    assert "\x1b[2J\x1b[H" in text
    at_refusal = text.split("\x1b[2J\x1b[H")[1]
    assert "select 50 as" in at_refusal.split("✗ REFUSED by rule table")[0]
    assert len(at_refusal.split("✗")[0].split("\n")) <= 11  # one screen
    assert " ‖ ×2 0:00:50 / 0:01:00  100/123  1 refused" in at_refusal
    assert "/word20," in text
    assert " ‖ ×2 0:00:20 / 0:01:00  40/123" in text
    assert " ‖ ×2 0:00:30 / 0:01:00  60/123" in text
    widths = [len(line) for part in text.split("\x1b[2K") for line in part.replace("\x1b[2J\x1b[H", "").split("\r\n")]
    assert max(width for width in widths) <= 80  # the status never wraps; SQL may


def test_the_terminal_is_left_as_it_was(path: Path, stages: list[Stage]) -> None:
    stage = Stage(path, [(1.0, "q")])
    stages.append(stage)
    before = termios.tcgetattr(stage.slave)
    stage.run()
    assert termios.tcgetattr(stage.slave) == before
    broken = Stage(path, [])
    stages.append(broken)

    def break_it() -> None:
        with raw(broken.slave):
            assert termios.tcgetattr(broken.slave)[3] & termios.ICANON == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_it()
    assert termios.tcgetattr(broken.slave) == before


def test_a_terminal_that_went_away_is_a_quit(path: Path, stages: list[Stage]) -> None:
    read, write = os.pipe()
    os.close(write)
    assert Keys(read).next(1.0) == "q"
    os.close(read)


def test_it_can_begin_elsewhere(path: Path, stages: list[Stage]) -> None:
    stage = Stage(path, [(0.0, "q")], at=80)
    stages.append(stage)
    stage.run()
    last = stage.text().rsplit("\x1b[2J\x1b[H", 1)[-1]
    assert "select 40 as Word40" in last
    assert "select 36 as Word36" in last
    assert "81/123" in last
