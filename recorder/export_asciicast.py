"""asciicast v3: a recording as a film of a terminal, for asciinema's player.

A header, then `[seconds since the event before, code, data]`: `o` is output, `m` a mark (at what was refused), `x` the
end. Invariant: control characters in it are only our own colours and line ends.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

import msgspec
from rich.console import Console

from recorder import timeline
from recorder.events import SessionEnd, SessionStart, Statement
from recorder.replay import MAX_IDLE
from recorder.scene import Scene, visible
from recorder.stored import Identity
from recorder.timeline import REFUSED, Entry

COLUMNS: Final = 120
ROWS: Final = 36


def write(path: Path, out: TextIO, keys: Sequence[Identity] = ()) -> None:
    """The film of a recording, in its own time; the player shortens pauses."""
    scene, before = Scene(color=True), 0.0
    for entry in timeline.read(path, keys):
        if before == 0.0 and entry.offset == 0.0 and entry.seq == 1:
            _line(out, _header(entry))
        drawn = _drawn(scene, entry)
        after, before = entry.offset - before, entry.offset
        event = entry.event
        if isinstance(event, Statement) and event.verdict in REFUSED:
            _line(out, [round(after, 6), "m", visible(f"refused: {event.rule}")])
            after = 0.0
        if drawn:
            _line(out, [round(after, 6), "o", drawn])
        else:
            before -= after  # nothing to see: its time belongs to the next
        if isinstance(event, SessionEnd):
            _line(out, [0.0, "x", "0"])


def _header(entry: Entry) -> dict[str, object]:
    start = entry.event
    header: dict[str, object] = {
        "version": 3,
        "term": {"cols": COLUMNS, "rows": ROWS, "type": "xterm-256color"},
        "timestamp": int(entry.at.timestamp()),
        "idle_time_limit": MAX_IDLE,
    }
    if isinstance(start, SessionStart):
        header["title"] = visible(f"{start.session}: {start.person} ({start.vendor}) on {start.database}")
    return header


def _drawn(scene: Scene, entry: Entry) -> str:
    text = io.StringIO()
    console = Console(
        file=text, force_terminal=True, color_system="standard", width=COLUMNS, highlight=False, no_color=False,
        legacy_windows=False, _environ={},
    )  # fmt: skip
    for line in scene.draw(entry):
        console.print(line, soft_wrap=True)
    return text.getvalue().replace("\n", "\r\n")


def _line(out: TextIO, value: object) -> None:
    out.write(msgspec.json.encode(value).decode() + "\n")
