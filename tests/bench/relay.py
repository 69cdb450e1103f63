"""The least that a Python proxy can do: bytes from one socket to the other, on uvloop.

    python -m tests.bench.relay PORT

The measure of what reading, judging and recording add. It prints its own port and serves until it is ended. No
limits, no flow control: it is no program to run anywhere else.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

import uvloop


class Half(asyncio.Protocol):
    """One side; what it reads goes to the other."""

    def __init__(self) -> None:
        self.other: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


async def _relay(port: int, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    upstream, client = Half(), Half()
    there, _ = await loop.create_connection(lambda: upstream, "127.0.0.1", port)
    client.other = there
    upstream.other, _ = await loop.connect_accepted_socket(lambda: client, sock)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setblocking(False)
    print(listening.getsockname()[1], flush=True)
    running: set[asyncio.Task[None]] = set()
    while True:
        sock, _ = await loop.sock_accept(listening)
        task = loop.create_task(_relay(port, sock))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
