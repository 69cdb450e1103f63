"""A sink that speaks syslog: RFC 5424 messages over TCP (RFC 6587, octet counting) or TLS (RFC 5425).

Syslog has no answer, and what was written to a socket may die with the receiver. So each batch has a connection of its
own: we end our half and wait until the receiver, having read to the end, closes its. Invariant: `take` returns only
after that; a connection that breaks, or is kept open for too long, counts as not delivered.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from recorder.sinks.courier import NotTaken
from recorder.sinks.feed import Item

AUDIT: Final = 13
"""The facility `log audit`."""
INFORMATIONAL, WARNING = 6, 4
ENTERPRISE: Final = 32473
"""The number that RFC 5612 keeps for those who have none."""
REFUSED: Final = re.compile(rb'"verdict":"(?:deny|hold)"')
_ESCAPED: Final = re.compile(r'(["\\\]])')
_PORTABLE: Final = re.compile(r"[^!-~]")


class SyslogSink:
    """Sends to `host`:`port`. `trust` makes the TLS context each time, so that renewed files count; None: TCP."""

    def __init__(
        self,
        host: str,
        port: int,
        installation: str,
        *,
        trust: Callable[[], ssl.SSLContext] | None,
        timeout: float,
        hostname: str | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._installation = installation
        self._trust = trust
        self._timeout = timeout
        self._hostname = _PORTABLE.sub("-", hostname or socket.gethostname())[:255] or "-"

    def take(self, items: Sequence[Item]) -> None:
        """A `courier.Take`."""
        data = b"".join(self._framed(item) for item in items)
        where = f"{self._host}:{self._port}"
        try:
            with socket.create_connection((self._host, self._port), timeout=self._timeout) as plain:
                if self._trust is None:
                    plain.sendall(data)
                    plain.shutdown(socket.SHUT_WR)
                    _until_closed(plain)
                else:
                    self._take_safely(plain, data)
        except TimeoutError:
            raise NotTaken(f"{where}: no end within {self._timeout:g} s: it must close when it has read all") from None
        except (OSError, ssl.SSLError, ValueError) as problem:
            why = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
            raise NotTaken(f"{where}: {why}") from None

    def _take_safely(self, plain: socket.socket, data: bytes) -> None:
        assert self._trust is not None  # noqa: S101
        with self._trust().wrap_socket(plain, server_hostname=self._host) as safe:
            safe.sendall(data)
            try:
                rest = safe.unwrap()  # our close_notify, and the receiver's
            except ssl.SSLError as problem:
                # Some close without it. They have read all the same: who has not, resets.
                if isinstance(problem, ssl.SSLEOFError) or problem.reason in _ENDED:
                    return
                raise
            with contextlib.suppress(OSError):
                rest.shutdown(socket.SHUT_RDWR)
            rest.close()

    def _framed(self, item: Item) -> bytes:
        message = self.message(item)
        return b"%d %b" % (len(message), message)

    def message(self, item: Item) -> bytes:
        """One RFC 5424 message. Its text is the record's line, byte for byte."""
        refused = item.event == "statement" and REFUSED.search(item.line) is not None
        priority = AUDIT * 8 + (WARNING if refused else INFORMATIONAL)
        facts = {
            "id": item.id,
            "installation": self._installation,
            "recording": item.recording,
            "seq": str(item.seq),
        }
        data = " ".join(f'{key}="{_ESCAPED.sub(_BACKSLASH, value)}"' for key, value in facts.items())
        name = _PORTABLE.sub("-", item.event)[:32] or "-"
        head = f"<{priority}>1 {item.at} {self._hostname} daypass - {name} [daypass@{ENTERPRISE} {data}] "
        return head.encode() + item.line

    def close(self) -> None:
        """Nothing is kept open."""


def _until_closed(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


_ENDED: Final = frozenset({"UNEXPECTED_EOF_WHILE_READING"})
_BACKSLASH: Final = r"\\\1"
