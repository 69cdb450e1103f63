"""TLS between a plain transport and a channel: OpenSSL through memory BIOs, and nothing else.

asyncio's and uvloop's own TLS costs a session's hot path more than the cryptography does; this is the part of it that
daypass needs. It looks like a transport to the channel and like a protocol to the plain transport below. Knows nothing
of Postgres. Invariant: every byte from the peer goes through OpenSSL, from the first on; what was decrypted is handed
on at once, so that stopping to read below is all the flow control there is; a broken handshake or record ends the
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, Final, cast

RECORD: Final = 1 << 16
"""Bytes asked of OpenSSL at once; a record holds at most 16 KiB."""


class TlsTransport:
    """One connection's TLS. Await `opened` before anything else.

    `inner` is the protocol that gets the decrypted bytes; its connection_made is called when the handshake is done.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        inner: asyncio.Protocol,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._inner = inner
        self._raw: asyncio.Transport | None = None
        self._up = False
        self._closing = False
        self._established: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def opened(self) -> None:
        """Wait for the handshake. Raises ssl.SSLError or ConnectionError; cancelled, it closes at once."""
        try:
            await self._established
        except asyncio.CancelledError:
            self.abort()
            raise

    @property
    def protocol(self) -> asyncio.Protocol:
        """Itself, as an event loop takes it."""
        return cast(asyncio.Protocol, self)

    # What the channel uses

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        raw = self._raw
        if raw is None or self._closing or not data:
            return
        try:
            sent = self._tls.write(data)
            while sent < len(data):
                sent += self._tls.write(memoryview(data)[sent:])
        except ssl.SSLError:
            self.abort()  # connection_lost follows
            return
        raw.write(self._outgoing.read())

    def close(self) -> None:
        """Send what is queued and close_notify, then close."""
        if self._closing or self._raw is None:
            return
        self._closing = True
        if self._up:
            # It wants the peer's close_notify, which nobody waits for.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self._flush()
        self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called."""
        return self._closing

    def pause_reading(self) -> None:
        """Read nothing more from the peer."""
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._raw is not None:
            self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As asyncio's transports."""
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who gets the decrypted bytes from now on."""
        self._inner = cast(asyncio.Protocol, protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's transports; `ssl_object` is the SSLObject."""
        if name == "ssl_object":
            return self._tls
        return self._raw.get_extra_info(name, default) if self._raw is not None else default

    # What the plain transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._incoming.write(data)
        if not self._up:
            self._handshake()
            if not self._incoming.pending or self._closing:
                return
        try:
            found: bytes | None = self._tls.read(RECORD)
            if found and (self._incoming.pending or self._tls.pending()):
                found = self._more(found)
        except ssl.SSLWantReadError:
            found = None
        except ssl.SSLError:
            # close_notify, or a record that does not decrypt: nothing after it can be trusted.
            self.close()
            return
        if self._outgoing.pending:
            self._flush()
        if found is None:
            return
        if found:
            self._inner.data_received(found)
        else:
            self.close()

    def _more(self, found: bytes) -> bytes:
        """All that can be decrypted now, behind `found`."""
        parts = [found]
        with contextlib.suppress(ssl.SSLWantReadError):
            while self._incoming.pending or self._tls.pending():
                part = self._tls.read(RECORD)
                if not part:
                    break
                parts.append(part)
        return b"".join(parts)

    def eof_received(self) -> None:
        """The peer is gone without close_notify: the plain transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._up:
            self._inner.connection_lost(exc)
        elif not self._established.done():
            self._established.set_exception(exc or ConnectionResetError("closed in the TLS handshake"))

    def pause_writing(self) -> None:
        if self._up:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._up:
            self._inner.resume_writing()

    # The handshake

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as problem:
            self._flush()  # the alert
            self._closing = True
            if not self._established.done():
                self._established.set_exception(problem)
            if self._raw is not None:
                self._raw.close()  # and not abort: the alert is still to go
            return
        self._flush()
        self._up = True
        self._inner.connection_made(cast(asyncio.Transport, self))
        if not self._established.done():
            self._established.set_result(None)

    def _flush(self) -> None:
        if self._raw is not None and self._outgoing.pending:
            self._raw.write(self._outgoing.read())
