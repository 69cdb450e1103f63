"""/metrics, /healthz and /readyz: a very small HTTP server.

It answers GET and HEAD of three paths and closes; a request that is longer than 8 KiB or slower than five seconds is
dropped. Nothing here needs a session's attention, and nothing of a session can be seen here but sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, cast

from proxy.tasks import spawn

Answer = tuple[int, str, bytes]
"""Status, content type, body."""
Page = Callable[[], Awaitable[Answer]]

LONGEST: Final = 8192
SLOWEST: Final = 5.0
PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
TEXT: Final = "text/plain; charset=utf-8"


class _Http(asyncio.Protocol):
    """One request, one answer."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(SLOWEST, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing() or self._asked:
            return
        self._head += data
        if b"\r\n\r\n" in self._head or b"\n\n" in self._head:
            self._asked = True
            spawn(self._respond(), name="page")
        elif len(self._head) > LONGEST:
            self._answer(400, TEXT, b"request too long\n")

    async def _respond(self) -> None:
        self._answer(*await self._page())

    async def _page(self) -> Answer:
        words = self._head.split(b"\n", 1)[0].decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return 400, TEXT, b"not HTTP\n"
        if words[0] not in ("GET", "HEAD"):
            return 405, TEXT, b"only GET\n"
        page = self._pages.get(words[1].split("?", 1)[0])
        if page is None:
            return 404, TEXT, b"see /metrics, /healthz, /readyz\n"
        return await page()

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        if self._transport is None:
            return
        head = (
            f"HTTP/1.1 {status} {PHRASES[status]}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        asked_for_head = self._head.startswith(b"HEAD ")
        self._transport.write(head.encode() + (b"" if asked_for_head else body))
        self._transport.close()


async def serve_http(host: str, port: int, pages: Mapping[str, Page]) -> tuple[asyncio.Server, int]:
    """Start serving; returns the server and its port. Raises OSError."""
    server = await asyncio.get_running_loop().create_server(lambda: _Http(pages), host, port)
    return server, server.sockets[0].getsockname()[1]
