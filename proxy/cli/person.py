"""`daypass person`: take everything from somebody at once, give them leave to be given access again, look who there is.

Checks nothing but the words; `access.people` ends what is theirs. It needs no running server: a server ends their
sessions within a second.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import emit, grid, rfc3339, styled
from proxy.cli.state import with_access

app = typer.Typer(no_args_is_help=True, help="Disable and enable people.")

PersonArgument = Annotated[str, typer.Argument(metavar="PERSON", help="As in their grants; letter case is no matter.")]


@app.command()
def disable(
    config: ConfigOption,
    output: OutputOption,
    person: PersonArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; they are told, and it stands in the record.")],
    by: ByOption = None,
) -> None:
    """End everything of one person: grants, open sessions (within a second), requests. They can begin nothing more.

    Example: daypass person disable jo@vendor.example --reason 'left Acme'
    """
    cfg = load_config(config)
    ended = with_access(cfg, lambda access: access.people.disable(person, reason=reason, by=who(by)))
    data = {
        "person": person,
        "disabled": True,
        "grants": ended.grants,
        "requests": ended.requests,
        "delegations": ended.delegations,
        "approvals": ended.approvals,
    }

    def table(console: Console) -> None:
        console.print(styled(f"{person} is disabled.", "bold red"))
        for what, ids in (("grants", ended.grants), ("requests", ended.requests), ("delegations", ended.delegations)):
            if ids:
                console.print(f"Ended {what}: {', '.join(ids)}")
        if ended.approvals:
            console.print(f"Approvals of theirs that no longer count: in {', '.join(ended.approvals)}")
        console.print("Open sessions end within a second. Undone only by `daypass person enable`; grants stay ended.")

    emit(data, output, table)


@app.command()
def enable(
    config: ConfigOption,
    output: OutputOption,
    person: PersonArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Let somebody be given access again. What was ended stays ended.

    Example: daypass person enable jo@vendor.example --reason 'back from leave'
    """
    cfg = load_config(config)
    with_access(cfg, lambda access: access.people.enable(person, reason=reason, by=who(by)))

    def table(console: Console) -> None:
        console.print(f"{person} may be given access again. Their old grants stay ended: daypass request create")

    emit({"person": person, "disabled": False}, output, table)


@app.command("list")
def list_(
    config: ConfigOption,
    output: OutputOption,
    disabled: Annotated[bool, typer.Option("--disabled", help="Only those who are disabled.")] = False,
) -> None:
    """Show who has or had access, and who is disabled.

    Example: daypass person list --disabled
    """
    cfg = load_config(config)
    found = [one for one in with_access(cfg, lambda access: access.people.all()) if one.disabled_at or not disabled]
    rows: list[list[str | Text]] = [
        [
            one.person,
            styled("disabled", "red") if one.disabled_at else styled("active" if one.live else "-", "green"),
            f"{one.live} of {one.grants}",
            f"{rfc3339(one.disabled_at)} by {one.disabled_by}: {one.disable_reason}" if one.disabled_at else "",
        ]
        for one in found
    ]
    data = [
        {
            "person": one.person,
            "disabled": one.disabled_at is not None,
            "live_grants": one.live,
            "grants": one.grants,
            "disabled_at": rfc3339(one.disabled_at),
            "disabled_by": one.disabled_by,
            "disable_reason": one.disable_reason,
        }
        for one in found
    ]
    emit(data, output, grid(["PERSON", "STATE", "LIVE GRANTS", "DISABLED"], rows, empty="Nobody."))
