"""`daypass hold`: statements of open sessions that wait for another person's yes.

Decides in the state; the session's process finds it there within a second and records it before anything runs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.access.holds import Hold
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import Output, emit, fields, grid, rfc3339, styled
from proxy.cli.state import with_access
from proxy.clock import SystemClock
from proxy.units import format_duration

app = typer.Typer(no_args_is_help=True, help="Statements that wait for another person's yes.")

HoldArgument = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id, for example h-7k3m9x2q.")]
COLOURS = {"waiting": "yellow", "approved": "green", "denied": "red"}
SHOWN = 60
"""Characters of a statement in the list."""


@app.command("list")
def list_(
    config: ConfigOption,
    output: OutputOption,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided.")] = False,
) -> None:
    """Show the statements that wait, the newest first.

    Example: daypass hold list
    """
    cfg = load_config(config)
    now = SystemClock().now()
    found = with_access(cfg, lambda access: access.holds.all(waiting=not everything))
    rows: list[list[str | Text]] = [
        [h.id, _state(h, now), h.person, h.database, _left(h, now), _short(h.sql)] for h in found
    ]
    heads = ["HOLD", "STATE", "PERSON", "DATABASE", "LEFT", "STATEMENT"]
    empty = "No holds." if everything else "No statement waits. `--all` shows the others."
    emit([_plain(h, now) for h in found], output, grid(heads, rows, empty=empty))


@app.command()
def show(config: ConfigOption, output: OutputOption, hold: HoldArgument) -> None:
    """Show one statement that waits: what would run, for whom, and who may decide.

    Example: daypass hold show h-7k3m9x2q
    """
    cfg = load_config(config)
    now = SystemClock().now()
    found = with_access(cfg, lambda access: access.holds.get(hold))
    decided = f"{rfc3339(found.decided_at)} by {found.decided_by}: {found.decided_why}"

    def table(console: Console) -> None:
        console.print(styled(f"Hold {found.id}", "bold"))
        fields(
            [
                ("state", _state(found, now)),
                ("person", found.person),
                ("grant", found.grant),
                ("session", found.session),
                ("database", found.database),
                ("why it waits", found.reason),
                ("asked", rfc3339(found.asked_at)),
                ("waits", f"until {rfc3339(found.ends_at)}, {_left(found, now)} left"),
                ("who decides", " or ".join(found.approvers) or "anybody else"),
                ("decided", decided if found.decided_at else None),
            ]
        )(console)
        console.print()
        for line in found.sql.splitlines():
            console.print(Text(f"  {line}"), soft_wrap=True)

    emit(_plain(found, now), output, table)


@app.command()
def approve(
    config: ConfigOption,
    output: OutputOption,
    hold: HoldArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Let a statement go that waits.

    Example: daypass hold approve h-7k3m9x2q --reason 'agreed on the phone'
    """
    _decide(config, output, hold, reason, by, approved=True)


@app.command()
def deny(
    config: ConfigOption,
    output: OutputOption,
    hold: HoldArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; the person is told, and it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Refuse a statement that waits; the session goes on.

    Example: daypass hold deny h-7k3m9x2q --reason 'not these rows'
    """
    _decide(config, output, hold, reason, by, approved=False)


def _decide(config: Any, output: Output, hold: str, reason: str, by: str | None, *, approved: bool) -> None:
    cfg = load_config(config)
    found = with_access(cfg, lambda access: access.holds.decide(hold, approved=approved, by=who(by), reason=reason))

    def table(console: Console) -> None:
        what = "runs now" if approved else "is refused"
        console.print(f"The statement of {found.person} that waited as {found.id} {what}.")

    emit(_plain(found, found.asked_at), output, table)


def _state(hold: Hold, now: datetime) -> Text:
    state = "timeout" if hold.state == "waiting" and now >= hold.ends_at else hold.state
    return styled(state, COLOURS.get(state, "bright_black"))


def _left(hold: Hold, now: datetime) -> str:
    seconds = int((hold.ends_at - now).total_seconds())
    return format_duration(seconds) if hold.state == "waiting" and seconds > 0 else ""


def _short(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _plain(hold: Hold, now: datetime) -> dict[str, Any]:
    return {
        "hold": hold.id,
        "state": str(_state(hold, now)),
        "person": hold.person,
        "grant": hold.grant,
        "session": hold.session,
        "database": hold.database,
        "sql": hold.sql,
        "reason": hold.reason,
        "approvers": list(hold.approvers),
        "asked_at": rfc3339(hold.asked_at),
        "ends_at": rfc3339(hold.ends_at),
        "decided_at": rfc3339(hold.decided_at),
        "decided_by": hold.decided_by,
        "decided_why": hold.decided_why,
    }
