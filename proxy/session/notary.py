"""What answers in the upstream's place while a grant waits for signatures: there is no database behind it.

It is the upstream pipe of a relay like any other, so the gate judges and records what comes before it gets here, in
both protocols. It knows no sockets. Invariants: one message is worked on at a time, and none while the client does not
read; nobody accepts a text that was not shown in this very session; a signature is told when it is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from proxy.access.agreements import AgreementError, Text, plausible
from proxy.access.store import StoreError
from proxy.policy.signing import ACCEPT, AGREEMENT, HOW, Said, read
from proxy.session.refusals import Refusal, refusal
from proxy.session.talk import IDLE
from proxy.tasks import spawn
from proxy.wire import build, client, framing
from recorder.journal import RecordError

log = structlog.get_logger()

IN_BLOCK: Final = ord("T")
FULL: Final = 64 * 1024
"""Bytes that wait to be worked on at which no more is taken from the client."""
RULER: Final = "-" * 72
TAGS: Final = {"show": "SHOW", "set": "SET", "reset": "RESET", "begin": "BEGIN", "commit": "COMMIT",
               "rollback": "ROLLBACK"}  # fmt: skip
NOTHING_LEFT: Final = "Nothing is left to accept: connect again to begin."


class Host(Protocol):
    """The relay, as its upstream sees it."""

    def upstream_data(self, data: bytes) -> None: ...
    def upstream_blocked(self, blocked: bool) -> None: ...
    def upstream_lost(self) -> None: ...
    def end(self, no: Refusal | None, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Files:
    """Where agreements are. `pending`: what is still to be accepted, now; `accept`: keeps one with the typed name.

    Both raise AgreementError, StoreError and RecordError.
    """

    pending: Callable[[], Awaitable[list[Text]]]
    accept: Callable[[Text, str], Awaitable[object]]


class _No(Exception):
    def __init__(self, no: Refusal) -> None:
        super().__init__(no.text)
        self.refusal = no


class _Portal:
    __slots__ = ("ended", "rows", "said")

    def __init__(self, said: Said | None) -> None:
        self.said = said
        self.rows: list[bytes] | None = None
        self.ended = False


class Notary:
    """One signing session's. `waits_for` is told, in words, what is to be accepted next."""

    def __init__(self, files: Files, settings: dict[str, str], waits_for: Callable[[str], None]) -> None:
        self._files = files
        self._settings = dict(settings)
        self._initial = settings
        self._waits_for = waits_for
        self._host: Host | None = None
        self._queue = bytearray()
        self._free = asyncio.Event()
        self._free.set()
        self._working = self._closed = self._blocked = False
        self._skipping = False
        self._status = IDLE
        self._statements: dict[bytes, Said | None] = {}
        self._portals: dict[bytes, _Portal] = {}
        self._shown: Text | None = None
        self._signed = False
        """Nothing is left to accept."""

    def serve(self, host: Host) -> None:
        """Whose upstream this is."""
        self._host = host

    # The pipe

    def write(self, data: bytes) -> None:
        if self._closed:
            return
        self._queue += data
        if not self._working:
            self._working = True
            spawn(self._work(), name="notary")
        if len(self._queue) > FULL and not self._blocked and self._host is not None:
            self._blocked = True
            self._host.upstream_blocked(True)

    def close(self) -> None:
        self._closed = True
        self._queue.clear()
        self._free.set()

    def hold(self, held: bool) -> None:
        if held and not self._closed:
            self._free.clear()
        else:
            self._free.set()

    # Messages

    async def _work(self) -> None:
        host = self._host
        if host is None:
            return
        try:
            while self._queue and not self._closed:
                await self._free.wait()
                kind, length = framing.TYPE_AND_LENGTH(self._queue, 0)
                body = bytes(self._queue[framing.HEADER : 1 + length])
                del self._queue[: 1 + length]
                if self._blocked and len(self._queue) <= FULL // 2:
                    self._blocked = False
                    host.upstream_blocked(False)
                if kind == framing.TERMINATE:
                    host.upstream_lost()
                    return
                if self._skipping and kind != framing.SYNC:
                    continue
                await self._message(host, kind, body)
                # Other sessions have their turn, whatever this client has sent at once.
                await asyncio.sleep(0)
        except RecordError as broken:
            host.end(refusal("recording"), str(broken))
        except Exception:
            log.exception("notary_bug")
            host.end(refusal("bug"), "internal error in a signing session")
        finally:
            self._working = False

    async def _message(self, host: Host, kind: int, body: bytes) -> None:
        try:
            if kind == framing.QUERY:
                await self._query(host, body)
            elif kind == framing.PARSE:
                host.upstream_data(self._parse(body))
            elif kind == framing.BIND:
                host.upstream_data(self._bind(body))
            elif kind == framing.DESCRIBE:
                host.upstream_data(self._describe(body))
            elif kind == framing.EXECUTE:
                host.upstream_data(await self._execute(body))
            elif kind == framing.CLOSE:
                what, name = client.target(body, 0, len(body))
                if what == client.STATEMENT:
                    self._statements.pop(name, None)
                else:
                    self._portals.pop(name, None)
                host.upstream_data(build.message(b"3", b""))
        except _No as no:
            self._skipping = kind != framing.QUERY
            host.upstream_data(no.refusal.message)
        if kind in (framing.QUERY, framing.SYNC):
            self._skipping = False
            if self._status == IDLE:
                self._portals.clear()
            host.upstream_data(build.ready(self._status))
            if self._signed and self._status == IDLE:
                host.end(refusal("signed"), "all agreements are accepted")

    async def _query(self, host: Host, body: bytes) -> None:
        said = read(body[:-1])
        if not said:
            host.upstream_data(build.message(b"I", b""))
        for each in said:
            rows = await self._run(host, each)
            head = build.text_column(each.name) if each.kind == "show" else b""
            host.upstream_data(head + b"".join(rows) + build.complete(TAGS[each.kind]))

    def _parse(self, body: bytes) -> bytes:
        name, sql, _ = client.parse(body, 0, len(body))
        said = read(sql)
        if len(said) > 1:
            raise _no("cannot insert multiple commands into a prepared statement")
        self._statements[name] = said[0] if said else None
        return build.message(b"1", b"")

    def _bind(self, body: bytes) -> bytes:
        portal, name, _, values = client.bind(body, 0, len(body))
        if name not in self._statements:
            raise _no("there is no such prepared statement")
        if values:
            raise _no("these statements take no parameters", f"Write the name into the text: SET {ACCEPT} = 'Jo Doe';")
        self._portals[portal] = _Portal(self._statements[name])
        return build.message(b"2", b"")

    def _describe(self, body: bytes) -> bytes:
        what, name = client.target(body, 0, len(body))
        if what == client.STATEMENT:
            if name not in self._statements:
                raise _no("there is no such prepared statement")
            said, head = self._statements[name], build.message(b"t", b"\0\0")
        else:
            said, head = self._portal(name).said, b""
        shows = said is not None and said.kind == "show"
        return head + (build.text_column(said.name) if said is not None and shows else build.message(b"n", b""))

    def _portal(self, name: bytes) -> _Portal:
        if name not in self._portals:
            raise _no("there is no such portal")
        return self._portals[name]

    async def _execute(self, body: bytes) -> bytes:
        portal = self._portal(client.execute(body, 0, len(body)))
        if portal.said is None:
            return build.message(b"I", b"")
        if portal.ended and portal.said.kind != "show":
            raise _no("this portal has been run; bind it again")
        if portal.rows is None:
            portal.rows = await self._run(self._host, portal.said)
        limit = framing.uint32(body, len(body) - 4)
        rows, portal.rows = (portal.rows, []) if not limit else (portal.rows[:limit], portal.rows[limit:])
        # As Postgres: who got as many rows as he asked for is not told yet that these were the last.
        portal.ended = not limit or len(rows) < limit
        return b"".join(rows) + (build.complete(TAGS[portal.said.kind]) if portal.ended else build.message(b"s", b""))

    # Statements

    async def _run(self, host: Host | None, said: Said) -> list[bytes]:
        """Do what was said; returns the rows that answer it."""
        if said.kind == "begin":
            self._status = IN_BLOCK
        elif said.kind in ("commit", "rollback"):
            self._status = IDLE
        elif said.kind == "show":
            return [build.text_row(await self._show() if said.name == AGREEMENT else self._settings[said.name])]
        elif said.kind == "reset":
            names = [said.name] if said.name else list(self._initial)
            self._settings |= {name: self._initial[name] for name in names}
        elif said.name == ACCEPT:
            notice = await self._accept(said.value)
            if host is not None:
                host.upstream_data(notice)
        else:
            self._settings[said.name] = said.value
        return []

    async def _pending(self) -> list[Text]:
        try:
            return await self._files.pending()
        except StoreError as problem:
            log.error("agreements_unavailable", reason=str(problem))
            raise _No(refusal("not kept")) from None
        except AgreementError as problem:
            log.error("agreement_missing", reason=str(problem))
            raise _no(
                "the text of an agreement is not there",
                "Ask the person who gave you access: `daypass doctor` tells the operator what is missing.",
            ) from None

    async def _show(self) -> str:
        pending = await self._pending()
        if not pending:
            self._signed = True
            return NOTHING_LEFT
        text = self._shown = pending[0]
        self._waits_for(text.title)
        left = f", the first of {len(pending)}" if len(pending) > 1 else ""
        return (
            f"Agreement {text.name}, version {text.version}{left}\nSHA-256 {text.sha256}\n"
            f"{RULER}\n{text.body}\n{RULER}\n"
            f"To accept it, type your full name:\n\n    SET {ACCEPT} = 'Your Full Name';"
        )

    async def _accept(self, typed: str) -> bytes:
        """Keep the signature; returns the notice that says so."""
        pending = await self._pending()
        if not pending:
            self._signed = True
            return build.notice(text=f"daypass: {NOTHING_LEFT}")
        text, *rest = pending
        if self._shown != text:
            raise _no(f"{text.title} has not been shown in this session", f"Read it first: SHOW {AGREEMENT};")
        try:
            name = plausible(typed)
        except AgreementError as problem:
            raise _no(str(problem), HOW) from None
        try:
            await self._files.accept(text, name)
        except AgreementError:
            raise _no(f"the text of {text.name} has just changed", f"Read it again: SHOW {AGREEMENT};") from None
        except StoreError as problem:
            log.error("signature_not_kept", reason=str(problem))
            raise _No(refusal("not kept")) from None
        self._shown = None
        done = f"daypass: recorded: {name} has accepted {text.title}."
        if rest:
            self._waits_for(rest[0].title)
            return build.notice(text=f"{done} Next is {rest[0].title}.", hint=HOW)
        self._signed = True
        return build.notice(text=f"{done} That was the last one.", hint="Connect again (in psql: \\c) to begin.")


def _no(text: str, hint: str = "") -> _No:
    return _No(refusal("signature", text=text, hint=hint))
