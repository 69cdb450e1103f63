"""The door for outsiders who accept an agreement by a one-time link: HTTP/1.1, one request for each connection.

h11 reads what they send; `sign_page` says what they see; `Links` decides. Knows no grants and no sessions. Invariants:
looking (GET, HEAD) uses nothing up; no secret, and no path, which holds one, is ever logged; a connection costs at most
one request of bounded size for a bounded time, and silence keeps nobody out; guessing answers 429.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import urllib.parse
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11
import structlog

from proxy.access.agreements import AgreementError, Agreements, Texts, plausible
from proxy.access.grants import GrantError
from proxy.access.links import LinkRefused, Links
from proxy.access.store import Emit, Store, StoreError
from proxy.clock import Clock
from proxy.config import Config, server_certificate
from proxy.server import sign_page, tls
from proxy.server.listener import bound
from proxy.session.patience import neighbourhood
from proxy.tasks import spawn
from recorder.files import RecordError

log = structlog.get_logger()

LONGEST_HEAD: Final = 16 * 1024
LONGEST_BODY: Final = 4 * 1024
SLOWEST: Final = 10.0
"""Seconds for a request, and for the answer to be taken."""
MOST: Final = 100
"""Connections at once."""
GUESSES: Final = 10
WITHIN: Final = 60.0
"""So many wrong secrets in so many seconds, and one address hears nothing else for as long."""
ADDRESSES: Final = 4096
"""Of which wrong guesses are remembered."""
PAUSE: Final = 0.25
"""Seconds without accepting when there are no descriptors."""
LINGER: Final = 1.0
"""Seconds in which what was not wanted is still read, so that the answer arrives."""

_PATH: Final = re.compile(rb"/sign/([^/?#]+)(?:\?.*)?", re.S)
_FORM: Final = b"application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and its page."""

    status: HTTPStatus
    page: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Broken(Exception):
    """A request that is not one; answered, and over."""

    def __init__(self, status: HTTPStatus, told: str) -> None:
        super().__init__(told)
        self.status = status


