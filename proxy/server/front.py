"""How a server shows itself to the outside: by pages of its own, or by its supervisor's, which speaks for several.

Says that it is ready, answers how it does, and is told when it stops to accept. Knows no sessions. Invariant: what is
shown is let go when accepting ends, so that another server can take its place while this one drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from proxy.config import Config
from proxy.server import health, metrics
from proxy.server.metrics import Family
from proxy.server.pages import Pages

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Views:
    """What there is to see of a server. `ready`: why it cannot serve, None when it can; `look` tries it out first."""

    ready: Callable[[], str | None]
    look: Callable[[], str | None]
    families: Callable[[], list[Family]]


class Front(Protocol):
    """See the module's text."""

    async def open(self, views: Views) -> None:
        """Begin to answer. Raises OSError."""

    def ready(self, port: int, databases: dict[str, bool]) -> None:
        """Sessions are accepted on this port."""

    def close(self) -> None:
        """None are accepted any more."""


class OwnPages:
    """One process that is the whole server: it has its own metrics port, and the port of one-time links."""

    def __init__(self, config: Config, links: Pages | None) -> None:
        self._config = config
        self._links = links
        self._also: dict[str, int] = {}
        self._port = 0
        self._http: asyncio.Server | None = None

    async def open(self, views: Views) -> None:
        async def numbers() -> health.Answer:
            return 200, metrics.CONTENT_TYPE, metrics.page(views.families())

        async def readyz() -> health.Answer:
            return said(views.look())

        where = self._config.metrics
        pages = {"/metrics": numbers, "/healthz": healthz, "/readyz": readyz}
        self._http, self._port = await health.serve_http(where.host, where.port, pages)
        if self._links is not None and self._config.links is not None:
            self._also["links_port"] = await self._links.start(self._config.links.host, self._config.links.port)

    def ready(self, port: int, databases: dict[str, bool]) -> None:
        where = {"port": port, "metrics_port": self._port, **self._also}
        log.info("ready", **where, host=self._config.listen.host, databases=databases)

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
        if self._links is not None:
            self._links.close()


async def healthz() -> health.Answer:
    """The process lives: it answers."""
    return 200, health.TEXT, b"ok\n"


def said(why: str | None) -> health.Answer:
    """/readyz."""
    return (200, health.TEXT, b"ready\n") if why is None else (503, health.TEXT, why.encode() + b"\n")
