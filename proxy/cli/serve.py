"""`daypass serve`: the proxy in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.options import ConfigOption


def command(
    config: ConfigOption,
    trace_wire: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write every message of every session to a file in DIR: for finding faults, values in it.",
        ),
    ] = None,
    trace_steady: Annotated[
        bool, typer.Option(help="Leave out of the traces what differs from run to run, so that they can be compared.")
    ] = False,
) -> None:
    """Run the proxy in the foreground. SIGTERM drains, a second one ends at once, SIGHUP reloads policies.

    Example: daypass -c daypass/config.yaml serve
    """
    from proxy.app import serve  # noqa: PLC0415 - --help need not import a SQL parser

    raise typer.Exit(serve(config, trace_wire, trace_steady=trace_steady))