class Guesses:
    """Wrong secrets by address, for as long as they matter."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def too_many(self, address: str) -> bool:
        """Whether this address has guessed wrong too often of late."""
        times = self._wrong.get(neighbourhood(address))
        while times and self._clock.monotonic() - times[0] >= WITHIN:
            times.popleft()
        return times is not None and len(times) >= GUESSES

    def wrong(self, address: str) -> None:
        """One more."""
        times = self._wrong.setdefault(neighbourhood(address), deque(maxlen=GUESSES))
        times.append(self._clock.monotonic())
        self._wrong.move_to_end(neighbourhood(address))
        if len(self._wrong) > ADDRESSES:
            self._wrong.popitem(last=False)


def of(config: Config, store: Store, clock: Clock, emit: Emit) -> Pages | None:
    """The pages that `config` asks for. Raises OSError or ValueError where the certificate cannot be used."""
    if config.links is None:
        return None
    files = server_certificate(config)
    agreements = Agreements(store, clock, Texts(config.agreements), emit)

    def context() -> ssl.SSLContext | None:
        return None if files is None else tls.load(*files, alpn="http/1.1").context

    return Pages(Links(store, clock, agreements, emit), clock, context)


class Pages:
    """The listening socket and who is at it. `context`: makes one of TLS, or None for plain HTTP."""

    def __init__(
        self, links: Links, clock: Clock, context: Callable[[], ssl.SSLContext | None], *, slowest: float = SLOWEST
    ) -> None:
        self._links = links
        self._make_context = context
        self._context = context()
        self._slowest = slowest
        self._guesses = Guesses(clock)
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._open: dict[asyncio.Task[None], bool] = {}
        """Connections, the oldest first; true for those whose request has arrived."""

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        self._socket = await bound(host, port, shared=False)
        self._socket.listen(MOST)
        self._accepting = spawn(self._accept(self._socket), name="link pages")
        return int(self._socket.getsockname()[1])

    def reload(self) -> None:
        """Read the certificate again. Raises OSError, ValueError; the one before then stays."""
        self._context = self._make_context()

    def close(self) -> None:
        """Accept nobody more, and end who has not asked yet; answers are still given."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        for task in [task for task, asked in self._open.items() if not asked]:
            task.cancel()

    async def drain(self) -> None:
        """Until what was asked is answered: the state is needed for it."""
        if self._open:
            await asyncio.wait(list(self._open), timeout=self._slowest)

    # Connections

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as problem:
                log.error("accept_paused", reason=problem.strerror, seconds=PAUSE)
                await asyncio.sleep(PAUSE)
                continue
            if len(self._open) >= MOST and not self._make_room():
                sock.close()
                continue
            task = spawn(self._serve(sock, str(address[0])), name="link page")
            self._open[task] = False
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)

    def _make_room(self) -> bool:
        """The oldest that has not said what it wants goes."""
        oldest = next((task for task, asked in self._open.items() if not asked), None)
        if oldest is not None:
            self._open.pop(oldest)
            oldest.cancel()
        return oldest is not None

    async def _serve(self, sock: socket.socket, address: str) -> None:
        try:
            async with asyncio.timeout(self._slowest):
                reader, writer = await self._streams(sock)
        except (OSError, TimeoutError):  # no TLS, or none in time
            return
        try:
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
            request = None
            try:
                async with asyncio.timeout(self._slowest):
                    request, body = await _request(connection, reader, writer)
                self._has_asked()
                answer = await self._answer(request, body, address)
            except Broken as broken:
                answer = _plain(broken.status, str(broken))
            async with asyncio.timeout(self._slowest):
                await _send(connection, writer, answer, head=request is not None and request.method == b"HEAD")
                if request is None:
                    await _linger(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, EOFError):
            return
        finally:
            writer.transport.abort()

    def _has_asked(self) -> None:
        task = asyncio.current_task()
        if task in self._open:
            self._open[task] = True

    async def _streams(self, sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LONGEST_HEAD, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            sock.setblocking(False)
            if self._context is None:
                transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
            else:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, sock, ssl=self._context, ssl_shutdown_timeout=LINGER
                )
        except BaseException:
            sock.close()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    # Requests

    async def _answer(self, request: h11.Request, body: bytes, address: str) -> Answer:
        if request.method not in (b"GET", b"HEAD", b"POST"):
            allow = (("Allow", "GET, HEAD, POST"),)
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "This page can be read and its form sent, no more.", allow)
        path = _PATH.fullmatch(request.target)
        if path is None:
            return _plain(HTTPStatus.NOT_FOUND, "There is nothing here. Open the link as it was sent to you.")
        if self._guesses.too_many(address):
            later = (("Retry-After", str(round(WITHIN))),)
            told = "From your address came too many links that there are not. Try again in a minute."
            return _plain(HTTPStatus.TOO_MANY_REQUESTS, told, later)
        secret = path[1].decode("latin-1")
        try:
            if request.method == b"POST":
                return await self._sign(request, body, secret, address)
            return Answer(HTTPStatus.OK, sign_page.form(*await self._links.look(secret)))
        except LinkRefused as no:
            if no.link is None:
                self._guesses.wrong(address)
            log.info(
                "agreement_link_refused", why=no.why, link=no.link.id if no.link is not None else None, address=address
            )
            status = HTTPStatus.NOT_FOUND if no.link is None else HTTPStatus.GONE
            return Answer(status, sign_page.refused(no.why, no.link))
        except (GrantError, StoreError, RecordError) as problem:
            log.error("agreement_links_unavailable", reason=str(problem), address=address)
            told = "Nothing can be accepted at the moment. Try again later; the link stays as it is."
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, told)

    async def _sign(self, request: h11.Request, body: bytes, secret: str, address: str) -> Answer:
        link, text = await self._links.look(secret)
        kind = dict(request.headers).get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != _FORM:
            return _plain(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "What was sent is not the form of this page.")
        try:
            sent = body.decode("ascii")
            typed = urllib.parse.parse_qs(sent, keep_blank_values=True, errors="strict", max_num_fields=8)
        except ValueError:
            return _plain(HTTPStatus.BAD_REQUEST, "What was sent is not the form of this page.")
        name = typed.get("name", [""])[0]
        try:
            plausible(name)
        except AgreementError as wrong:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, sign_page.form(link, text, typed=name, wrong=str(wrong)))
        link, text, made = await self._links.accept(secret, name=name, address=address)
        log.info("agreement_link_used", link=link.id, agreement=text.name, acceptance=made.id, address=address)
        return Answer(HTTPStatus.OK, sign_page.accepted(text, made))


async def _request(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[h11.Request, bytes]:
    """One whole request. Raises Broken, OSError; EOFError where the client goes without having asked."""
    request, body = None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as problem:
            status = HTTPStatus(problem.error_status_hint)
            raise Broken(status, "What was sent is not a request that can be read here.") from None
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                writer.write(connection.send(go_on) or b"")
            connection.receive_data(await reader.read(LONGEST_HEAD))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > LONGEST_BODY:
                raise Broken(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "What was sent is longer than a name can be.")
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return request, body
        else:
            raise EOFError


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, head: bool) -> None:
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(answer.page))),
        ("Content-Security-Policy", sign_page.POLICY),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Robots-Tag", "noindex"),
        ("Connection", "close"),
        *answer.headers,
    ]
    data = connection.send(h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase)) or b""
    if not head:
        data += connection.send(h11.Data(data=answer.page)) or b""
    writer.write(data)
    await writer.drain()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What is still on its way would reset the connection before the answer is read."""
    if writer.can_write_eof():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            for _ in range(16):
                if not await reader.read(LONGEST_HEAD):
                    return


def _plain(status: HTTPStatus, told: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(status, sign_page.plain(status.phrase, told), headers)
