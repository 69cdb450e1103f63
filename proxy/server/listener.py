"""The front door: accept, find out what kind of connection it is, secure it, hand it on.

One byte is peeked at: 0x16 is a TLS handshake (direct TLS). Otherwise exactly eight bytes are consumed, which tells
an encryption request from a start-up packet, and after an SSLRequest the socket itself goes to TLS. So nothing that
was sent ahead of the handshake can ever be read as plaintext: it is read by TLS, which refuses it (the class of
CVE-2021-23214). Invariant: a connection that has proven nothing costs one task and one socket, for at most the
login timeout, and there are never more of them than the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from proxy.config import Config
from proxy.server import tls
from proxy.server.channel import SocketChannel
from proxy.server.tls_transport import TlsTransport
from proxy.session.channel import ChannelClosed
from proxy.tasks import spawn
from proxy.wire import startup
from proxy.wire.framing import ProtocolViolation

log = structlog.get_logger()

TLS_HANDSHAKE: Final = 0x16
BACKLOG: Final = 1024
ACCEPTS_PER_TURN: Final = 64
OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
PAUSE: Final = 0.25
"""Seconds without accepting when there are no descriptors: the backlog waits, the loop does not spin."""

Handler = Callable[[SocketChannel, float], Coroutine[Any, Any, None]]


class Listener:
    """The listening socket and the connections that have not begun their login yet."""

    def __init__(
        self, config: Config, certificate: tls.Certificate | None, handle: Handler, *, port: int | None = None
    ) -> None:
        """`port`: one that other processes listen on as well, in place of `listen.port`."""
        self._config = config
        self._port = port
        # The limit is the whole server's.
        self._room = max(1, config.limits.connections // config.workers)
        self.certificate = certificate
        self._handle = handle
        self._socket: socket.socket | None = None
        self._waiting: dict[asyncio.Task[None], bool] = {}
        """Connections before their first ReadyForQuery, oldest first; true for those that have said anything."""
        self.refused = 0
        self.accepted = 0

    @property
    def port(self) -> int | None:
        """Where it listens, while it does."""
        return None if self._socket is None else int(self._socket.getsockname()[1])

    @property
    def pending(self) -> int:
        """Connections that are not sessions yet."""
        return len(self._waiting)

    async def start(self) -> int:
        """Bind and listen; returns the port. Raises OSError."""
        listen = self._config.listen
        shared = self._port is not None
        sock = await bound(listen.host, self._port or listen.port, shared=shared)
        self._socket = sock
        sock.listen(BACKLOG)
        self._watch()
        return int(sock.getsockname()[1])

    def close(self) -> None:
        """Accept nothing more; connections in their login go on."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def drop_pending(self) -> None:
        """End every connection that is not a session yet."""
        tasks = list(self._waiting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Accepting

    def _watch(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._socket is None:
                return
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as problem:
                if problem.errno in OUT_OF_DESCRIPTORS:
                    log.error("accept_paused", reason=problem.strerror, seconds=PAUSE)
                    loop = asyncio.get_running_loop()
                    loop.remove_reader(self._socket)
                    loop.call_later(PAUSE, self._watch)
                    return
                # The client was gone before it was accepted.
                continue
            self.accepted += 1
            if len(self._waiting) >= self._room:
                self._make_room()
            sock.setblocking(False)
            who = str(address[0]) if isinstance(address, tuple) else "local"
            task = spawn(self._serve(sock, who), name=f"login from {who}")
            self._waiting[task] = False
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._waiting.pop(task, None)

    def _make_room(self) -> None:
        """The oldest connection that has said nothing goes, else the oldest: silence keeps nobody out."""
        oldest = next((task for task, spoke in self._waiting.items() if not spoke), next(iter(self._waiting)))
        self._waiting.pop(oldest)
        oldest.cancel()
        self.refused += 1

    # One connection

    async def _serve(self, sock: socket.socket, who: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.login_timeout
        channel: SocketChannel | None = None
        try:
            async with asyncio.timeout_at(deadline):
                channel = await self._secure(sock, who)
        except TimeoutError:
            log.warning("login_timeout", address=who, seconds=self._config.login_timeout)
        except ProtocolViolation as broken:
            log.warning("not_a_client", address=who, reason=broken.text)
        except ssl.SSLCertVerificationError as problem:
            log.warning("client_certificate_refused", address=who, reason=problem.verify_message)
        except (OSError, ssl.SSLError) as problem:
            log.info("connection_lost", address=who, reason=str(problem) or type(problem).__name__)
        except asyncio.CancelledError:
            log.warning("login_dropped", address=who, reason="too many connections before login, or shutting down")
            sock.close()
            raise
        if channel is None:
            sock.close()
            return
        await self._handle(channel, deadline)

    async def _secure(self, sock: socket.socket, who: str) -> SocketChannel:
        """Answer encryption requests until TLS stands or a plain start-up packet begins."""
        with contextlib.suppress(OSError):  # a Unix socket has neither
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        asked: set[int] = set()
        while True:
            first = await _receive(sock, 1, socket.MSG_PEEK)
            task = asyncio.current_task()
            if task in self._waiting:
                self._waiting[task] = True
            if first[0] == TLS_HANDSHAKE:
                if startup.SSL_REQUEST in asked:
                    raise ProtocolViolation("a TLS handshake after it was refused")
                return await self._handshake(sock, who, direct=True)
            eight = await _exactly(sock, 8)
            _, code = startup.head(eight)
            if code not in (startup.SSL_REQUEST, startup.GSSENC_REQUEST):
                return await _plain(sock, who, eight)
            if code in asked:
                raise ProtocolViolation("the same encryption request twice")
            asked.add(code)
            if code == startup.SSL_REQUEST and self.certificate is not None:
                await asyncio.get_running_loop().sock_sendall(sock, b"S")
                return await self._handshake(sock, who, direct=False)
            await asyncio.get_running_loop().sock_sendall(sock, b"N")

    async def _handshake(self, sock: socket.socket, who: str, *, direct: bool) -> SocketChannel:
        certificate = self.certificate
        if certificate is None:
            raise ProtocolViolation("a TLS handshake, and listen.tls.mode is disable")
        channel = SocketChannel(who, binding=lambda _: certificate.binding, subject=tls.subject)
        inside = TlsTransport(certificate.context, channel.protocol, server_side=True)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: inside.protocol, sock)
        await inside.opened()
        if direct and channel.alpn != tls.ALPN:
            channel.close()
            raise ProtocolViolation("direct TLS without ALPN postgresql")
        return channel


async def bound(host: str, port: int, *, shared: bool) -> socket.socket:
    """A socket with this address, not listening yet; `shared` with others of this user. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


async def _plain(sock: socket.socket, who: str, eight: bytes) -> SocketChannel:
    channel = SocketChannel(who, prefix=eight)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: channel.protocol, sock)
    return channel


async def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await _receive(sock, count - len(data), 0)
    return data


async def _receive(sock: socket.socket, count: int, flags: int) -> bytes:
    """Up to `count` bytes, at least one. Raises ChannelClosed."""
    while True:
        try:
            data = sock.recv(count, flags)
        except (BlockingIOError, InterruptedError):
            await _readable(sock)
            continue
        if not data:
            raise ChannelClosed("closed before it said what it is")
        return data


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
