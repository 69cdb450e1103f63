"""`daypass recording` for who keeps the record: holds, deleting by age, stored forms, the key, checkpoints.

The work is the recorder's; this file knows arguments and exit codes only. All of it works beside a running server.
Invariant: what is deleted, held or signed anew is in the node log before the command says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, fields, grid, note, rfc3339
from proxy.clock import SystemClock
from proxy.config import Config
from proxy.units import format_duration, format_size, parse_duration
from recorder import checkpoint, files, index, nodelog, prove, retention
from recorder.files import RecordError
from recorder.index import NotFoundError
from recorder.pack import Form, Packer
from recorder.prove import ProofError
from recorder.retention import Candidate, HoldError
from recorder.seal import KeyFileError, load_public, public_key_file
from recorder.treelog import TreeLog

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]
_now = SystemClock().now


@contextlib.contextmanager
def _folder(config: Path) -> Iterator[tuple[Config, Path]]:
    """The config and its recordings folder, for a command that writes there; its errors as exit codes."""
    cfg = load_config(config)
    if not (cfg.recording.dir / files.NODE).exists():
        fail(UNREACHABLE, f"no recordings at {cfg.recording.dir}", "daypass serve makes the folder at its first start")
    try:
        yield cfg, cfg.recording.dir.absolute()
    except RecordError as error:
        fail(UNREACHABLE, str(error))
    except OSError as error:
        fail(UNREACHABLE, f"cannot write {error.filename or cfg.recording.dir}: {error.strerror}")


def hold_command(
    config: ConfigOption,
    output: OutputOption,
    reason: ReasonOption,
    target: Annotated[str | None, typer.Argument(metavar="ID", help="A session's id or its beginning.")] = None,
    grant: Annotated[str | None, typer.Option("--grant", metavar="GRANT", help="All of a grant, also to come.")] = None,
    by: ByOption = None,
) -> None:
    """Keep a recording, or all of a grant, from being deleted until the hold is released."""
    if (target is None) == (grant is None):
        fail(USAGE, "say what to hold: a recording's ID, or --grant GRANT")
    with _folder(config) as (_, folder):
        try:
            id_ = index.find(folder, target).session if target is not None else ""
            held = retention.hold(folder, _now, id_=id_, grant=grant or "", reason=reason, by=who(by))
        except NotFoundError as error:
            fail(USAGE, str(error), "daypass session list shows what is there")
        except HoldError as error:
            fail(NO, str(error))
    data = {"hold": held.hold, "id": held.id or None, "grant": held.grant or None, "reason": reason, "by": held.by}
    what = f"recording {held.id}" if held.id else f"all recordings of grant {held.grant}"
    emit(data, output, lambda console: _say(console, f"{held.hold}: {what} will be kept until it is released"))


def holds_command(config: ConfigOption, output: OutputOption) -> None:
    """The holds in force."""
    with _folder(config) as (_, folder):
        holds = retention.read(folder).holds
    data = [
        {
            "hold": h.hold,
            "id": h.id or None,
            "grant": h.grant or None,
            "reason": h.reason,
            "by": h.by,
            "at": rfc3339(at),
        }
        for h, at in holds.values()
    ]
    rows = [[h.hold, h.id or f"grant {h.grant}", rfc3339(at) or "", h.by, h.reason] for h, at in holds.values()]
    emit(data, output, grid(("HOLD", "KEEPS", "SINCE", "BY", "REASON"), rows, empty="no holds"))


def release_command(
    config: ConfigOption,
    output: OutputOption,
    name: Annotated[str, typer.Argument(metavar="HOLD", help="As `recording holds` shows it.")],
    reason: ReasonOption,
    by: ByOption = None,
) -> None:
    """End a hold. What it kept may be deleted by the next prune."""
    with _folder(config) as (_, folder):
        try:
            retention.release(folder, _now, name, reason=reason, by=who(by))
        except HoldError as error:
            fail(NO, str(error), "daypass recording holds shows them")
    emit({"hold": name, "released": True}, output, lambda console: _say(console, f"{name} is released"))


def prune_command(
    config: ConfigOption,
    output: OutputOption,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DURATION", help="Instead of recording.retention.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    by: ByOption = None,
) -> None:
    """Delete recordings that are older than recording.retention and not held; the node log keeps that it was done."""
    with _folder(config) as (cfg, folder):
        age = _age(cfg, older_than)
        if dry_run:
            found = retention.due(folder, _now(), age)
            gone, held = [c for c in found if c.hold is None], [c for c in found if c.hold is not None]
        else:
            setting = "--older-than" if older_than is not None else "recording.retention"
            why = f"{setting} is {format_duration(age)}"
            gone, held = retention.prune(folder, _now, age, why=why, by=who(by))
    data = {"dry_run": dry_run, "deleted": [_candidate(c) for c in gone], "held": [_candidate(c) for c in held]}
    emit(data, output, lambda console: _pruned(console, gone, held, dry_run))


def _age(cfg: Config, older_than: str | None) -> float:
    if older_than is None:
        if cfg.recording.retention is None:
            fail(USAGE, "recording.retention is not set: recordings are kept for ever", "or give --older-than 90d")
        return cfg.recording.retention
    try:
        return parse_duration(older_than)
    except ValueError as error:
        fail(USAGE, str(error))


def _candidate(one: Candidate) -> dict[str, object]:
    held = one.hold.hold if one.hold is not None else None
    sealed = rfc3339(one.sealed_at)
    return {"id": one.id, "file": one.file, "grant": one.grant, "sealed_at": sealed, "bytes": one.size, "hold": held}


def _pruned(console: Console, gone: list[Candidate], held: list[Candidate], dry_run: bool) -> None:
    rows = [
        [one.id, rfc3339(one.sealed_at) or "", one.grant, str(one.size), f"kept: {one.hold.hold}" if one.hold else what]
        for one in [*gone, *held]
        for what in ["would be deleted" if dry_run else "deleted"]
    ]
    grid(("SESSION", "SEALED", "GRANT", "BYTES", ""), rows, empty="nothing is old enough")(console)


def pack_command(config: ConfigOption, output: OutputOption) -> None:
    """Store all sealed recordings now as the config says (compressed, encrypted); a server does it by itself."""
    with _folder(config) as (cfg, folder):
        form = Form(cfg.recording.compress == "zstd", cfg.recording.recipients)
        packed = Packer(folder, form, _now).round()
    before, after = sum(e.plain_bytes for e in packed), sum(e.bytes for e in packed)
    data = {"stored": [e.file for e in packed], "bytes": before, "stored_bytes": after}
    text = f"{len(packed)} recordings stored as {form.suffix}: {format_size(before)} became {format_size(after)}"
    emit(data, output, lambda console: _say(console, text if packed else "there was nothing to do"))


def rotate_command(config: ConfigOption, output: OutputOption, by: ByOption = None) -> None:
    """Sign the node log with a new key from here on. Running servers take it at once."""
    with _folder(config) as (_, folder):
        node = nodelog.NodeLog(folder, sync=True)
        try:
            old = node.fingerprint
            new = node.rotate(_now(), who(by))
        finally:
            node.close()
        TreeLog(folder).round(_now())
    public = public_key_file(folder)
    pairs = [("new key", new), ("old key", old), ("public key", str(public))]
    emit({"key": new, "old": old, "public_key": str(public)}, output, fields(pairs))
    note("Keep a copy of the public key elsewhere; copies of older ones stay good")


def checkpoint_command(
    config: ConfigOption,
    key: Annotated[bool, typer.Option("--key", help="Print the public key as tools for signed notes want it.")] = False,
    target: Annotated[
        str | None, typer.Option("--prove", metavar="ID", help="Print the proof that this recording's seal is in it.")
    ] = None,
) -> None:
    """Print a fresh checkpoint of the node log, to be kept on another machine for `verify --checkpoint`."""
    with _folder(config) as (_, folder):
        tree = TreeLog(folder)
        tree.round(_now())
        data = (folder / "checkpoint").read_bytes()
        try:
            if target is not None:
                data = prove.seal(folder, index.find(folder, target).session).file
        except (NotFoundError, ProofError) as error:
            fail(USAGE, str(error))
    found = checkpoint.parse((folder / "checkpoint").read_bytes())
    if key and found is not None:
        try:
            data = f"{checkpoint.verifier_key(found.origin, load_public(public_key_file(folder)))}\n".encode()
        except KeyFileError as error:
            fail(UNREACHABLE, str(error))
    typer.echo(data, nl=False)


def register(app: typer.Typer) -> None:
    """Put these beside the other verbs of `daypass recording`."""
    app.command("checkpoint", epilog="Example: daypass recording checkpoint > kept/2026-11-26")(checkpoint_command)
    app.command("hold", epilog="Example: daypass recording hold 4f2a --reason 'case 17'")(hold_command)
    app.command("holds", epilog="Example: daypass recording holds -o json")(holds_command)
    app.command("release", epilog="Example: daypass recording release h-1f2e3d4c --reason closed")(release_command)
    app.command("prune", epilog="Example: daypass recording prune --dry-run")(prune_command)
    app.command("pack", epilog="Example: daypass recording pack")(pack_command)
    app.command("rotate-key", epilog="Example: daypass recording rotate-key")(rotate_command)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
