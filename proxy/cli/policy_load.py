"""What every `daypass policy` command begins with: policies by name or file, catalogs, judges, recorded statements.

Ends the command with the right exit code where something is missing. Reads only; recordings are read with the
recorder's own code, whatever form they are stored in.
"""

from __future__ import annotations

import asyncio
import difflib
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

from proxy import catalog
from proxy.access.grants import Grants
from proxy.access.model import Grant
from proxy.access.store import Store, StoreError
from proxy.cli.options import load_config
from proxy.cli.output import UNREACHABLE, USAGE, fail, note, warn
from proxy.clock import SystemClock
from proxy.config import Config
from proxy.policy.backtest import Recorded
from proxy.policy.judge import Judge
from proxy.policy.load import Policies, parse
from proxy.policy.model import Policy
from recorder import index, timeline
from recorder.events import Outcome, Statement
from recorder.stored import BrokenError, SealedError

PolicyOption = Annotated[str, typer.Option("--policy", "-p", metavar="NAME", help="The policy's name.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", "-d", metavar="NAME", help="A database of config.yaml: its live catalog.")
]
CatalogOption = Annotated[
    Path | None,
    typer.Option("--catalog", metavar="FILE", help="A saved snapshot instead (see `policy snapshot`), for CI."),
]


def load_policies(cfg: Config) -> tuple[Policies, list[Any]]:
    """The policies of the folder, and what is wrong with their files."""
    policies = Policies(cfg.policies)
    return policies, policies.load()


def known_policies(cfg: Config) -> Policies:
    """The policies of the folder; mistakes in their files are remarks."""
    policies, found = load_policies(cfg)
    for finding in found:
        note(str(finding))
    return policies


def policy_of(policies: Policies, name: str) -> Policy:
    """The policy of this name."""
    try:
        return policies.get(name)
    except KeyError:
        close = difflib.get_close_matches(name, policies.names(), 1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(policies.names()) or 'none'}"
        fail(USAGE, f"there is no policy {name!r}", hint)


def is_file(wanted: str) -> bool:
    """Whether an argument means a file and no policy's name; `-` is standard input."""
    return wanted == "-" or "/" in wanted or wanted.endswith((".yaml", ".yml"))


def policy_or_file(policies: Policies | None, wanted: str) -> Policy:
    """A policy by its name, or from a file. Raises PolicyError for a file with mistakes."""
    if not is_file(wanted) and (policies is None or wanted in policies.names() or not Path(wanted).is_file()):
        if policies is None:
            fail(USAGE, f"{wanted!r} is no file, and without a config.yaml there are no names", "give -c FILE")
        return policy_of(policies, wanted)
    try:
        text = sys.stdin.read() if wanted == "-" else Path(wanted).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fail(USAGE, f"{wanted}: {error.strerror if isinstance(error, OSError) else 'is not UTF-8 text'}")
    return parse(text, "standard input" if wanted == "-" else wanted)


def shown_path(file: str) -> str:
    """A file as seen from here, where it lies below."""
    try:
        return Path(file).absolute().relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return file


def judge_for(config: Path, name: str, database: str | None, snapshot: Path | None) -> Judge:
    """The judge of one policy on the one database that is meant."""
    cfg = load_config(config)
    policy = policy_of(known_policies(cfg), name)
    if database is None and snapshot is None:
        if len(policy.databases) > 1:
            fail(USAGE, f"{name} names several databases", f"give --database, one of {', '.join(policy.databases)}")
        database = policy.databases[0]
    if database is not None and database not in policy.databases:
        fail(USAGE, f"{name} is not a policy for {database}", f"it names {', '.join(policy.databases)}")
    return Judge(policy, saved(snapshot) if snapshot else live(cfg, database or policy.databases[0]))


def saved(snapshot: Path) -> catalog.Catalog:
    """A saved catalog."""
    try:
        return catalog.load(snapshot.read_bytes())
    except (OSError, ValueError) as error:
        fail(USAGE, f"{snapshot}: {error}", "daypass policy snapshot DATABASE > FILE writes one")


def live(cfg: Config, name: str) -> catalog.Catalog:
    """The catalog of a database as it is now."""
    if name not in cfg.databases:
        fail(USAGE, f"there is no database {name!r} in {cfg.file.name}", f"there are: {', '.join(cfg.databases)}")
    found, problem = reach(cfg, name)
    if found is None:
        fail(
            UNREACHABLE,
            f"the catalog of {name} cannot be read: {problem}",
            "check databases in config.yaml with daypass doctor, or use --catalog FILE",
        )
    return found


def reach(cfg: Config, name: str) -> tuple[catalog.Catalog | None, str]:
    """As `live`, but says why where there is none."""
    try:
        return asyncio.run(catalog.snapshot_of(cfg.databases[name])), ""
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return None, str(error) or type(error).__name__


# -- what was recorded ---------------------------------------------------------------------------------------------


def grants(cfg: Config) -> dict[str, Grant]:
    """All grants by id; none, with a warning, where the state cannot be read."""

    async def read() -> list[Grant]:
        store = await Store.open(cfg.state)
        try:
            return await Grants(store, SystemClock()).list()
        finally:
            await store.close()

    try:
        return {grant.id: grant for grant in asyncio.run(read())}
    except StoreError as error:
        warn(f"the grants cannot be read, so what their policies showed is not known: {error}")
        return {}


def sessions(cfg: Config, *, grant: str | None = None, since: datetime | None = None) -> list[index.Session]:
    """The recorded sessions, the oldest first: of one grant, or those that were open at a time or later."""
    try:
        found = index.sessions(cfg.recording.dir)
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    return [
        session
        for session in found
        if grant in (None, session.grant)
        and (since is None or session.ended_at is None or session.ended_at >= since)
        and session.state != "expired"
        and (session.state != "damaged" or _said_damaged(session))
    ]


def _said_damaged(session: index.Session) -> bool:
    warn(f"{session.session} is damaged and left out; daypass recording verify says what is wrong")
    return False


def statements(found: Iterable[index.Session], since: datetime | None = None) -> Iterator[Recorded]:
    """The statements of sessions, in their order. What goes on with a portal is part of the statement before it."""
    for session in found:
        waiting: dict[int, tuple[Statement, datetime]] = {}
        try:
            for entry in timeline.read(session.path):
                event = entry.event
                if isinstance(event, Statement):
                    if event.sql and event.kind != "fetch" and event.protocol != "function" and _in(entry.at, since):
                        waiting[event.n] = event, entry.at
                elif isinstance(event, Outcome) and event.n in waiting:
                    yield _recorded(session, *waiting.pop(event.n), event)
        except OSError as error:
            warn(f"cannot read {error.filename}: {error.strerror}")
        except (SealedError, BrokenError) as error:
            warn(f"{session.session} is left out: {error}")
        for statement, at in waiting.values():
            yield _recorded(session, statement, at, None)


def _in(at: datetime, since: datetime | None) -> bool:
    return since is None or at >= since


def _recorded(session: index.Session, statement: Statement, at: datetime, outcome: Outcome | None) -> Recorded:
    return Recorded(
        sql=statement.sql,
        verdict=statement.verdict,
        rule=statement.rule or "",
        at=at,
        session=session.session,
        grant=session.grant or "",
        sqlstate=outcome.sqlstate if outcome else None,
        rows=outcome.rows if outcome else 0,
        bytes=outcome.bytes if outcome else 0,
        ms=outcome.ms if outcome else 0.0,
    )
