"""`--since` and `--until` on a command line: a time, or how long ago.

Must not know what is asked for. Invariant: what cannot be read is a usage error that shows how it is written.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from proxy.cli.output import USAGE, fail
from proxy.clock import SystemClock
from proxy.units import parse_duration

SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="7d|TIME", help="From then on: 7d, 12h, or 2026-01-05T09:00:00Z.")
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="1d|TIME", help="Before then; written as --since is.")
]


def moment(text: str | None, option: str, *, now: datetime | None = None) -> datetime | None:
    """The time that `7d` ago was, or that is written out (UTC where it has no zone)."""
    if text is None:
        return None
    try:
        return (now or SystemClock().now()) - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        written = datetime.fromisoformat(text)
    except ValueError:
        fail(USAGE, f"{option} {text!r} is neither a duration nor a time", "write 7d, 12h, or 2026-01-05T09:00:00Z")
    return written.replace(tzinfo=UTC) if written.tzinfo is None else written
