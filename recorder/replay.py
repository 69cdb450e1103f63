"""Replay: a recording shown again from its beginning to its end, in its own time or at once.

In a pipe a plain transcript; on a terminal in colour (NO_COLOR respected). What has keys is `player`. Must not know
where recordings lie or whether they are whole; the caller says so in `state`. Invariant: what is shown is what `scene`
drew.
"""

import time
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.text import Text

from recorder.scene import Scene, visible
from recorder.timeline import Entry

__all__ = ["MAX_IDLE", "Player", "visible"]

MAX_IDLE = 2.0
"""Seconds: a longer pause is cut to this."""


class Player:
    """Prints entries as they come. `sleep` waits for seconds; a test gives its own."""

    def __init__(
        self,
        console: Console,
        *,
        speed: float = 1.0,
        max_idle: float = MAX_IDLE,
        wait: bool = True,
        rewritten: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if speed <= 0 or max_idle < 0:
            raise ValueError("speed must be above 0, and max-idle not below 0")
        self._console = console
        self._scene = Scene(color=bool(console.color_system), rewritten=rewritten)
        self._speed = speed
        self._max_idle = max_idle
        self._wait = wait
        self._sleep = sleep
        self._at: float | None = None

    def play(self, entries: Iterable[Entry], *, state: str) -> None:
        """Show them all; `state` (sealed, open, …) is shown with the head."""
        for entry in entries:
            self._pause(entry.offset)
            self.show(entry, state=state)

    def show(self, entry: Entry, *, state: str = "") -> None:
        """Show one, at once."""
        for line in self._scene.draw(entry, state=state):
            self._print(line)

    def _pause(self, offset: float) -> None:
        gap, self._at = offset - (offset if self._at is None else self._at), offset
        if self._wait and gap > 0:
            self._sleep(min(gap, self._max_idle) / self._speed)

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)
