"""A connection on a real socket: `session.channel.Channel` as an asyncio protocol.

While a session is opened it collects bytes for the coroutine that reads them, and stops reading when enough wait.
Once carrying, the transport calls the session directly; only flow control and the end still pass through here.
Invariant: neither direction ever keeps more than its high-water mark plus one chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, cast

from proxy.session.channel import ChannelClosed, Tls
from proxy.wire import framing
from proxy.wire.framing import HEADER, ProtocolViolation

OPENING_HIGH: Final = 64 * 1024
WRITE_HIGH: Final = 256 * 1024
WRITE_LOW: Final = 64 * 1024
LINGER: Final = 1.0
"""Seconds that a closed connection has to take what was still to be sent."""


class SocketChannel:
    """One TCP, Unix or TLS connection. `binding` gives the channel binding data once the handshake is done, `subject`
    whom the client's certificate names.

    An asyncio.Protocol in all but its base class, which would keep it from being compiled: `protocol` says so to loops.
    """

    def __init__(
        self,
        address: str,
        *,
        prefix: bytes = b"",
        binding: Callable[[asyncio.Transport], bytes] | None = None,
        subject: Callable[[asyncio.Transport], str | None] | None = None,
    ) -> None:
        self._address = address
        self._buffer = bytearray(prefix)
        self._binding = binding
        self._subject = subject
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._closed = False
        self._reading = True
        self._tls: Tls | None = None
        self._on_lost: Callable[[], None] | None = None
        self._blocked: Callable[[bool], None] | None = None
        self._write_blocked = False
        self.alpn: str | None = None

    @property
    def protocol(self) -> asyncio.Protocol:
        """Itself, as an event loop takes it."""
        return cast(asyncio.Protocol, self)

    # What the session uses

    @property
    def tls(self) -> Tls | None:
        return self._tls

    @property
    def address(self) -> str:
        return self._address

    async def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._pace()
        return data

    async def message(self, limit: int) -> tuple[int, bytes]:
        kind, length = framing.TYPE_AND_LENGTH(await self.exactly(HEADER), 0)
        if not 4 <= length <= limit + 4:
            raise ProtocolViolation(f"invalid message length {length}")
        return kind, await self.exactly(length - 4)

    def write(self, data: bytes) -> None:
        if not self._closed and self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._closed or self._transport is None:
            return
        self._closed = True
        # Otherwise a peer that does not read would keep us, and one that goes on sending would be read.
        self._transport.close()
        asyncio.get_running_loop().call_later(LINGER, self._transport.abort)

    def hold(self, held: bool) -> None:
        if self._transport is None or self._closed or held is not self._reading:
            return
        self._reading = not held
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def carry(self, data: Callable[[bytes], None], lost: Callable[[], None], blocked: Callable[[bool], None]) -> None:
        self._blocked = blocked
        self._on_lost = lost
        waiting = bytes(self._buffer)
        self._buffer.clear()
        if self._lost or self._transport is None:
            lost()
            return
        self._transport.set_protocol(cast(asyncio.Protocol, _Carrying(self, data)))
        self.hold(False)  # before the session hears of anything: it may want to be held
        if waiting:
            data(waiting)
        if self._write_blocked:
            blocked(True)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and self._binding is not None:
            cipher = tls.cipher()
            self._tls = Tls(
                tls.version() or "",
                cipher[0] if cipher else "",
                self._binding(self._transport),
                self._subject(self._transport) if self._subject is not None else None,
            )
            self.alpn = tls.selected_alpn_protocol()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > OPENING_HIGH:
            self.hold(True)
        self._wake()

    def eof_received(self) -> None:
        """The peer will say no more: asyncio closes the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._closed = True
        self._wake()

    def pause_writing(self) -> None:
        self._write_blocked = True
        if self._blocked is not None:
            self._blocked(True)

    def resume_writing(self) -> None:
        self._write_blocked = False
        if self._blocked is not None:
            self._blocked(False)

    def lost(self) -> None:
        """The connection went away while it was carrying."""
        self._lost = self._closed = True
        if self._on_lost is not None:
            self._on_lost()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _more(self) -> None:
        if self._lost:
            raise ChannelClosed("the peer closed the connection")
        self.hold(False)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _pace(self) -> None:
        if len(self._buffer) < OPENING_HIGH:
            self.hold(False)


class _Carrying:
    """What the transport sees of a channel that carries: `data_received` is the session's own method."""

    def __init__(self, channel: SocketChannel, data: Callable[[bytes], None]) -> None:
        self._channel = channel
        self.data_received = data

    def pause_writing(self) -> None:
        self._channel.pause_writing()

    def resume_writing(self) -> None:
        self._channel.resume_writing()

    def eof_received(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.lost()


async def close_gently(channel: SocketChannel, seconds: float) -> None:
    """Wait until the peer has closed, `seconds` at most, then close."""
    with contextlib.suppress(TimeoutError, ChannelClosed):
        async with asyncio.timeout(seconds):
            while True:
                await channel.exactly(1)
    channel.close()
