"""`daypass clock`: the time that grants begin and end by, and the operator's word that the machine's clock is right.

Reads and writes the state only; a running server hears of it within seconds.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from proxy.access.timekeeping import Kept, TimeFacts
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, emit, fields, rfc3339, styled
from proxy.cli.state import Access, with_access
from proxy.clock import SystemClock

app = typer.Typer(no_args_is_help=True, help="The time that grants begin and end by.")


def verdict(kept: Kept) -> str | None:
    """Why this machine's clock is not believed; None where nothing speaks against it."""
    now = SystemClock().now()
    if kept.behind(now):
        return f"it is behind: it has been {rfc3339(kept.highest)} before"
    if kept.apart is not None:
        how = "ahead" if kept.apart > 0 else "back"
        return f"it was set {how} by {abs(kept.apart):.0f} s while daypass served; sessions cannot begin"
    return None


def _facts(access: Access) -> TimeFacts:
    return TimeFacts(access.store, access.clock, access.emit)


@app.command()
def show(config: ConfigOption, output: OutputOption) -> None:
    """Show this machine's time, the highest that daypass has believed, and whether the two fit. Exit 1 if not.

    Example: daypass clock show
    """
    cfg = load_config(config)
    kept = with_access(cfg, lambda access: _facts(access).read())
    now, problem = SystemClock().now(), verdict(kept)

    def table(console: Console) -> None:
        fields(
            [
                ("now", rfc3339(now)),
                ("highest", rfc3339(kept.highest) or "none yet: no server has kept one"),
                ("accepted", rfc3339(kept.accepted_at)),
                ("believed", styled(f"no: {problem}", "bold red") if problem else "yes"),
            ]
        )(console)
        if problem:
            console.print("Set the clock; or, if it is right: daypass clock accept --reason '…'")

    data = {"now": rfc3339(now), "highest": rfc3339(kept.highest), "accepted_at": rfc3339(kept.accepted_at)}
    emit(data | {"ok": problem is None, "problem": problem}, output, table)
    if problem:
        raise typer.Exit(NO)


@app.command()
def accept(
    config: ConfigOption,
    output: OutputOption,
    reason: Annotated[str, typer.Option("--reason", help="Why it is right; it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Say that this machine's clock is right, after it was set. Grants then begin and end by it.

    Example: daypass clock accept --reason 'the time server was off by an hour, now it is right'
    """
    cfg = load_config(config)
    kept, now = with_access(cfg, lambda access: _facts(access).accept(by=who(by), reason=reason))

    def table(console: Console) -> None:
        before = f"; the highest before was {rfc3339(kept.highest)}" if kept.highest else ""
        console.print(f"The clock is accepted: it is {rfc3339(now)}{before}.")
        console.print("A running server believes it within a second; grants that are over by it end.")

    emit({"now": rfc3339(now), "before": rfc3339(kept.highest)}, output, table)
