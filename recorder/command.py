"""Replay and export as commands: what `python -m recorder` and `daypass recording` do alike.

Prints on standard output; talk goes to standard error. Must not parse arguments. Invariant: a recording is verified
before it is shown, and a damaged one is never shown without saying so.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from recorder import show, targets, timeline
from recorder.replay import MAX_IDLE, Player
from recorder.stored import Identity
from recorder.verify import verify


def replay(
    path: Path,
    target: targets.Target,
    *,
    speed: float = 1.0,
    max_idle: float = MAX_IDLE,
    wait: bool = True,
    rewritten: bool = False,
    public_key: Path | None = None,
    keys: Sequence[Identity] = (),
) -> int:
    """Verify one recording, then play it on standard output; 1 where it is damaged, and that is said before and
    after. In a pipe nothing waits."""
    console, aside = Console(), Console(stderr=True)
    player = Player(
        console, speed=speed, max_idle=max_idle, wait=wait and console.is_terminal, rewritten=rewritten
    )  # fmt: skip
    result = verify(target.directory, ids=target.ids, public_key=public_key, copies=target.copies, identities=keys)
    if not result.ok:
        show.report(aside, result)
    state = next((checked.state for checked in result.recordings if checked.id in (target.ids or ())), "open")
    player.play(timeline.read(path, keys), state=state)
    if not result.ok:
        aside.print("This recording or its node log is damaged; see above what does not fit.", style="bold red")
    return 0 if result.ok else 1


def export(path: Path, keys: Sequence[Identity] = ()) -> int:
    """The decoded events on standard output, one JSON object a line."""
    for line in timeline.lines(path, keys):
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
    return 0
