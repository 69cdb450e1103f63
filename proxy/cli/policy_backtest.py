"""`daypass policy backtest`: recorded statements judged again under another policy, before it is put in force.

Reads recordings, grants and live catalogs; changes nothing. Prints shapes of statements, never their constants.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.access.model import Grant
from proxy.catalog import Catalog
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, USAGE, emit, fail, note, rfc3339
from proxy.cli.policy_load import (
    CatalogOption,
    DatabaseOption,
    grants,
    known_policies,
    live,
    policy_or_file,
    saved,
    sessions,
    statements,
)
from proxy.clock import SystemClock
from proxy.config import parse_duration
from proxy.policy.backtest import Backtest, Changed, Report
from proxy.policy.judge import Judge
from proxy.policy.load import PolicyError, parse
from proxy.policy.model import Policy

_WORDS = {"refused": ("red", "newly refused"), "changed": ("yellow", "shown otherwise"),
          "allowed": ("green", "newly allowed")}  # fmt: skip


def backtest(
    config: ConfigOption,
    output: OutputOption,
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="A policy's name, or a file.")],
    since: Annotated[
        str, typer.Option("--since", metavar="7d|TIME", help="How far back: 7d, 12h, or 2026-01-05T09:00:00Z.")
    ] = "7d",
    grant: Annotated[str | None, typer.Option("--grant", metavar="GRANT", help="Only what this grant did.")] = None,
    database: DatabaseOption = None,
    snapshot: CatalogOption = None,
) -> None:
    """Judges recorded statements again under POLICY and says which of them would fare otherwise.

    Exit code 1 when something that ran would be refused.

    Example: [bold]daypass policy backtest policies/next.yaml --since 7d[/bold]
    """
    cfg = load_config(config)
    chosen = policy_or_file(known_policies(cfg), policy)
    begin = _since(since, SystemClock().now())
    if snapshot is not None and database is None:
        database = chosen.databases[0]
    if database is not None and database not in chosen.databases:
        fail(USAGE, f"{policy} is not a policy for {database}", f"it names {', '.join(chosen.databases)}")
    known = grants(cfg)
    if grant is not None and known and grant not in known:
        fail(USAGE, f"there is no grant {grant}", "daypass grant list shows them all")
    found = sessions(cfg, grant=grant, since=begin)
    wanted = [database] if database else list(chosen.databases)
    for place in sorted({s.database for s in found if s.database and s.database not in wanted}):
        note(f"sessions on {place} are left out: {policy} does not name it")
    report = Report()
    for place in wanted:
        mine = [s for s in found if s.database == place]
        if mine:
            catalog = saved(snapshot) if snapshot else live(cfg, place)
            test = Backtest(Judge(chosen, catalog), judges_before(known, catalog))
            _add(report, test.run(statements(mine, begin)))
    if not report.statements:
        note(f"no statement was recorded since {rfc3339(begin)}")
    data = {
        "ok": report.ok, "policy": chosen.name, "policy_revision": chosen.revision, "since": rfc3339(begin),
        "statements": report.statements, **report.totals, "changes": [plain(c) for c in report.changes],
    }  # fmt: skip
    emit(data, output, lambda console: _show(console, chosen, report))
    raise typer.Exit(0 if report.ok else NO)


def judges_before(known: dict[str, Grant], catalog: Catalog) -> Callable[[str], Judge | None]:
    """The judges of the revisions that grants pin, each made once; None where a grant is not known."""
    made: dict[str, Judge | None] = {}

    def before(id_: str) -> Judge | None:
        grant = known.get(id_)
        if grant is None:
            return None
        if grant.policy_revision not in made:
            try:
                policy: Policy | None = parse(grant.policy_text, f"the policy of grant {id_}")
            except PolicyError:  # a later version of daypass may refuse what an earlier one took
                policy = None
            made[grant.policy_revision] = Judge(policy, catalog) if policy else None
        return made[grant.policy_revision]

    return before


def plain(change: Changed) -> dict[str, Any]:
    """One group of statements, for programs."""
    return {
        "effect": change.effect, "statement": change.statement, "was": change.was, "rule": change.rule,
        "reason": change.reason, "ran": change.ran, "count": change.count, "first": rfc3339(change.first),
        "last": rfc3339(change.last), "grants": sorted(change.grants), "sessions": sorted(change.sessions),
    }  # fmt: skip


def _since(text: str, now: datetime) -> datetime:
    try:
        if text[:1].isdigit() and "-" not in text:
            return now - timedelta(seconds=parse_duration(text))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        fail(USAGE, f"--since: {text!r} is not a time", "write for example 7d, 12h or 2026-01-05T09:00:00Z")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _add(total: Report, more: Report) -> None:
    total.statements += more.statements
    for key, count in more.totals.items():
        total.totals[key] += count
    total.changes += more.changes


def _show(console: Console, policy: Policy, report: Report) -> None:
    for effect, (colour, words) in _WORDS.items():
        mine = [c for c in report.changes if c.effect == effect]
        if not mine:
            continue
        console.print(Text(f"{words}: {sum(c.count for c in mine)}", style=f"bold {colour}"))
        for change in mine:
            _one(console, change)
    if report.statements:
        same = report.totals["same"]
        parts = [f"{report.totals[e]} {words}" for e, (_, words) in _WORDS.items() if report.totals[e]]
        console.print(Text(f"{report.statements} recorded statements under {policy.name}: {same} as before"
                           + "".join(f", {p}" for p in parts)))  # fmt: skip


def _one(console: Console, change: Changed) -> None:
    width = max(40, console.width - 2) if console.is_terminal else 10_000
    statement = change.statement if len(change.statement) <= 2 * width else f"{change.statement[: 2 * width - 1]}…"
    times = f"{change.count} time{'' if change.count == 1 else 's'}"
    first, last = (f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (change.first, change.last))
    span = first if first == last else f"{first} to {last}"
    failed = "" if change.ran or change.effect != "refused" else "; it never worked"
    console.print(Text(f"  {_printable(statement)}"))
    console.print(Text(f"      {change.rule}: {_printable(change.reason)}{failed}", style="dim"))
    console.print(Text(f"      {times}, {span} UTC, {', '.join(sorted(change.grants))}", style="dim"))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
