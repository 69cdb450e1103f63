"""`daypass recording reconcile`: the record against what Postgres itself saw.

Two witnesses: the server's log files, which say what was executed, and one look at pg_stat_activity, which says who is
connected now. The comparing is the recorder's. Invariant: exits 1 on any difference, and says what was not covered.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console

from proxy import catalog
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, grid, rfc3339, warn
from proxy.config import Config
from recorder import files, index, pglog, reconcile, stored
from recorder.pglog import LogError, near
from recorder.reconcile import OWN, SLACK, Difference, Reconciled, Recorded
from recorder.stored import BrokenError, Identity, SealedError

_SHOWN = 100
_ACTIVITY = """
SELECT pid, usename, datname, application_name, coalesce(host(client_addr), 'local') AS address, backend_start, query
FROM pg_catalog.pg_stat_activity
WHERE backend_type = 'client backend' AND usename IS NOT NULL AND (usename = ANY($1) OR usename ~ $2)
"""
_ROLES = r"^daypass_[a-z0-9]+_g"
"""The roles of grants, of whichever installation."""


def reconcile_command(
    config: ConfigOption,
    output: OutputOption,
    log: Annotated[
        list[Path] | None, typer.Option("--log", metavar="FILE", help="csvlog or jsonlog files, or a folder of them.")
    ] = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="D", help="Only this one; also ask it who is connected now.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option("--role", help="A role that sessions use or used.")] = None,
    identity: Annotated[list[Path] | None, typer.Option("--identity", metavar="FILE", help="Opens encrypted.")] = None,
) -> None:
    """Did anything reach Postgres in the roles of grants that is not in the record, or the other way round?"""
    cfg = load_config(config)
    if not log and database is None:
        fail(USAGE, "say what to compare with: --log FILE (csvlog or jsonlog of the server), or --database D")
    if database is not None and database not in cfg.databases:
        fail(USAGE, f"there is no database {database}", f"config.yaml has {', '.join(cfg.databases)}")
    roles = {*(role or []), *_shared(cfg, database)}
    keys = _keys(identity or [])
    result, unread = _from_logs(cfg, _log_files(log or []), database, roles, keys)
    seen = asyncio.run(_connected(cfg, database, roles)) if database is not None else []
    data = {**result.to_dict(), "ok": result.ok and not seen, "unread": unread}
    data["differences"] = [*data["differences"], *(_told(one) for one in seen)]
    emit(data, output, lambda console: _show(console, result, [*result.differences, *seen], unread))
    if not data["ok"]:
        raise typer.Exit(NO)


def _shared(cfg: Config, database: str | None) -> set[str]:
    """The roles that all sessions of a database use; those of single grants show themselves by their sessions."""
    chosen = [cfg.databases[database]] if database is not None else cfg.databases.values()
    return {entry.credential.user for entry in chosen if entry.credential.mode == "shared"}


def _keys(paths: list[Path]) -> list[Identity]:
    try:
        return [key for file in paths for key in stored.identities(file)]
    except (OSError, ValueError) as error:
        fail(USAGE, str(error))


def _log_files(given: list[Path]) -> list[Path]:
    found = []
    for path in given:
        found += sorted(p for p in path.iterdir() if p.suffix in (".csv", ".json")) if path.is_dir() else [path]
    if given and not found:
        fail(USAGE, f"there is no .csv and no .json file in {given[0]}", "log_destination = 'csvlog' makes them")
    return found


def _from_logs(
    cfg: Config, paths: list[Path], database: str | None, roles: set[str], keys: list[Identity]
) -> tuple[Reconciled, list[str]]:
    try:
        span = pglog.read(paths, pids=set(), users=set())
        sessions, unread = _recorded(cfg, database, span, keys) if paths else ([], [])
        result = reconcile.reconcile(
            sessions, lambda pids, users: pglog.read(paths, pids=pids, users=users), roles=roles if paths else ()
        )
    except LogError as error:
        fail(USAGE, str(error))
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    return result, unread


def _recorded(
    cfg: Config, database: str | None, span: pglog.Log, keys: list[Identity]
) -> tuple[list[Recorded], list[str]]:
    """The sessions that the logs may tell of, and the ids of those that could not be read."""
    found, unread = [], []
    for one in index.sessions(cfg.recording.dir):
        if database not in (None, one.database) or one.state == "expired" or not _overlaps(one, span):
            continue
        try:
            session = reconcile.recorded(one.path, keys)
        except (SealedError, BrokenError, OSError) as error:
            warn(f"{one.session} is left out: {error}")
            unread.append(one.session)
            continue
        if session is not None:
            found.append(session)
    return found, unread


def _overlaps(one: index.Session, span: pglog.Log) -> bool:
    if span.first is None or span.last is None or one.started_at is None:
        return True
    ended: datetime = one.ended_at or span.last
    return ended.timestamp() >= span.first.timestamp() - SLACK and (
        one.started_at.timestamp() <= span.last.timestamp() + SLACK
    )  # fmt: skip


async def _connected(cfg: Config, database: str, roles: set[str]) -> list[Difference]:
    """Connections of the roles, now, that no open recording has."""
    try:
        connection = await catalog.connect_to(cfg.databases[database])
        try:
            rows = await connection.fetch(_ACTIVITY, sorted(roles), _ROLES)
        finally:
            await connection.close(timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        fail(UNREACHABLE, f"{database}: {error}", f"daypass database check {database} says more")
    opened = [
        found
        for one in index.sessions(cfg.recording.dir)
        if one.state == "open" and files.held(one.path) and (found := reconcile.recorded(one.path)) is not None
    ]
    strange = [
        row
        for row in rows
        if not row["application_name"].startswith(OWN)
        and not any(one.pid == row["pid"] and near(one.start, row["backend_start"], SLACK) for one in opened)
    ]
    return [_connection(row) for row in strange]


def _connection(row: Any) -> Difference:
    return Difference(
        kind="connected",
        at=row["backend_start"],
        session=None,
        user=row["usename"],
        database=row["datname"] or "",
        pid=row["pid"],
        application=row["application_name"],
        address=row["address"],
        statements=1,
        text=row["query"],
    )


def _told(one: Difference) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__} | {"at": rfc3339(one.at)}


_WORDS = {
    "foreign": "did not come through daypass",
    "connected": "is connected, and not through daypass",
    "unrecorded": "was executed, and is not recorded",
    "missing": "was recorded as sent, and was not executed",
}


def _show(console: Console, result: Reconciled, found: list[Difference], unread: list[str]) -> None:
    rows = [
        [
            rfc3339(one.at) or "",
            _WORDS[one.kind] + (f" ({one.statements} statements)" if one.statements > 1 else ""),
            one.session or f"{one.user} pid {one.pid} {one.application or 'unnamed'} from {one.address or 'local'}",
            one.text if len(one.text) <= _SHOWN else one.text[:_SHOWN] + "…",
        ]
        for one in found
    ]
    if rows:
        grid(("WHEN", "WHAT", "WHO", "STATEMENT"), rows, empty="")(console)
    span = f"{rfc3339(result.first)} to {rfc3339(result.last)}" if result.first else "no log was read"
    for line in (
        f"{result.sessions} sessions with {result.statements} logged statements compared; the log: {span}",
        f"roles: {', '.join(result.roles) or 'none known; name them with --role'}",
        f"{len(result.uncovered)} sessions are not in the log" if result.uncovered else "",
        f"{len(unread)} recordings could not be read (--identity FILE)" if unread else "",
        f"{result.own} statements of daypass itself, by their application name" if result.own else "",
        f"{result.unreadable} lines of the log could not be read" if result.unreadable else "",
        "complete" if not found else f"NOT COMPLETE: {len(found)} differences",
    ):
        if line:
            console.print(line, soft_wrap=True, highlight=False, markup=False)
