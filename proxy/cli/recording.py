"""`daypass recording`: is the record whole, what happened in a session, and its events for other programs.

Finds the folder by the config file, or takes a folder or a file by itself, so that an auditor needs no config. The
work is the recorder's; this file knows arguments and exit codes only. Invariant: verify exits 1 on anything damaged
or missing, and on nothing else.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli import recording_keep, recording_report, recording_search
from proxy.cli.identity import IdentityOption, identities, unreadable
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, note
from proxy.config import Config, ConfigError, checkpoint_file
from recorder import command, show, treelog
from recorder.export import FORMATS
from recorder.heads import Given
from recorder.index import NotFoundError
from recorder.replay import MAX_IDLE
from recorder.seal import KeyFileError
from recorder.stored import BrokenError, Identity, SealedError
from recorder.targets import Target, recording_file, resolve
from recorder.verify import Report, verify

app = typer.Typer(help="Verify, replay, search, export and report recordings.", no_args_is_help=True)

_FORMATS = "jsonl: its lines as they are; " + "; ".join(f"{name}: {what}" for name, (what, _) in FORMATS.items()) + "."

PublicKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--public-key", metavar="FILE", help="Check signatures with this key, not with the one in the folder."
    ),
]


@app.command("verify", epilog="Example: daypass recording verify --public-key kept/public.pem -o json")
def verify_command(
    config: ConfigOption,
    output: OutputOption,
    target: Annotated[str | None, typer.Argument(metavar="[ID|FILE|DIR]", help="Without it: all recordings.")] = None,
    public_key: PublicKeyOption = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", help="A checkpoint kept elsewhere: was the log rolled back?"),
    ] = None,
    identity: IdentityOption = None,
) -> None:
    """Is every recording there, and is it what was written? Exits 1 if not."""
    resolved = _resolve(target, config)
    report = _verify(resolved, public_key, _given(checkpoint or [], resolved, config), identities(identity))
    emit(report.to_dict(), output, lambda console: show.report(console, report))
    if not report.ok:
        raise typer.Exit(NO)


@app.command("replay", epilog="Example: daypass recording replay 4f2a --speed 4 --max-idle 1")
def replay_command(
    *,
    config: ConfigOption,
    target: Annotated[str, typer.Argument(metavar="ID|FILE", help="A session's id or its beginning, or its file.")],
    speed: Annotated[float, typer.Option("--speed", metavar="N", help="2 is twice as fast.", min=0.01)] = 1.0,
    max_idle: Annotated[
        float,
        typer.Option("--idle-limit", "--max-idle", metavar="SECONDS", help="Longer pauses are cut to this.", min=0.0),
    ] = MAX_IDLE,
    at: Annotated[
        str | None, typer.Option("--at", metavar="PLACE", help="From 1:30, 90s, #12 or 2026-01-05T09:00:00Z on.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="All at once, as in a pipe.")] = False,
    rewritten: Annotated[bool, typer.Option("--rewritten", help="Show also what ran in place of a statement.")] = False,
    public_key: PublicKeyOption = None,
    identity: IdentityOption = None,
) -> None:
    """Show a session again as the vendor saw it, in its own time; refusals are marked. Exits 1 if the recording is
    damaged. On a terminal it has keys: space pauses, . goes one step, ? shows the others."""
    path, found = _file(target, config)
    try:
        code = command.replay(
            path,
            found,
            speed=speed,
            max_idle=max_idle,
            wait=not no_wait,
            rewritten=rewritten,
            at=at,
            public_key=public_key,
            keys=identities(identity),
        )
    except (KeyFileError, ValueError) as error:
        fail(USAGE, str(error))
    except (SealedError, BrokenError) as error:
        fail(*unreadable(error))
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    raise typer.Exit(code)


@app.command("export", epilog="Example: daypass recording export 4f2a --format html > session.html")
def export_command(
    config: ConfigOption,
    target: Annotated[str, typer.Argument(metavar="ID|FILE", help="A session's id or its beginning, or its file.")],
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help=_FORMATS)] = "jsonl",
    identity: IdentityOption = None,
) -> None:
    """Print a recording in a form that other programs or people read."""
    if format_ != "jsonl" and format_ not in FORMATS:
        fail(USAGE, f"there is no format {format_!r}", f"there are jsonl, {', '.join(FORMATS)}")
    path, _ = _file(target, config)
    try:
        command.export(path, format_, identities(identity))
    except (SealedError, BrokenError) as error:
        fail(*unreadable(error))
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")


app.command("search", epilog="Example: daypass recording search 'customers AND deny' --since 7d")(
    recording_search.search_command
)
app.command("report", epilog="Example: daypass recording report --vendor acme --since 30d --format html > acme.html")(
    recording_report.report_command
)
app.command("rebuild-index", epilog="Example: daypass recording rebuild-index")(recording_search.rebuild_command)


def _given(files: list[Path], target: Target, config: Path) -> list[Given]:
    """The checkpoints from elsewhere: those of the command line, and the one beside the state of this installation."""
    try:
        given = [Given(str(file), file.read_bytes()) for file in files]
    except OSError as error:
        fail(USAGE, f"cannot read {error.filename}: {error.strerror}")
    if config.is_file():
        with contextlib.suppress(ConfigError, OSError):
            cfg = load_config(config)
            beside = checkpoint_file(cfg)
            if cfg.recording.dir.absolute() == target.directory:
                if beside is None:
                    given += _from_state(cfg)
                elif beside.exists():
                    given.append(Given(str(beside), beside.read_bytes()))
    return given


def _from_state(cfg: Config) -> list[Given]:
    """The checkpoint that a state in Postgres keeps. Without it everything else is still verified."""
    from proxy.access.store import Store, StoreError  # noqa: PLC0415  (where there is such a state)
    from proxy.access.witnesses import Witnesses  # noqa: PLC0415

    async def read(place: str) -> bytes | None:
        store = await Store.open(cfg.state)
        try:
            return await Witnesses(store).last(place)
        finally:
            await store.close()

    try:
        place = treelog.maker(cfg.recording.dir)
        note_ = asyncio.run(read(place)) if place is not None else None
    except FileNotFoundError:  # no node log, which is a finding of its own
        return []
    except StoreError as error:
        note(f"the checkpoint that the state keeps was not compared: {error}")
        return []
    return [Given("the state's checkpoint", note_)] if note_ is not None else []


def recordings_folder(config: Path) -> Path:
    """The installation's recordings. Raises ConfigError."""
    return load_config(config).recording.dir


def _resolve(target: str | None, config: Path) -> Target:
    try:
        if target is not None and Path(target).exists():
            try:
                return resolve(target, None)
            except NotFoundError:  # a copy outside of any recordings folder: the installation's node log knows its seal
                return resolve(target, recordings_folder(config))
        return resolve(target, recordings_folder(config))
    except NotFoundError as error:
        fail(USAGE, str(error), "daypass session list shows what is there")
    except OSError as error:
        fail(UNREACHABLE, str(error))


def _file(target: str, config: Path) -> tuple[Path, Target]:
    found = _resolve(target, config)
    try:
        return recording_file(target, found)
    except NotFoundError as error:
        fail(USAGE, str(error), "daypass session list shows what is there")


def _verify(target: Target, public_key: Path | None, given: list[Given], keys: list[Identity]) -> Report:
    try:
        return verify(
            target.directory,
            ids=target.ids,
            public_key=public_key,
            copies=target.copies,
            checkpoints=given,
            identities=keys,
        )
    except KeyFileError as error:
        fail(USAGE, str(error))
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")


recording_keep.register(app)
