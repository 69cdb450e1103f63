"""The way to the databases: connect, and secure the connection as its entry in config.yaml says.

After the server's `S` exactly one byte has been read and the socket itself goes to TLS, so that nothing injected
before the handshake is ever read (the class of CVE-2021-23222); there is no falling back to plain text.
Knows sockets and certificates, not credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog

from proxy.catalog import tls_context
from proxy.config import Database
from proxy.scram import tls_server_end_point
from proxy.server.channel import SocketChannel, close_gently
from proxy.server.tls_transport import TlsTransport
from proxy.session.upstream import UpstreamRefused
from proxy.tasks import spawn
from proxy.wire import build

log = structlog.get_logger()

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for one address to answer, its TLS handshake included."""
CANCEL_TIMEOUT: Final = 5.0


class Dialler:
    """`session.opening.Upstreams` on real sockets."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, str, int], ssl.SSLContext] = {}

    async def dial(self, database: Database) -> SocketChannel:
        """A connection to the database. Raises UpstreamRefused with a text that names no address."""
        problem = "no address"
        try:
            for family, address in await _addresses(database):
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        return await _connect(database, family, address, self._context(database))
                except TimeoutError:
                    problem = "no answer"
                except ssl.SSLError as error:
                    raise UpstreamRefused("its TLS certificate or protocol was not accepted", str(error)) from None
                except OSError as error:
                    problem = error.strerror or str(error)
        except socket.gaierror as error:
            problem = f"its name cannot be looked up ({error.strerror})"
        where = f"{database.host}:{database.port}"
        raise UpstreamRefused("it does not answer", f"{where}: {problem}")

    def _context(self, database: Database) -> ssl.SSLContext | None:
        """The TLS context of a database; reading the trusted certificates costs milliseconds, so it is kept."""
        if database.tls == "disable" or database.host.startswith("/"):
            return None
        changed = database.ca.stat().st_mtime_ns if database.ca else 0
        key = (database.tls, str(database.ca or ""), changed)
        context = self._contexts.get(key)
        if context is None:
            made = tls_context(database.tls, database.ca)
            if not isinstance(made, ssl.SSLContext):
                return None
            context = self._contexts[key] = made
        return context

    def cancel(self, database: Database, pid: int, secret: bytes, done: Callable[[], object] = lambda: None) -> None:
        """Send a CancelRequest in the background; only the log tells what became of it. `done` is called at the end."""
        spawn(self._cancel(database, pid, secret, done), name=f"cancel {pid}")

    async def _cancel(self, database: Database, pid: int, secret: bytes, done: Callable[[], object]) -> None:
        try:
            if secret:
                channel = await self.dial(database)
                channel.write(build.cancel(pid, secret))
                # The server closes when it has done it; closing first could overtake the request.
                await close_gently(channel, CANCEL_TIMEOUT)
        except UpstreamRefused as refused:
            log.warning("cancel_failed", pid=pid, reason=refused.truth)
        finally:
            done()


async def _addresses(database: Database) -> list[tuple[int, tuple[str, int] | str]]:
    if database.host.startswith("/"):
        return [(socket.AF_UNIX, f"{database.host}/.s.PGSQL.{database.port}")]
    found = await asyncio.get_running_loop().getaddrinfo(database.host, database.port, type=socket.SOCK_STREAM)
    return [(family, (str(address[0]), int(address[1]))) for family, _, _, _, address in found]


async def _connect(
    database: Database, family: int, address: tuple[str, int] | str, context: ssl.SSLContext | None
) -> SocketChannel:
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await loop.sock_connect(sock, address)
        if context is None:
            channel = SocketChannel(database.host)
            await loop.create_connection(lambda: channel.protocol, sock=sock)
            return channel
        await loop.sock_sendall(sock, build.SSL_REQUEST_PACKET)
        answer = await loop.sock_recv(sock, 1)
        if answer != b"S":
            raise UpstreamRefused("it does not speak TLS, and the configuration asks for it")
        channel = SocketChannel(database.host, binding=_binding)
        inside = TlsTransport(context, channel.protocol, server_side=False, server_hostname=database.host)
        await loop.create_connection(lambda: inside.protocol, sock=sock)
        await inside.opened()
    except BaseException:
        sock.close()
        raise
    return channel


def _binding(transport: asyncio.Transport) -> bytes:
    certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return tls_server_end_point(certificate)
