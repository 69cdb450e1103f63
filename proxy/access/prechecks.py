"""Prechecks: what must hold in the world before a grant starts, looked at now.

Each kind is one question to the database, a program or the request; the answer is a finding with its evidence. Knows no
store. Invariants: a look is over in its time and never raises; it changes nothing; what cannot be answered does not
hold; nothing secret goes into a program's arguments or environment.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from proxy.access import backups, programs
from proxy.access.model import clock_time
from proxy.access.privileges import Connection
from proxy.config_access import Precheck
from proxy.units import format_duration

MAX_AGE: Final = {"wal_archive": 900.0, "pgbackrest": 26 * 3600.0, "walg": 26 * 3600.0}
"""Seconds, where the configuration says nothing."""
MAX_LAG: Final = 30.0
SLACK: Final = 16 << 20
"""Bytes behind that are no lag where a replica says nothing of time: it says so when it has caught up."""
LONGEST_JSON: Final = 64 << 10
NOBODY: Final = frozenset({"", "root", "unknown", "daypass"})
"""Names that are nobody's: a note has to be by a human."""
TROUBLE = (OSError, TimeoutError, asyncpg.InterfaceError)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether it holds, why (one line for people), and what was seen."""

    name: str
    ok: bool
    why: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class World:
    """What may be asked. `connect` opens a connection to the grant's database; `note` is a rollback note."""

    connect: Callable[[], Awaitable[Connection]]
    now: datetime
    environment: Mapping[str, str]
    note: str | None = None
    note_by: str = ""


