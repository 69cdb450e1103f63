"""`daypass delegation`: give one's voice on requests to another person, for a while.

Invariant: one gives only one's own voice, and it is never given on.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.access.delegations import Delegation, Delegations
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import emit, grid, rfc3339, styled
from proxy.cli.state import Access, with_access
from proxy.cli.wish import time_of
from proxy.clock import SystemClock

app = typer.Typer(no_args_is_help=True, help="Give one's voice on requests to another person, for a while.")


def _of(access: Access) -> Delegations:
    return Delegations(access.store, access.clock, access.emit)


@app.command()
def create(
    config: ConfigOption,
    output: OutputOption,
    to: Annotated[str, typer.Option("--to", metavar="PERSON", help="Who may speak for you.")],
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="2026-01-05T09:00:00Z, or +14d.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")],
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From when; else from now on.")] = None,
    by: ByOption = None,
) -> None:
    """Let another person approve and deny in your place. Never for requests that either of you made.

    Example: daypass delegation create --to bob@shop.example --until +14d --reason 'on holiday'
    """
    cfg = load_config(config)
    now, name = SystemClock().now(), who(by)
    ends_at, starts_at = time_of(until, now, "--until"), time_of(start, now)
    if ends_at is None:
        raise AssertionError("--until is required")

    async def make(access: Access) -> Delegation:
        return await _of(access).create(
            from_whom=name, to_whom=to, until=ends_at, reason=reason, by=name, starts_at=starts_at
        )

    _show(with_access(cfg, make), output, "speaks")


@app.command()
def end(
    config: ConfigOption,
    output: OutputOption,
    delegation: Annotated[str, typer.Argument(metavar="DELEGATION", help="Its id, for example d-7k3m9x2q.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Take your voice back before its time, or give one back.

    Example: daypass delegation end d-7k3m9x2q --reason 'back at work'
    """
    cfg = load_config(config)
    _show(with_access(cfg, lambda access: _of(access).end(delegation, by=who(by), reason=reason)), output, "spoke")


@app.command("list")
def list_(
    config: ConfigOption,
    output: OutputOption,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
) -> None:
    """Show who speaks for whom, and until when.

    Example: daypass delegation list
    """
    cfg = load_config(config)
    now = SystemClock().now()
    found = with_access(cfg, lambda access: _of(access).all())
    shown = [each for each in found if everything or (each.ended_at is None and now < each.ends_at)]
    rows: list[list[str | Text]] = [
        [
            each.id,
            styled("stands", "green") if each.stands(now) else styled(_state(each, now), "bright_black"),
            each.from_whom,
            each.to_whom,
            rfc3339(each.starts_at) or "",
            rfc3339(each.ended_at or each.ends_at) or "",
            each.reason,
        ]
        for each in shown
    ]
    heads = ["DELEGATION", "STATE", "OF", "TO", "FROM", "UNTIL", "REASON"]
    empty = "No delegations." if everything else "Nobody speaks for anybody else. `--all` shows those that are over."
    emit([_plain(each, now) for each in shown], output, grid(heads, rows, empty=empty))


def _state(each: Delegation, now: Any) -> str:
    if each.stands(now):
        return "stands"
    return "to come" if each.ended_at is None and now < each.starts_at else "over"


def _plain(each: Delegation, now: Any) -> dict[str, Any]:
    return {
        "delegation": each.id,
        "state": _state(each, now),
        "from": each.from_whom,
        "to": each.to_whom,
        "starts_at": rfc3339(each.starts_at),
        "ends_at": rfc3339(each.ends_at),
        "ended_at": rfc3339(each.ended_at),
        "reason": each.reason,
    }


def _show(made: Delegation, output: Any, verb: str) -> None:
    now = SystemClock().now()

    def table(console: Console) -> None:
        until = rfc3339(made.ended_at or made.ends_at)
        console.print(f"Delegation {made.id}: {made.to_whom} {verb} for {made.from_whom} until {until}.")

    emit(_plain(made, now), output, table)
