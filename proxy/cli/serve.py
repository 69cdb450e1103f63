"""`daypass serve`: the proxy in the foreground, as one process or as a supervisor with its workers.

Reads the configuration, and says what is wrong with it in the form of the log: whoever runs a service reads that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import structlog
import typer

from proxy.cli.options import ConfigOption
from proxy.config import ConfigError, load, warnings
from proxy.server import logs
from proxy.server.link import Tracing

log = structlog.get_logger()


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
    tracing = Tracing(str(trace_wire.absolute()), steady=trace_steady) if trace_wire is not None else None
    raise typer.Exit(_serve(config, tracing))


def _serve(path: Path, tracing: Tracing | None) -> int:
    logs.as_json()
    try:
        config = load(path)
    except ConfigError as broken:
        for finding in broken.findings:
            log.error("config_broken", file=finding.file, line=finding.line, key=finding.key, message=finding.message)
        return 2
    for finding in warnings(config):
        log.warning("config_warning", file=finding.file, line=finding.line, key=finding.key, message=finding.message)
    if config.workers > 1:
        from proxy.server.supervisor import supervise  # noqa: PLC0415 - it parses no SQL and need not have the parsers

        return supervise(config, tracing)
    from proxy.app import run  # noqa: PLC0415 - --help need not import a SQL parser

    return run(config, tracing)
