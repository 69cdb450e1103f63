"""The page of one-time links, by real sockets: what outsiders can do, and what they cannot.

Covers proxy/server/pages.py and proxy/server/sign_page.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import re
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
import structlog

from proxy.access.agreements import Agreements, Texts
from proxy.access.links import Links
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.server import pages, tls
from proxy.server.pages import GUESSES, MOST, Guesses, Pages
from recorder.files import RecordError
from tests.live.certificate import write_certificate

NDA = "---\nversion: 3\n---\n# <b>Confidentiality</b>\n\nYou & I tell   nobody.\n"
JO = "jo@vendor.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Place:
    """Pages that listen, and the state behind them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.told: list[tuple[str, dict[str, object]]] = []
        self.full = False
        self.agreements = Agreements(store, self.clock, Texts(folder), self._emit)
        self.links = Links(store, self.clock, self.agreements, self._emit)
        self.pages = self.made()
        self.port = 0
        self.scheme = "http"

    def made(self, *, slowest: float = 10, context: Callable[[], ssl.SSLContext | None] = lambda: None) -> Pages:
        return Pages(self.links, self.clock, context, slowest=slowest)

    def _emit(self, action: str, detail: dict[str, object]) -> None:
        if self.full:
            raise RecordError("no space left")
        self.told.append((action, detail))

    async def start(self, **more: float) -> None:
        self.pages.close()
        self.pages = self.made(**more)  # type: ignore[arg-type]
        self.port = await self.pages.start("127.0.0.1", 0)

    async def link(self, name: str = "nda", person: str = JO) -> str:
        """The path of a new link."""
        _, secret = await self.links.make(self.agreements.texts.read(name), person=person, by="olga")
        return f"/sign/{secret}"

    async def ask(self, method: str, path: str, **more: object) -> httpx.Response:
        async with httpx.AsyncClient(verify=False) as client:
            return await client.request(method, f"{self.scheme}://127.0.0.1:{self.port}{path}", **more)  # type: ignore[arg-type]

    async def sign(self, path: str, name: str = "Jo Doe") -> httpx.Response:
        return await self.ask("POST", path, data={"name": name})

    async def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """What comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        if end:
            writer.write_eof()
        async with asyncio.timeout(8):
            answer = await reader.read()
        writer.close()
        return answer


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    folder = tmp_path / "agreements"
    folder.mkdir()
    (folder / "nda.md").write_text(NDA)
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    found = Place(folder, store)
    await found.start()
    yield found
    found.pages.close()
    await found.pages.drain()
    await store.close()


async def accepted(place: Place) -> list[str]:
    return [one.signed_as for one in await place.agreements.all()]


async def test_read_and_accept(place: Place) -> None:
    path = await place.link()
    with structlog.testing.capture_logs() as logs:
        page = await place.ask("GET", path)
        assert page.status_code == 200
        assert "# &lt;b&gt;Confidentiality&lt;/b&gt;\n\nYou &amp; I tell   nobody." in page.text
        for shown in ("nda (version 3)", JO, hashlib.sha256(NDA.encode()).hexdigest(), "7 January 2026, 09:00 UTC"):
            assert shown in page.text
        assert '<form method="post"' in page.text
        done = await place.sign(path, " Jo  <i>Doe</i> ")
        assert done.status_code == 200
        assert "You have accepted nda (version 3)" in done.text
        assert "Jo &lt;i&gt;Doe&lt;/i&gt;" in done.text
        (made,) = await place.agreements.all()
        assert (made.signed_as, made.address, made.how) == ("Jo <i>Doe</i>", "127.0.0.1", "link")
        for again in (await place.ask("GET", path), await place.sign(path, "Another Name")):
            assert again.status_code == 410
            assert "This link has been used" in again.text
    assert await accepted(place) == ["Jo <i>Doe</i>"]
    assert [line["event"] for line in logs] == ["agreement_link_used", *["agreement_link_refused"] * 2]
    assert path[6:] not in str(logs) + str(place.told)


async def test_every_answer_forbids_what_a_page_could_do(place: Place) -> None:
    path = await place.link()
    for page in (await place.ask("GET", path), await place.ask("GET", "/"), await place.ask("PUT", path)):
        style = re.search("<style>(.*?)</style>", page.text, re.DOTALL)
        assert style is not None
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert policy.endswith("; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
        assert "script" not in page.text.lower()
        names = ("Cache-Control", "Referrer-Policy", "X-Content-Type-Options", "Connection")
        assert [page.headers[name] for name in names] == ["no-store", "no-referrer", "nosniff", "close"]


async def test_whoever_only_looks_uses_nothing_up(place: Place) -> None:
    """A mail scanner opens every link in a mail."""
    path = await place.link()
    for method in ("GET", "HEAD", "GET"):
        page = await place.ask(method, f"{path}?utm_source=mail")
        assert page.status_code == 200
        assert bool(page.text) == (method == "GET")
        assert int(page.headers["Content-Length"]) > 1000
    assert await accepted(place) == []
    assert (await place.sign(path)).status_code == 200


async def test_two_at_once_accept_once(place: Place) -> None:
    path = await place.link()
    pages = await asyncio.gather(*(place.sign(path, f"Jo Doe {n}") for n in "abcd"))
    assert sorted(page.status_code for page in pages) == [200, 410, 410, 410]
    assert len(await accepted(place)) == 1


async def test_links_that_are_over(place: Place) -> None:
    path = await place.link()
    (place.folder / "nda.md").write_text(NDA + "And pay.\n")
    for page in (await place.ask("GET", path), await place.sign(path)):
        assert page.status_code == 410
        assert "The agreement has changed" in page.text
    path = await place.link()
    place.clock.advance(48 * 3600)
    for page in (await place.ask("GET", path), await place.sign(path)):
        assert page.status_code == 410
        assert "This link is over" in page.text
        assert JO not in page.text
    assert await accepted(place) == []


@pytest.mark.parametrize("name", ["", "yes", "Jo", "1 2", "Jo \x07Doe", "Jo \u202eDoe", "a " * 101, "<script>"])
async def test_what_is_no_name_is_asked_again(place: Place, name: str) -> None:
    path = await place.link()
    page = await place.sign(path, name)
    assert page.status_code == 422
    assert "full name" in page.text
    assert "You &amp; I tell" in page.text
    assert f'value="{html.escape(name)}"' in page.text
    assert "<script>" not in page.text
    assert await accepted(place) == []
    assert (await place.sign(path)).status_code == 200


async def test_markup_in_what_an_operator_wrote_is_text(place: Place) -> None:
    evil = "\"><img src=x onerror=alert(1)> & '"
    (place.folder / "evil.md").write_text(f"---\nversion: {evil}\n---\n</div>{evil}\n")
    path = await place.link("evil", f"Jo {evil}")
    first, done = await place.ask("GET", path), await place.sign(path, f"Jo Doe {evil}")
    assert (first.status_code, done.status_code) == (200, 200)
    for page in (first, done):
        assert "<img" not in page.text
        assert page.text.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"content": b"{}", "headers": {"Content-Type": "application/json"}}, 415),
        ({"content": b"name=Jo+Doe"}, 415),
        ({"files": {"name": b"Jo Doe"}}, 415),
        ({"content": b"name=%ff%fe+Doe", "headers": FORM}, 400),
        ({"content": b"name=\xff Doe", "headers": FORM}, 400),
        ({"content": b"a=1&" * 500, "headers": FORM}, 400),
        ({"content": b"other=Jo+Doe", "headers": FORM}, 422),
        ({"content": b"name=" + b"a" * 4092, "headers": FORM}, 413),
        ({"content": b"name=" + b"a" * 400_000, "headers": FORM}, 413),
    ],
)
async def test_what_is_no_form(place: Place, more: dict[str, object], status: int) -> None:
    path = await place.link()
    page = await place.ask("POST", path, **more)
    assert page.status_code == status
    assert await accepted(place) == []


@pytest.mark.parametrize(
    "path",
    ["/", "/sign", "/sign/", "/metrics", "/sign/../state.db", "/sign/%2e%2e/x", "/sign/x/y", "//sign/x", "/sign/a/"],
)
async def test_there_is_nothing_else(place: Place, path: str) -> None:
    await place.link()
    for method in (b"GET", b"POST"):
        answer = await place.raw(b"%s %s HTTP/1.1\r\nHost: x\r\n\r\n" % (method, path.encode()))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert JO.encode() not in answer


async def test_other_methods(place: Place) -> None:
    path = await place.link()
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        page = await place.ask(method, path)
        assert (page.status_code, page.headers["Allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (bytes(range(256)) * 4, 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000, 431),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"a" * 5000, 413),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
    ],
)
async def test_garbage(place: Place, data: bytes, status: int) -> None:
    answer = await place.raw(data, end=True)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert (await place.ask("GET", await place.link())).status_code == 200


async def test_expect_continue(place: Place) -> None:
    path, body = await place.link(), urlencode({"name": "Jo Doe"}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"
    writer.write(f"{head}Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"])
async def test_who_is_slow_is_dropped(place: Place, said: bytes) -> None:
    await place.start(slowest=0.2)
    assert await place.raw(said) == b""


async def test_silence_keeps_nobody_out(place: Place) -> None:
    path = await place.link()
    silent = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(MOST + 20)]
    for _ in range(5):
        assert (await place.ask("GET", path)).status_code == 200
    assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
    assert len(place.pages._open) <= MOST
    for _, writer in silent:
        writer.close()


async def test_guessing_is_over_soon(place: Place) -> None:
    path = await place.link()
    for n in range(GUESSES):
        page = await (place.ask("GET", f"/sign/{n:043}") if n % 2 else place.sign(f"/sign/{n}"))
        assert page.status_code == 404
        assert "There is no such link" in page.text
        assert JO not in page.text
    for page in (await place.ask("GET", path), await place.sign(path), await place.ask("GET", "/sign/x")):
        assert (page.status_code, page.headers["Retry-After"]) == (429, "60")
    assert await accepted(place) == []
    place.clock.advance(59)
    assert (await place.ask("GET", path)).status_code == 429
    place.clock.advance(1)
    assert (await place.sign(path)).status_code == 200


def test_guesses_are_of_an_address_and_forgotten() -> None:
    clock = FakeClock()
    guesses = Guesses(clock)
    for n in range(GUESSES):
        assert not guesses.too_many("2001:db8::1")
        guesses.wrong(f"2001:db8::{n}")
        clock.advance(2)
    assert guesses.too_many("2001:db8::ffff")
    assert not guesses.too_many("2001:db8:1::1")
    clock.advance(40)
    assert not guesses.too_many("2001:db8::1"), "the first is a minute ago"
    for n in range(pages.ADDRESSES + 5):
        guesses.wrong(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(guesses._wrong) == pages.ADDRESSES


async def test_what_cannot_be_recorded_is_not_accepted(place: Place) -> None:
    path = await place.link()
    place.full = True
    with structlog.testing.capture_logs() as logs:
        page = await place.sign(path)
    assert page.status_code == 503
    assert "no space" not in page.text
    assert [line["event"] for line in logs] == ["agreement_links_unavailable"]
    assert await accepted(place) == []
    place.full = False
    assert (await place.sign(path)).status_code == 200


async def test_tls(place: Place, tmp_path: Path) -> None:
    files = write_certificate(tmp_path / "tls")
    place.pages.close()
    place.pages = place.made(slowest=1, context=lambda: tls.load(*files, alpn="http/1.1").context)
    place.port, place.scheme = await place.pages.start("127.0.0.1", 0), "https"
    path = await place.link()
    assert (await place.ask("GET", path)).status_code == 200
    assert await place.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert await place.raw(b"\x16\x03\x01") == b"", "a handshake that does not go on"
    page = await place.ask("POST", path, content=b"name=" + b"a" * 20_000, headers=FORM)
    assert page.status_code == 413
    files[0].write_text("no certificate")
    with pytest.raises((OSError, ValueError)):
        place.pages.reload()
    assert (await place.sign(path)).status_code == 200
    files = write_certificate(tmp_path / "tls")
    place.pages.reload()
    assert (await place.ask("GET", path)).status_code == 410


async def test_closing_lets_go_of_the_port_and_of_who_is_silent(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    assert (await place.ask("GET", "/")).status_code == 404, "the one before has been accepted too"
    place.pages.close()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await place.pages.drain()
    port = place.port
    place.pages = place.made()
    assert await place.pages.start("127.0.0.1", port) == port
