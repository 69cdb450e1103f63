"""A connection as a session sees it: first a sequence of messages, then a stream of bytes.

Openings are sequences, so they are coroutines and read message by message; carrying is callbacks. `carry` turns one
into the other. `proxy.server` implements this on sockets, tests on lists. Every read takes its limit as an argument:
what a peer claims about the length of a message is compared with it before anything is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class ChannelClosed(ConnectionError):
    """The peer closed or broke the connection."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What is known of a connection's TLS. `binding` is the tls-server-end-point data of the server's certificate,
    `subject` the verified subject of the client's, where one was asked for."""

    version: str
    cipher: str
    binding: bytes
    subject: str | None = None


class Pipe(Protocol):
    """The half of a connection that carrying needs."""

    def write(self, data: bytes) -> None:
        """Queue bytes; never blocks, never raises, does nothing once closed."""

    def close(self) -> None:
        """Send what is queued for a short while, then close."""

    def hold(self, held: bool) -> None:
        """Stop or resume reading from this peer, on top of flow control."""


class Channel(Pipe, Protocol):
    """See the module's text. Reads raise ChannelClosed, and ProtocolViolation when a limit is exceeded."""

    @property
    def tls(self) -> Tls | None:
        """None on a plain connection."""

    @property
    def address(self) -> str:
        """The peer's IP address, without a port."""

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""

    async def message(self, limit: int) -> tuple[int, bytes]:
        """The next message: its type byte and its body of at most `limit` bytes."""

    def carry(self, data: Callable[[bytes], None], lost: Callable[[], None], blocked: Callable[[bool], None]) -> None:
        """From now on call `data` with what arrives (first with what has arrived already), and `lost` at the end.

        `blocked` is called when the peer takes no more bytes for now, and when it does again.
        """
