"""proxy/server/tls_transport.py between real sockets, with Python's own ssl as the other side.

Here on asyncio's own loop; every test with TLS in tests/live has it on uvloop.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.server import tls
from proxy.server.tls_transport import TlsTransport
from tests.live.certificate import write_certificate

BIG = bytes(range(256)) * 40_000


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return write_certificate(tmp_path)


class Inner(asyncio.Protocol):
    """What daypass's channel is to it."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.data = bytearray()
        self.more = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.more.set()
        if self.echo:
            self.transport.write(data)

    async def got(self, count: int) -> bytes:
        """All of it, once there are this many bytes."""
        async with asyncio.timeout(20):
            while len(self.data) < count:
                self.more.clear()
                await self.more.wait()
        return bytes(self.data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@asynccontextmanager
async def served(certificate: tuple[Path, Path], inner: Inner) -> AsyncIterator[tuple[int, Callable[[], Any]]]:
    """A door for one connection: its port, and how to wait for the handshake."""
    context = tls.load(*certificate).context
    made: asyncio.Future[TlsTransport] = asyncio.get_running_loop().create_future()

    def factory() -> asyncio.Protocol:
        transport = TlsTransport(context, inner, server_side=True)
        made.set_result(transport)
        return transport.protocol

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)

    async def opened() -> TlsTransport:
        transport = await made
        await transport.opened()
        return transport

    async with server:
        yield server.sockets[0].getsockname()[1], opened


def client_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


async def test_what_is_sent_arrives_in_both_directions(certificate: tuple[Path, Path]) -> None:
    inner = Inner(echo=True)
    async with served(certificate, inner) as (port, opened):
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context(certificate))
        await opened()
        for piece in (b"a", b"bc" * 3000, BIG):
            writer.write(piece)
            assert await asyncio.wait_for(reader.readexactly(len(piece)), 20) == piece
        assert inner.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert inner.transport.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
        assert await asyncio.wait_for(inner.lost, 5) is None
    assert hashlib.sha256(inner.data).digest() == hashlib.sha256(b"a" + b"bc" * 3000 + BIG).digest()


async def test_as_a_client_it_checks_the_certificate_and_the_name(certificate: tuple[Path, Path]) -> None:
    inner = Inner(echo=True)

    async def connect(host: str, context: ssl.SSLContext, port: int) -> Inner:
        mine = Inner()
        transport = TlsTransport(context, mine, server_side=False, server_hostname=host)
        await asyncio.get_running_loop().create_connection(lambda: transport.protocol, "127.0.0.1", port)
        await transport.opened()
        return mine

    async with served(certificate, inner) as (port, _):
        mine = await connect("localhost", client_context(certificate), port)
        mine.transport.write(BIG)
        assert await mine.got(len(BIG)) == BIG
        mine.transport.close()
        await asyncio.wait_for(inner.lost, 5)
    for host, context in (("other.example", client_context(certificate)), ("localhost", ssl.create_default_context())):
        async with served(certificate, Inner()) as (port, _):
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(host, context, port)


@pytest.mark.parametrize("noise", [b"SELECT 1;\r\n", b"\x16\x03\x01\x00\x05hello", bytes(300)])
async def test_noise_in_the_handshake_is_an_error(certificate: tuple[Path, Path], noise: bytes) -> None:
    async with served(certificate, Inner()) as (port, opened):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(noise)
        with pytest.raises(ssl.SSLError):
            await asyncio.wait_for(opened(), 5)
        await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_peer_that_leaves_in_the_handshake_is_an_error(certificate: tuple[Path, Path]) -> None:
    async with served(certificate, Inner()) as (port, opened):
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(opened(), 5)


async def test_a_wait_that_is_given_up_closes_the_connection(certificate: tuple[Path, Path]) -> None:
    async with served(certificate, Inner()) as (port, opened):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opened(), 0.05)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_changed_record_ends_the_connection_and_is_never_handed_on(certificate: tuple[Path, Path]) -> None:
    inner = Inner()
    async with served(certificate, inner) as (port, opened):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = client_context(certificate).wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                peer.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        writer.write(outgoing.read())
        await opened()
        peer.write(b"good")
        writer.write(outgoing.read())
        assert await inner.got(4) == b"good"
        peer.write(b"evil")
        record = bytearray(outgoing.read())
        record[-1] ^= 1
        writer.write(bytes(record))
        await asyncio.wait_for(inner.lost, 5)
        writer.close()
    assert inner.data == b"good"


async def test_reading_can_stop_and_go_on(certificate: tuple[Path, Path]) -> None:
    inner = Inner()
    async with served(certificate, inner) as (port, opened):
        _, writer = await asyncio.open_connection("localhost", port, ssl=client_context(certificate))
        transport = cast(TlsTransport, await opened())
        transport.pause_reading()
        writer.write(BIG)
        await asyncio.sleep(0.05)
        # What had been read below when it stopped, at most.
        assert len(inner.data) < len(BIG) // 2
        transport.resume_reading()
        assert await inner.got(len(BIG)) == BIG
        transport.close()
        transport.write(b"nothing more")
        assert transport.is_closing()
        await asyncio.wait_for(inner.lost, 5)
        writer.close()
