"""`daypass state`: the whole state into one file, and back into an empty one.

What a restored state would bring back to life is ended, by what the file says and by what the recordings know since.
Invariant: a backup is complete or not there, and only its owner can read it.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from proxy.access import backup
from proxy.access.backup import BackupError
from proxy.access.model import clock_time
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import UNREACHABLE, USAGE, emit, fail, note, rfc3339, styled, warn
from proxy.cli.state import Access, where, with_access
from proxy.session.telling import teller
from recorder import files

app = typer.Typer(no_args_is_help=True, help="Back up the state, and restore it.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


@app.command("backup")
def backup_(config: ConfigOption, output: OutputOption, file: FileArgument) -> None:
    """Write the whole state into a new file, as it is at one moment; daypass may serve meanwhile.

    Example: daypass state backup /backups/daypass-monday.jsonl
    """
    cfg = load_config(config)
    if file.exists():
        fail(USAGE, f"{file} exists already", "give a new name; nothing was changed")
    partial = file.with_name(f"{file.name}.part")

    async def write(access: Access) -> backup.Told:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            told = await backup.dump(access.store, out, access.clock.now())
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
        return told

    try:
        told = with_access(cfg, write)
    except OSError as error:
        fail(UNREACHABLE, f"{error.filename or file}: {error.strerror}")
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()

    def table(console: Console) -> None:
        console.print(f"{told.rows} rows of the installation {told.installation} in {file}.")

    data = {"file": str(file), "installation": told.installation, "at": rfc3339(told.at), "rows": told.rows}
    emit(data | {"bytes": file.stat().st_size}, output, table)
    note("Keep it as you keep the state: it holds the keys of masks and roles, and the verifiers of tokens.")


@app.command()
def restore(
    config: ConfigOption,
    output: OutputOption,
    file: FileArgument,
    keep_live: Annotated[
        bool,
        typer.Option(
            "--keep-live", help="Grants and requests go on, but for what the recordings know to have ended since."
        ),
    ] = False,
    by: ByOption = None,
) -> None:
    """Put a backup into the empty state that config.yaml names. Every grant and request in it that was open is ended.

    Example: daypass state restore /backups/daypass-monday.jsonl
    """
    cfg = load_config(config)

    async def put(access: Access) -> tuple[backup.Restored, collections.Counter[str]]:
        with file.open("rb") as source:
            told = backup.check(source)
            since = list(_steps_since(cfg.recording.dir, told.at))
            restored = await backup.restore(
                access.store,
                source,
                access.clock,
                # The recordings belong to the installation that comes back, not to the one that the empty state made.
                teller(cfg.recording.dir, access.clock.now, where(), installation=told.installation),
                by=who(by),
                keep_live=keep_live,
                ended_since=[str(e["grant"]) for e in since if e["action"] in {"revoked", "ended", "token"}],
                disabled_since=_disabled(since),
            )
        return restored, collections.Counter(str(e["action"]) for e in since)

    try:
        restored, since = with_access(cfg, put)
    except BackupError as problem:
        fail(USAGE, f"{file}: {problem}")
    except OSError as error:
        fail(USAGE, f"{error.filename or file}: {error.strerror}")

    def table(console: Console) -> None:
        told = restored.backup
        console.print(styled(f"Restored the state of {clock_time(told.at)}: {told.rows} rows.", "bold green"))
        console.print(f"Ended: {len(restored.ended)} grants{_names(restored.ended)}.")
        console.print(f"Lapsed: {len(restored.lapsed)} requests{_names(restored.lapsed)}.")

    data = {
        "installation": restored.backup.installation,
        "at": rfc3339(restored.backup.at),
        "rows": restored.backup.rows,
        "ended": restored.ended,
        "lapsed": restored.lapsed,
        "recorded_since": dict(since),
    }
    emit(data, output, table)
    if since:
        steps = ", ".join(f"{count} {action}" for action, count in sorted(since.items()))
        warn(f"recorded after the backup, and not in the state any more: {steps}")


def _names(ids: list[str]) -> str:
    return f" ({', '.join(ids[:10])}{', …' if len(ids) > 10 else ''})" if ids else ""


def _steps_since(recordings: Path, moment: datetime) -> list[dict[str, Any]]:
    """Steps of access that this host has recorded after `moment`, the oldest first."""
    found = []
    try:
        with (recordings / files.INSTALLATION).open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    if event["event"] in {"grant", "access"} and datetime.fromisoformat(event["at"]) > moment:
                        found.append(event)
    except FileNotFoundError:
        warn(f"{recordings / files.INSTALLATION} is not there: what happened after the backup is not known")
    return found


def _disabled(since: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Who was disabled after the backup, and not enabled again."""
    last: dict[str, tuple[str, str] | None] = {}
    for event in since:
        detail = event.get("detail", {})
        person = str(detail.get("person", ""))
        if event["action"] == "person.disabled":
            last[person] = (person, str(detail.get("reason", "disabled before the state was restored")))
        elif event["action"] == "person.enabled":
            last[person] = None
    return [each for each in last.values() if each is not None]
