"""Export: a recording in the forms that other programs and people read.

The table of formats; each writes text to a stream and knows nothing of the others. Must not verify (the caller does,
where it matters). Invariant: jsonl is the recording's own lines, byte for byte; every other form is made to be read,
and nothing in it can run or reach out when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console

from recorder import export_asciicast, export_csv, export_html, export_sql, timeline
from recorder.replay import Player
from recorder.stored import Identity


def _text(path: Path, out: TextIO, keys: Sequence[Identity] = ()) -> None:
    """The transcript, as replay prints it in a pipe."""
    console = Console(file=out, force_terminal=False, color_system=None, width=10_000, highlight=False)
    Player(console, wait=False).play(timeline.read(path, keys), state="recorded")


FORMATS: Final[dict[str, tuple[str, Callable[[Path, TextIO, Sequence[Identity]], None]]]] = {
    "asciicast": ("for asciinema's player (asciicast v3)", export_asciicast.write),
    "csv": ("one line a statement, for a spreadsheet", export_csv.write),
    "html": ("one page with search, for a browser", export_html.write),
    "sql": ("a psql script to run it again against a test copy", export_sql.write),
    "text": ("a plain transcript", _text),
}
"""Beside `jsonl`, which is bytes: `command.export` copies them."""
