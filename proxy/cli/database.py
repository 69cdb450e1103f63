"""`daypass database …`: what a database gives to everybody, and daypass's own views in it.

`check` prints and changes nothing. `release` drops this installation's views of a database at once, for a migration of
the owner's that they stand in the way of. The grants that use them pause until it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from proxy import catalog
from proxy.access import exposure, releases
from proxy.access.privileges import Connection
from proxy.access.store import Store, StoreError
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail
from proxy.cli.state import unknown
from proxy.clock import SystemClock
from proxy.config import Config, format_duration, nearest, parse_duration
from proxy.policy.load import Policies
from proxy.session.checking import findings
from proxy.session.ephemeral import TROUBLE

app = typer.Typer(no_args_is_help=True, help="What a database gives to everybody; daypass's views in it.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A database of config.yaml.")]
LONGEST_QUIET = 900.0
"""Seconds after which a release is over in which nothing changed: its migration failed, or was never begun."""
COLOURS = {"warning": "yellow", "notice": "bright_black"}
T = TypeVar("T")


@app.command()
def check(config: ConfigOption, output: OutputOption, name: NameArgument) -> None:
    """Says what PUBLIC may do beyond any policy, each with the SQL that closes it. Changes nothing.

    Exit code 1 where something could reach hidden data.

    Example: daypass database check app
    """
    cfg = load_config(config)
    policies = Policies(cfg.policies)
    policies.load()
    mine = [policies.get(p) for p in policies.names() if name in policies.get(p).databases]
    schemas = {table.split(".")[0] for policy in mine for table in policy.model.tables}
    found = _run(cfg, name, lambda connection: exposure.exposures(connection, schemas))
    rows = [{"severity": e.severity, "what": e.what, "why": e.why, "sql": list(e.sql)} for e in found]
    bad = any(e.severity == "warning" for e in found)

    def table(console: Console) -> None:
        for e in found:
            console.print(Text.assemble((e.severity, COLOURS[e.severity]), f": {e.what}: {e.why}"))
            for line in e.sql:
                console.print(Text(f"    {line}"))
        if not found:
            console.print(Text("PUBLIC has no rights that matter."))

    emit({"ok": not bad, "database": name, "findings": rows}, output, table)
    raise typer.Exit(NO if bad else 0)


@app.command()
def release(
    config: ConfigOption,
    output: OutputOption,
    name: NameArgument,
    table: Annotated[
        str | None, typer.Option("--table", metavar="SCHEMA.TABLE", help="Only the views of this table.")
    ] = None,
    length: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Keep them away for this time, whatever changes.")
    ] = None,
    done: Annotated[bool, typer.Option("--done", help="The migration is over: grants go on now.")] = False,
) -> None:
    """Drops daypass's views in a database at once, so that ALTER TABLE can go on.

    Grants that show a released table in part pause: their sessions end, and logins are refused with the reason. They go
    on, with views made anew, when the table has changed and then kept still for some seconds, or after 15 minutes; with
    --for when that time is over; and in any case with --done.

    Example: daypass database release app --table app.customers
    """
    cfg = load_config(config)
    if table is not None and table.count(".") != 1:
        fail(USAGE, f"{table!r} is not schema.table", "for example --table app.customers")
    if done and length is not None:
        fail(USAGE, "--done and --for are two things", "--done ends a release, --for begins one")
    if cfg.databases.get(name) is not None and cfg.databases[name].credential.mode != "ephemeral":
        fail(
            USAGE, f"{name} has no views of daypass's: its credential is shared", "nothing stands in a migration's way"
        )
    seconds = _length(length)
    installation = asyncio.run(_installation(cfg))
    over: list[str] = []
    dropped: list[str] = []
    if done:
        over = _run(cfg, name, lambda connection: releases.lift(connection, installation, table))
        said = f"taken back: {', '.join(sorted(over)) or 'nothing was released'}"
    else:
        by_itself = length is None
        dropped = _run(cfg, name, lambda c: releases.release(c, installation, table, seconds, by_itself=by_itself))
        said = (
            f"{len(dropped)} views dropped: {', '.join(dropped) or 'none'}. Grants that need them pause until the "
            f"migration is done, at most {format_duration(seconds)}; `daypass database release {name} --done` ends it."
        )
    data = {"database": name, "table": table, "dropped": dropped, "seconds": 0 if done else seconds, "taken_back": over}
    emit(data, output, lambda console: console.print(Text(said)))


@app.command()
def precheck(
    config: ConfigOption,
    output: OutputOption,
    name: NameArgument,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PRECHECK", help="Only this one of config.yaml; repeatable.")
    ] = None,
    note: Annotated[
        str | None, typer.Option("--rollback-note", help="The note of a request, for prechecks that look at it.")
    ] = None,
    by: ByOption = None,
) -> None:
    """Look at the prechecks of a database now, as before a grant starts: those that its policies ask for. Exit 1 if
    one does not hold. Changes and records nothing.

    Example: daypass database precheck app --only backup-fresh
    """
    cfg = load_config(config)
    if name not in cfg.databases:
        unknown("database", name, list(cfg.databases), str(cfg.file))
    names = only or prechecks_of(cfg, name)
    for each in only or []:
        if each not in cfg.prechecks:
            unknown("precheck", each, list(cfg.prechecks), str(cfg.file))
    found = asyncio.run(findings(cfg, name, names, SystemClock(), note=note, note_by=who(by)))
    ok = all(each.ok for each in found)

    def table(console: Console) -> None:
        for each in found:
            console.print(
                Text.assemble(("ok  ", "green") if each.ok else ("FAIL", "bold red"), f"  {each.name}: {each.why}")
            )
        if not found:
            console.print(f"No policy for {name} asks for prechecks.")

    rows = [{"name": each.name, "ok": each.ok, "why": each.why, "evidence": each.evidence} for each in found]
    emit({"ok": ok, "database": name, "prechecks": rows}, output, table)
    raise typer.Exit(0 if ok else NO)


def prechecks_of(cfg: Config, database: str) -> list[str]:
    """The prechecks that the policies for a database ask for, each once."""
    policies = Policies(cfg.policies)
    policies.load()
    mine = [policies.get(name) for name in policies.names() if database in policies.get(name).databases]
    return list(dict.fromkeys(name for policy in mine for name in policy.model.prechecks))


def _length(text: str | None) -> float:
    try:
        seconds = LONGEST_QUIET if text is None else parse_duration(text)
    except ValueError as error:
        fail(USAGE, f"--for: {error}")
    if seconds <= 0:
        fail(USAGE, "--for: a release must last longer than no time at all")
    return seconds


async def _installation(cfg: Config) -> str:
    try:
        store = await Store.open(cfg.state)
    except StoreError as error:
        fail(UNREACHABLE, str(error))
    try:
        return (await store.identity())[0]
    finally:
        await store.close()


def _run(cfg: Config, name: str, what: Callable[[Connection], Awaitable[T]]) -> T:
    if name not in cfg.databases:
        guess = nearest(name, list(cfg.databases))
        hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(cfg.databases)}"
        fail(USAGE, f"there is no database {name!r} in {cfg.file}", hint)
    database = cfg.databases[name]

    async def connected() -> T:
        connection = await catalog.connect_to(database)
        try:
            return await what(connection)
        finally:
            await connection.close(timeout=5)

    try:
        return asyncio.run(connected())
    except TROUBLE as problem:
        hint = "`daypass doctor` says what is wrong"
        fail(UNREACHABLE, f"{name} cannot be reached: {problem or type(problem).__name__}", hint)
