"""`daypass session`: which sessions there were, one of them in short or as it goes on, and the end of an open one.

Looking reads the recordings folder only, so it works with or without a running server; `kill` asks for it in the state,
where the process that has the session finds it. Must not judge whether a recording is whole; that is `daypass recording
verify`. Invariant: the JSON of `session list` is as interface.md has it.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, note
from proxy.cli.recording import IdentityOption, identities, recordings_folder, unreadable
from recorder import command, files, index, show, timeline
from recorder.index import NotFoundError
from recorder.stored import BrokenError, SealedError

PATIENCE: Final = 3.0
"""Seconds for the process that has the session to end it; it looks four times a second."""
LOOK_EVERY: Final = 0.05

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
    identity: IdentityOption = None,
) -> None:
    """One session: who, when, from where, and how much."""
    try:
        one = index.find(recordings_folder(config), session)
        total = timeline.summary(one.path, identities(identity))
    except NotFoundError as error:
        fail(USAGE, str(error), "daypass session list shows what is there")
    except (SealedError, BrokenError) as error:
        fail(*unreadable(error))
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


@app.command("tail", epilog="Example: daypass session tail 4f2a --jsonl | jq .sql")
def tail_command(
    config: ConfigOption,
    session: Annotated[str, typer.Argument(metavar="ID", help="The session's id, or its beginning.")],
    jsonl: Annotated[bool, typer.Option("--jsonl", help="The recording's lines as they are, for programs.")] = False,
) -> None:
    """Follow a session: what was done so far, then what is done, until it ends."""
    try:
        one = index.find(recordings_folder(config), session)
        command.tail(one.path, jsonl=jsonl, state=one.state)
    except NotFoundError as error:
        fail(USAGE, str(error), "daypass session list shows what is there")
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        note("")
        raise typer.Exit from None


@app.command("kill", epilog="Example: daypass session kill s-20261123-211131-qlxlnufc --reason 'wrong table'")
def kill_command(
    config: ConfigOption,
    output: OutputOption,
    session: Annotated[str, typer.Argument(metavar="ID", help="The session's id, or its beginning.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; the client is told, and it is recorded.")],
    by: ByOption = None,
) -> None:
    """End one open session now. The grant stays: it may connect again (see grant revoke)."""
    from proxy.access.grants import GrantError  # noqa: PLC0415 - `session list` need not import a database toolkit
    from proxy.access.kills import Kills  # noqa: PLC0415
    from proxy.access.store import Store, StoreError  # noqa: PLC0415
    from proxy.clock import SystemClock  # noqa: PLC0415

    cfg = load_config(config)
    id_ = _open_session(cfg.recording.dir, session)

    async def kill() -> bool:
        store = await Store.open(cfg.state)
        try:
            kills = Kills(store, SystemClock())
            asked = await kills.ask(id_, reason=reason, by=who(by))
            for _ in range(int(PATIENCE / LOOK_EVERY)):
                await asyncio.sleep(LOOK_EVERY)
                if await kills.taken(asked):
                    return True
            return not await kills.take_back(asked)
        finally:
            await store.close()

    try:
        done = asyncio.run(kill())
    except GrantError as error:
        fail(USAGE, str(error))
    except StoreError as error:
        fail(UNREACHABLE, str(error), "daypass doctor checks the state")
    if not done:
        if _open_files(cfg.recording.dir, id_):
            fail(UNREACHABLE, f"the process that has session {id_} does not answer", "daypass health asks it")
        fail(NO, f"session {id_} ended by itself meanwhile")
    emit({"session": id_, "killed": True}, output, lambda console: console.print(f"session {id_} was ended"))


def _open_session(directory: Path, wanted: str) -> str:
    """The one open session whose id is `wanted` or begins so."""
    found = _open_files(directory, wanted)
    if wanted in found or len(found) == 1:
        return wanted if wanted in found else found[0]
    if found:
        fail(USAGE, f"{len(found)} open sessions begin with {wanted!r}", f"they are {', '.join(found[:5])}")
    fail(NO, f"there is no open session {wanted!r}", "daypass session list shows what is there")


def _open_files(directory: Path, wanted: str) -> list[str]:
    named = ((Path(file).stem, file) for file in files.session_files(directory))
    return [id_ for id_, file in named if wanted and id_.startswith(wanted) and files.held(directory / file)]
