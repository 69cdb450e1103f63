"""What the processes of one installation tell each other: a cancel request that is not for me, a catalog that changed.

Each process has a datagram socket in the folder that all share, named by its place, and tells all others at once. Who
was asked to cancel says when it is done, or not its business: the client's connection is closed after that. The folder
belongs to this user alone; and who knows a cancel key may cancel, whichever way it comes. Knows no sessions. Invariant:
what cannot be sent at once is dropped, so a flood of wrong keys stops nobody; whatever is told here is also found out
without it, later, or is the client's to say again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

PREFIX: Final = "post."
CANCEL, DONE, LOOK = b"C", b"D", b"L"
"""`DONE` says the key again."""
PID: Final = struct.Struct(">i")
LONGEST: Final = 512
"""Bytes of a message: protocol 3.2 allows secrets of 256, a database's name has at most 63 characters."""
ANSWER: Final = 5.0
"""Seconds that others have to cancel; as long as a server has."""
A_TURN: Final = 64
"""Messages taken before others have their turn."""


Done = Callable[[], object]


@dataclass(slots=True, eq=False)
class _Asked:
    """A cancel that others were asked for; `silent` have not answered."""

    silent: set[str]
    done: Done


class Post:
    """This process's end. `cancel` is called with keys that others do not know, says whether they are known here, and
    then calls what it is given when it is done; `look` gets the name of a database whose catalog another process has
    found changed."""

    def __init__(
        self, folder: Path, place: int, *, cancel: Callable[[int, bytes, Done], bool], look: Callable[[str], object]
    ) -> None:
        self._folder = folder
        self._name = f"{PREFIX}{place}"
        self._cancel = cancel
        self._look = look
        self._socket: socket.socket | None = None
        self._directory = -1
        self._asked: dict[bytes, list[_Asked]] = {}
        """By key, as it is sent."""

    def open(self) -> None:
        """Begin to listen. Where that cannot be, cancel requests by another process's door are lost, and the log says
        so."""
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

    def ask_to_cancel(self, pid: int, secret: bytes, done: Done) -> None:
        """A key that fits no session here. `done` is called when all others are done with it, in ANSWER seconds at the
        latest."""
        key = PID.pack(pid) + secret
        asked = _Asked(self._tell(CANCEL + key), done)
        if not asked.silent:
            done()
            return
        self._asked.setdefault(key, []).append(asked)
        asyncio.get_running_loop().call_later(ANSWER, self._answered, key, asked)

    def _answered(self, key: bytes, asked: _Asked) -> None:
        waiting = self._asked.get(key, [])
        if asked in waiting:
            waiting.remove(asked)
            if not waiting:
                del self._asked[key]
            asked.done()

    def ask_to_look(self, database: str) -> None:
        """Its catalog has changed: the roles that all processes use will follow."""
        self._tell(LOOK + database.encode())

    def _tell(self, message: bytes) -> set[str]:
        """Who will read it."""
        if self._socket is None or len(message) > LONGEST:
            return set()
        others = (path.name for path in self._folder.glob(f"{PREFIX}*") if path.name != self._name)
        return {name for name in others if self._send(name, message)}

    def _send(self, name: str, message: bytes) -> bool:
        """False where nobody listens any more, or the queue is full."""
        try:
            return self._socket is not None and self._socket.sendto(message, self._address(name)) > 0
        except OSError:
            return False

    def _read(self) -> None:
        for _ in range(A_TURN):
            if self._socket is None:
                return
            try:
                message, sender = self._socket.recvfrom(LONGEST)
            except OSError:
                return
            kind, body = message[:1], message[1:]
            name = Path(sender or "").name
            if kind == CANCEL and len(body) > PID.size:
                done = functools.partial(self._send, name, DONE + body)
                if not self._cancel(PID.unpack_from(body)[0], body[PID.size :], done):
                    done()
            elif kind == DONE:
                for asked in list(self._asked.get(body, ())):
                    asked.silent.discard(name)
                    if not asked.silent:
                        self._answered(body, asked)
            elif kind == LOOK:
                self._look(body.decode(errors="replace"))

    def _address(self, name: str) -> str:
        """A socket's path has at most about a hundred bytes; Linux has a short one for every folder that is open."""
        path = str(self._folder / name)
        return path if len(os.fsencode(path)) < 100 else f"/proc/self/fd/{self._directory}/{name}"

    def close(self) -> None:
        """Listen no more, and wait for nobody."""
        for key, waiting in list(self._asked.items()):
            for asked in list(waiting):
                self._answered(key, asked)
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                (self._folder / self._name).unlink()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
