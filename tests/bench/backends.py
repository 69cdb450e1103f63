"""Stands in for thousands of Postgres backends: `python -m tests.bench.backends PORT` in front of a real server.

A start-up that pins standard_conforming_strings is a session of daypass: it is let in without a password and answered
SELECT 1 for ever. Every other connection (daypass reading its catalog) goes to the real server at PORT.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from proxy.wire import build, framing
from tests.bench.relay import Half

HELLO = b"".join(
    (
        build.AUTHENTICATION_OK,
        *(
            build.message(b"S", f"{name}\0{value}\0".encode())
            for name, value in (("server_version", "15.0"), ("client_encoding", "UTF8"), ("server_encoding", "UTF8"))
        ),
        build.key_data(4242, b"abcd"),
        build.ready(ord("I")),
    )
)
ROW = b"".join(
    (
        build.message(b"T", b"\0\1x\0" + bytes(18)),
        build.message(b"D", b"\0\1\0\0\0\x011"),
        build.message(b"C", b"SELECT 1\0"),
        build.ready(ord("I")),
    )
)


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._held = b""
        self._ready = False
        self._real: asyncio.Transport | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._real is not None:
            self._real.write(data)
        elif self._ready:
            for kind, _, _ in framing.spans(data):
                if kind == framing.QUERY:
                    self._transport.write(ROW)
        else:
            self._held += data
            if len(self._held) >= 8 and len(self._held) >= framing.LENGTH(self._held, 0)[0]:
                if b"standard_conforming_strings" in self._held:
                    self._ready = True
                    self._transport.write(HELLO)
                else:
                    self._transport.pause_reading()
                    self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        half = Half()
        half.other = self._transport
        self._real, _ = await asyncio.get_running_loop().create_connection(lambda: half, "127.0.0.1", self._port)
        self._real.write(self._held)
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._real is not None:
            self._real.close()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Backend(port), "127.0.0.1", 0, backlog=8192)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
