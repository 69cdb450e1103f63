"""Cancel requests that came in by another process's door.

Each process has a datagram socket in the folder that all share, named by its place. A key that fits no session here is
sent to all others; none of them answers, as Postgres answers no CancelRequest. The folder belongs to this user alone,
and who knows the key may cancel, whichever way it comes. Knows no sessions. Invariant: what cannot be sent at once is
dropped: a flood of wrong keys stops nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

PREFIX: Final = "cancel."
PID: Final = struct.Struct(">i")
LONGEST: Final = PID.size + 256
"""Bytes of a request: protocol 3.2 allows secrets of 256."""
A_TURN: Final = 64
"""Requests taken before others have their turn."""


class Cancels:
    """This process's end. `found` is called with the keys that others do not know."""

    def __init__(self, folder: Path, place: int, found: Callable[[int, bytes], object]) -> None:
        self._folder = folder
        self._name = f"{PREFIX}{place}"
        self._found = found
        self._socket: socket.socket | None = None
        self._directory = -1

    def open(self) -> None:
        """Begin to listen. Where that cannot be, only requests to the right process are served, and the log says so."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(FileNotFoundError):  # of a process that died at this place
                (self._folder / self._name).unlink()
            sock.setblocking(False)
            sock.bind(self._address(self._name))
            (self._folder / self._name).chmod(0o600)
        except OSError as problem:
            log.warning("cancels_not_shared", reason=str(problem), folder=str(self._folder))
            sock.close()
            return
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._read)

    def ask(self, pid: int, secret: bytes) -> None:
        """It is none of ours: tell the others."""
        if self._socket is None or len(secret) > LONGEST - PID.size:
            return
        for path in self._folder.glob(f"{PREFIX}*"):
            if path.name != self._name:
                # Nobody listens there any more, or its queue is full.
                with contextlib.suppress(OSError):
                    self._socket.sendto(PID.pack(pid) + secret, self._address(path.name))

    def _read(self) -> None:
        for _ in range(A_TURN):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(LONGEST)
            except OSError:
                return
            if len(data) > PID.size:
                self._found(PID.unpack_from(data)[0], data[PID.size :])

    def _address(self, name: str) -> str:
        """A socket's path has at most about a hundred bytes; Linux has a short one for every folder that is open."""
        path = str(self._folder / name)
        return path if len(os.fsencode(path)) < 100 else f"/proc/self/fd/{self._directory}/{name}"

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                (self._folder / self._name).unlink()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
