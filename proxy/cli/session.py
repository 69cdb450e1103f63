"""`daypass session`: which sessions there were, and one of them in short.

Reads the recordings folder only, so it works with or without a running server. Must not judge whether a recording is
whole; that is `daypass recording verify`. Invariant: the JSON of `session list` is as interface.md has it.
"""

from typing import Annotated

import msgspec
import typer

from proxy.cli.options import ConfigOption, OutputOption
from proxy.cli.output import UNREACHABLE, USAGE, emit, fail, note
from proxy.cli.recording import recordings_folder
from recorder import index, show, timeline
from recorder.index import NotFoundError

app = typer.Typer(help="Sessions and what was done in them.", no_args_is_help=True)


@app.command("list", epilog="Example: daypass session list -o json")
def list_command(
    config: ConfigOption,
    output: OutputOption,
    grant: Annotated[str | None, typer.Option("--grant", metavar="GRANT", help="Only sessions of this grant.")] = None,
) -> None:
    """All sessions, the oldest first."""
    try:
        listed = [session for session in index.sessions(recordings_folder(config)) if grant in (None, session.grant)]
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    if not listed:
        note("no sessions")
    emit([session.to_dict() for session in listed], output, lambda console: show.sessions(console, listed))


@app.command("show", epilog="Example: daypass session show 4f2a")
def show_command(
    config: ConfigOption,
    output: OutputOption,
    session: Annotated[str, typer.Argument(metavar="ID", help="The session's id, or its beginning.")],
) -> None:
    """One session: who, when, from where, and how much."""
    try:
        one = index.find(recordings_folder(config), session)
        total = timeline.summary(one.path)
    except NotFoundError as error:
        fail(USAGE, str(error), "daypass session list shows what is there")
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    data = {
        **one.to_dict(),
        "statements": total.statements,
        "refused": total.refused,
        "failed": total.failed,
        "rows": total.rows,
        "bytes": total.bytes,
        "seconds": total.seconds,
        "start": msgspec.to_builtins(total.start),
        "detail": total.end.detail if total.end else None,
    }
    emit(data, output, lambda console: show.session(console, one, total))
