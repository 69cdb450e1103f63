"""`daypass serve`: the proxy in the foreground."""

from __future__ import annotations

import typer

from proxy.cli.options import ConfigOption


def command(config: ConfigOption) -> None:
    """Run the proxy in the foreground. SIGTERM drains, a second one ends at once, SIGHUP reloads policies.

    Example: daypass -c daypass/config.yaml serve
    """
    from proxy.app import serve  # noqa: PLC0415 - --help need not import a SQL parser

    raise typer.Exit(serve(config))
