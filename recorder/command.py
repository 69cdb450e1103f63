"""Replay and export as commands: what `python -m recorder` and `daypass recording` do alike.

Prints on standard output; talk goes to standard error. Must not parse arguments. Invariant: a recording is verified
before it is shown, and a damaged one is never shown without saying so.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from recorder import show, targets, terminal, timeline
from recorder.player import Deck
from recorder.replay import MAX_IDLE, Player
from recorder.scene import Scene
from recorder.stored import Identity
from recorder.tail import follow
from recorder.tape import Tape
from recorder.verify import verify


def replay(
    path: Path,
    target: targets.Target,
    *,
    speed: float = 1.0,
    max_idle: float = MAX_IDLE,
    wait: bool = True,
    rewritten: bool = False,
    at: str | None = None,
    public_key: Path | None = None,
    keys: Sequence[Identity] = (),
) -> int:
    """Verify one recording, then play it on standard output, from the place `at` on; 1 where it is damaged, and that is
    said before and after. On a terminal it has keys; in a pipe nothing waits. ValueError for a place that is none."""
    console, aside = Console(highlight=False, emoji=False, markup=False), Console(stderr=True)
    result = verify(target.directory, ids=target.ids, public_key=public_key, copies=target.copies, identities=keys)
    if not result.ok:
        show.report(aside, result)
    state = next((checked.state for checked in result.recordings if checked.id in (target.ids or ())), "open")
    if wait and console.is_terminal and sys.stdin.isatty():
        _with_keys(Tape(path, keys), console, state, speed=speed, max_idle=max_idle, rewritten=rewritten, at=at)
    else:
        player = Player(
            console, speed=speed, max_idle=max_idle, wait=wait and console.is_terminal, rewritten=rewritten
        )  # fmt: skip
        player.play(timeline.read(path, keys) if at is None else _from(Tape(path, keys), at), state=state)
    if not result.ok:
        aside.print("This recording or its node log is damaged; see above what does not fit.", style="bold red")
    return 0 if result.ok else 1


def _with_keys(
    tape: Tape, console: Console, state: str, *, speed: float, max_idle: float, rewritten: bool, at: str | None
) -> None:
    deck = Deck(tape, speed=speed, max_idle=max_idle, at=0 if at is None else tape.find(at))
    scene = Scene(color=bool(console.color_system), rewritten=rewritten)
    fd = sys.stdin.fileno()
    with terminal.raw(fd):
        terminal.Theatre(deck, scene, console, terminal.Keys(fd), state=state).run()


def _from(tape: Tape, at: str) -> Iterator[timeline.Entry]:
    """The head, which says who it was, and everything from the place on."""
    begin = tape.find(at)
    if begin > 0:
        yield from (entry for _, entry in itertools.islice(tape.entries(0), 1))
    yield from (entry for _, entry in tape.entries(begin))


def tail(path: Path, *, jsonl: bool, state: str, sleep: Callable[[float], object] = time.sleep) -> None:
    """Follow a recording on standard output to its end: drawn, or its lines as they are. OSError."""
    player = Player(Console(highlight=False, emoji=False, markup=False), wait=False)
    first: datetime | None = None
    offset = 0.0
    for raw in follow(path, sleep):
        if jsonl:
            sys.stdout.buffer.write(raw + b"\n")
            sys.stdout.buffer.flush()
            continue
        entry = timeline.entry(raw, first, offset)
        if entry is not None:
            first, offset = first or entry.at, entry.offset
            player.show(entry, state=state)
            sys.stdout.flush()


def export(path: Path, keys: Sequence[Identity] = ()) -> int:
    """The decoded events on standard output, one JSON object a line."""
    for line in timeline.lines(path, keys):
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
    return 0