class _NoError(Exception):
    """It does not hold."""

    def __init__(self, why: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(why)
        self.why, self.evidence = why, evidence or {}


async def look(name: str, check: Precheck | None, world: World) -> Finding:
    """Look at one. Never raises."""
    if check is None:
        return Finding(name, False, f"config.yaml has no prechecks.{name}")
    try:
        async with asyncio.timeout(check.timeout):
            why, evidence = await _KINDS[check.kind](check, world)
    except _NoError as no:
        return Finding(name, False, no.why, no.evidence)
    except TimeoutError:
        return Finding(name, False, f"no answer within {format_duration(check.timeout)}")
    except asyncpg.PostgresError as problem:
        return Finding(name, False, f"the database refuses the question: {_line(problem)}")
    except TROUBLE as problem:
        return Finding(name, False, f"the database cannot be asked: {_line(problem)}")
    return Finding(name, True, why, evidence)


def _line(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:300]


_Answer = tuple[str, dict[str, Any]]


async def _asked(check: Precheck, world: World, sql: str) -> asyncpg.Record:
    """The one row of a question."""
    return (await _rows(check, world, sql))[0]


async def _rows(check: Precheck, world: World, sql: str) -> list[asyncpg.Record]:
    connection = await world.connect()
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {int(check.timeout * 1000)}")
            return await connection.fetch(sql)
    finally:
        connection.terminate()


async def _wal_archive(check: Precheck, world: World) -> _Answer:
    row = await _asked(check, world, _ARCHIVER)
    seen = {key: _plain(value) for key, value in row.items()}
    if row["archive_mode"] == "off":
        raise _NoError("archive_mode is off: no WAL is archived", seen)
    last, failed = row["last_archived_time"], row["last_failed_time"]
    if failed is not None and (last is None or failed > last):
        raise _NoError(f"archiving {row['last_failed_wal']} failed at {clock_time(failed)}, and nothing since", seen)
    if last is None:
        raise _NoError("no WAL has been archived since the statistics were reset", seen)
    age = _fresh("the last archived WAL", row["now"] - last, check.max_age or MAX_AGE["wal_archive"], seen)
    return f"{row['last_archived_wal']} was archived {age} ago", seen


async def _replica_lag(check: Precheck, world: World) -> _Answer:
    most = check.max_lag or MAX_LAG
    rows = await _rows(check, world, _LAG)
    replicas = [{key: _plain(value) for key, value in row.items()} for row in rows]
    seen = {"replicas": replicas}
    if not rows:
        raise _NoError("no replica is connected", seen)
    worst = timedelta(0)
    for row in rows:
        name = row["name"]
        if row["hidden"]:
            raise _NoError(f"what {name} has replayed is hidden from {row['asker']}: GRANT pg_monitor TO it", seen)
        lag = row["lag"]
        if lag is None and (row["bytes"] is None or row["bytes"] > SLACK):
            far = f"{row['bytes']} bytes behind" if row["bytes"] is not None else "nothing is known"
            raise _NoError(f"{name} says nothing of its lag ({far})", seen)
        worst = max(worst, lag or timedelta(0))
        if worst.total_seconds() > most:
            raise _NoError(f"{name} is {_span(worst)} behind; at most {format_duration(most)} is allowed", seen)
    return f"{len(rows)} replica{'s' if len(rows) > 1 else ''}, at most {_span(worst)} behind", seen


async def _sql(check: Precheck, world: World) -> _Answer:
    connection = await world.connect()
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {int(check.timeout * 1000)}")
            statement = await connection.prepare(check.sql or "")
            columns = [(each.name, each.type.name) for each in statement.get_attributes()]
            if [kind for _, kind in columns] != ["bool"]:
                got = ", ".join(kind for _, kind in columns) or "nothing"
                raise _NoError(f"the query must return one boolean, and returns {got}")
            values = [row[0] for row in await (await statement.cursor()).fetch(2)]
    finally:
        connection.terminate()
    if values != [True]:
        got = (
            "several rows" if len(values) > 1 else "no row" if not values else "null" if values[0] is None else "false"
        )
        raise _NoError(f"the query returned {got}", {"sql": check.sql, "value": values[0] if values else None})
    return "the query returned true", {"sql": check.sql, "value": True}


async def _pgbackrest(check: Precheck, world: World) -> _Answer:
    stanza = [f"--stanza={check.stanza}"] if check.stanza else []
    argv = check.command or ["pgbackrest", *stanza, "info", "--output=json", "--log-level-console=off"]
    return _backup(backups.of_pgbackrest, await _printed(argv, check, world), check, world, check.stanza)


async def _walg(check: Precheck, world: World) -> _Answer:
    argv = check.command or ["wal-g", "backup-list", "--json", "--detail"]
    return _backup(lambda out, _: backups.of_walg(out), await _printed(argv, check, world), check, world, None)


def _backup(
    read: Callable[[bytes, str | None], backups.Backup], out: bytes, check: Precheck, world: World, stanza: str | None
) -> _Answer:
    try:
        found = read(out, stanza)
    except backups.NoBackupError as none:
        raise _NoError(str(none)) from None
    seen = {"label": found.label, "type": found.kind, "finished": clock_time(found.at), "stanza": stanza}
    age = _fresh(f"the last backup, {found.label},", world.now - found.at, check.max_age or MAX_AGE[check.kind], seen)
    return f"{found.label} ({found.kind}) was finished {age} ago", seen


async def _command(check: Precheck, world: World) -> _Answer:
    out = await _printed(check.command, check, world, LONGEST_JSON)
    try:
        said = backups.parsed(out)
    except ValueError:
        raise _NoError(f"{check.command[0]} printed no JSON") from None
    return f"{check.command[0]} ended with exit code 0", {"printed": said}


async def _printed(argv: list[str], check: Precheck, world: World, longest: int = programs.LONGEST) -> bytes:
    ran = await programs.run(argv, seconds=check.timeout, environment=world.environment, longest=longest)
    if ran.problem is not None:
        raise _NoError(ran.problem)
    return ran.out


async def _rollback_note(_check: Precheck, world: World) -> _Answer:
    if not (world.note or "").strip():
        raise _NoError("the request has no rollback note: --rollback-note says what is done if something goes wrong")
    if world.note_by.strip().lower() in NOBODY:
        raise _NoError(f"the rollback note is by {world.note_by or 'nobody'}: a human gives it by name, with --by")
    return f"a note by {world.note_by}", {"note": world.note, "by": world.note_by}


def _fresh(what: str, age: timedelta, most: float, seen: dict[str, Any]) -> str:
    """The age, in words, where it is not too old. Raises _NoError."""
    seen["age_seconds"] = round(age.total_seconds())
    if age.total_seconds() < -60:
        raise _NoError(f"{what} is from the future by {_span(-age)}: compare the clocks", seen)
    if age.total_seconds() > most:
        raise _NoError(f"{what} is {_span(age)} old; at most {format_duration(most)} is allowed", seen)
    return _span(age)


def _span(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    unit = 3600 if seconds >= 86_400 else 60 if seconds >= 3600 else 1
    return format_duration(seconds - seconds % unit)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return clock_time(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)


def encoded(evidence: dict[str, Any]) -> str:
    """Evidence as it is kept: JSON, never longer than what a program may print."""
    text = json.dumps(evidence, ensure_ascii=False)
    return text if len(text) <= 2 * LONGEST_JSON else json.dumps({"too_long": len(text)})


_KINDS: Final[dict[str, Callable[[Precheck, World], Awaitable[_Answer]]]] = {
    "wal_archive": _wal_archive,
    "pgbackrest": _pgbackrest,
    "walg": _walg,
    "replica_lag": _replica_lag,
    "sql": _sql,
    "command": _command,
    "rollback_note": _rollback_note,
}

_ARCHIVER = """
SELECT pg_catalog.current_setting('archive_mode') AS archive_mode, a.last_archived_wal, a.last_archived_time,
  a.archived_count, a.last_failed_wal, a.last_failed_time, a.failed_count, pg_catalog.clock_timestamp() AS now
FROM pg_catalog.pg_stat_archiver a"""

# Of a primary one row for each physical replica; of a replica one row for itself. Who may not see the state of a
# replication sees nulls. Where everything received is replayed, and the receiver lives, the age says nothing.
_LAG = """
SELECT coalesce(nullif(r.application_name, ''), 'a replica') AS name, r.client_addr AS address, r.state,
  r.state IS NULL AS hidden, current_user::text AS asker,
  CASE WHEN r.replay_lsn = pg_catalog.pg_current_wal_lsn() THEN interval '0' ELSE r.replay_lag END AS lag,
  pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn)::bigint AS bytes
FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
WHERE NOT pg_catalog.pg_is_in_recovery() AND s.slot_type IS DISTINCT FROM 'logical'
  AND r.state IS DISTINCT FROM 'backup'
UNION ALL
SELECT 'this replica', NULL, NULL, false, current_user::text,
  CASE WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn()
            AND EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) THEN interval '0'
       ELSE pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp() END, NULL
WHERE pg_catalog.pg_is_in_recovery()"""
