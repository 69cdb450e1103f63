"""What `daypass doctor` says of sinks: how far each is, what it is owed, and why it does not take it.

Reads cursors and the record, beside a server or without one, and sends nothing. Invariant: no secret is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from proxy.config import Config
from proxy.config_sinks import Sink
from proxy.server.streams import feed_of, target
from recorder.files import RecordError
from recorder.sinks import cursor

Said = tuple[Literal["ok", "warn", "fail"], str, str, str]
"""Level, what, found, what to do."""


def sinks(config: Config) -> Iterator[Said]:
    """A line for each sink."""
    for name, sink in config.sinks.items():
        yield _sink(config, name, sink)


def _sink(config: Config, name: str, sink: Sink) -> Said:
    directory = config.recording.dir.absolute()
    what, where = f"sink {name}", f"{sink.kind} {target(sink)}"
    try:
        sink.secret()
    except ValueError as problem:
        return "fail", what, f"{where}: {problem}", "set it in the environment of doctor and serve"
    if not cursor.path(directory, name).exists():
        return "ok", what, f"{where}: begins when serve starts", ""
    try:
        found = cursor.load(directory, name)
        feed = feed_of(config, sink)(directory, found, sync=False)
        feed.look()
        waiting = feed.backlog()
    except (OSError, RecordError) as problem:
        return "fail", what, f"{where}: {problem}", "nothing is delivered until it can be read"
    events = f"{found.delivered} event{'' if found.delivered == 1 else 's'} taken"
    text = f"{where}: {events}{f', the last {found.last}' if found.last else ''}; {waiting} bytes wait"
    if found.skipped:
        text += f"; {found.skipped} recordings not sent whole"
    if found.error:
        return "warn", what, f"{text}; {found.error}", "it comes again by itself; docs/reference/sinks.md"
    return "ok", what, text, ""
