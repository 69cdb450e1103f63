"""The conversation between a supervisor and a worker: one socket, lines of JSON, and first what the worker is to be.

The worker's end is its standard input. A worker does what it is told here and heeds no signals: a service manager that
signals every process of the group must not make two stops out of one. Invariant: when the supervisor is gone, the
socket ends, and the worker stops as if it had been told to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import Final, Literal

import msgspec
import structlog

from proxy.server.front import Views
from proxy.server.metrics import Family
from proxy.tasks import spawn

log = structlog.get_logger()

LENGTH: Final = struct.Struct(">I")
LONGEST: Final = 16 << 20
"""Bytes of one line."""


class Tracing(msgspec.Struct, frozen=True):
    """Where `serve --trace-wire` writes, and whether without what differs from run to run."""

    folder: str
    steady: bool


class Charter(msgspec.Struct, frozen=True):
    """What a worker is to be. The configuration's text is sent, so that a worker that is started again is like the
    others, whatever has happened to the file."""

    worker: int
    config: str
    text: str
    port: int
    tracing: Tracing | None = None


class Order(msgspec.Struct, frozen=True):
    """To a worker. `look` and `numbers` are answered under their `id`."""

    do: Literal["stop", "reload", "look", "numbers"]
    id: int = 0


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """From a worker: it is `ready` on a port, it has `closed` its door, or the answer to an order."""

    what: Literal["ready", "closed", "answer"]
    id: int = 0
    databases: dict[str, bool] = {}
    why: str | None = None
    families: list[Family] = []


def frame(charter: Charter) -> bytes:
    """The first bytes of the conversation."""
    data = msgspec.json.encode(charter)
    return LENGTH.pack(len(data)) + data


def line(message: Order | Told) -> bytes:
    """One message."""
    return msgspec.json.encode(message) + b"\n"


def summoned() -> tuple[socket.socket, Charter]:
    """In a new worker: its end of the socket and its charter. Raises OSError when nobody is there to say."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    (length,) = LENGTH.unpack(_exactly(sock, LENGTH.size))
    return sock, msgspec.json.decode(_exactly(sock, length), type=Charter)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := sock.recv(count - len(data))):
            raise OSError("the supervisor is gone")
        data += piece
    return data


class Link:
    """A worker's end; it is a `Front`."""

    def __init__(self, sock: socket.socket, *, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        self._sock = sock
        self._stop = stop
        self._reload = reload
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False

    async def open(self, views: Views) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._sock, limit=LONGEST)
        spawn(self._listen(reader, views), name="supervisor")

    def ready(self, port: int, databases: dict[str, bool]) -> None:
        log.info("worker_ready", port=port, databases=databases)
        self._say(Told("ready", databases=databases))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._say(Told("closed"))

    async def _listen(self, reader: asyncio.StreamReader, views: Views) -> None:
        try:
            while said := await reader.readline():
                order = msgspec.json.decode(said, type=Order)
                if order.do == "stop":
                    self._stop()
                elif order.do == "reload":
                    self._reload()
                else:
                    why = views.look() if order.do == "look" else views.ready()
                    self._say(Told("answer", order.id, why=why, families=views.families()))
        except OSError as problem:
            log.warning("supervisor_lost", reason=str(problem))
        log.error("supervisor_gone", message="this worker drains and ends")
        self._stop()

    def _say(self, told: Told) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line(told))
