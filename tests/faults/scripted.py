"""A Postgres made of rules alone: takes what daypass forwards, byte by byte checked, and answers as a backend would.

It keeps names, transactions, COPY and skipping by its own reading of the manual, so it is a second opinion on what
daypass's ledger and maps believe. `received` says what each Query and Execute would run. Chance decides which
messages fail. It must not know daypass's session. What no daypass may forward is an AssertionError.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from proxy.wire import build, client, framing
from proxy.wire.framing import ProtocolViolation

LONGEST = 64 << 20
KNOWN = frozenset(b"QPBDECHSXFdcf")
ROW = build.message(b"D", b"\0\1\0\0\0\x011")
COLUMNS = build.message(b"T", b"\0\1a\0" + b"\0" * 6 + b"\0\0\0\x17\0\4\xff\xff\xff\xff\0\0")
IN_COPY = b"dcfHS"


@dataclass(frozen=True, slots=True)
class Received:
    """One Query or Execute. `text` is None where no portal of that name stands; `skipped`: behind an error; `whole`:
    a Query's message."""

    protocol: str
    text: bytes | None
    skipped: bool
    whole: bytes = b""


@dataclass(slots=True)
class Backend:
    """One backend process. `fails`: the share of messages that end in an error of their own."""

    chance: random.Random
    fails: float = 0.1
    statements: dict[bytes, bytes] = field(default_factory=dict)
    portals: dict[bytes, bytes] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    tx: str = "I"
    skipping: bool = False
    copying: str = ""
    closed: bool = False
    said: bytes = b""
    _held: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """What the server sends on hearing `data`."""
        self._held += data
        out: list[bytes] = []
        done = 0
        for kind, start, stop in framing.spans(self._held):
            assert kind in KNOWN, f"type {kind} was forwarded"
            assert stop - start <= LONGEST
            if not self.closed:
                out.append(self._message(chr(kind), self._held[start:stop]))
            done = stop
        self._held = self._held[done:]
        return b"".join(out)

    @property
    def between(self) -> bool:
        """Whether what came ends with a whole message."""
        return not self._held

    def _message(self, letter: str, body: bytes) -> bytes:
        if self.copying:
            return self._in_copy(letter)
        if letter == "X":
            self.closed = True
            return b""
        if letter == "S":
            self.skipping = False
            return self._ready()
        if self.skipping:
            if letter in "QE":
                text = body[:-1] if letter == "Q" else None
                self.received.append(Received(letter, text, True, build.message(letter.encode(), body)))
            return b""
        if letter in "dcfH":
            return b""
        return {"Q": self._query, "F": self._call, "P": self._parse, "B": self._bind, "E": self._execute}.get(
            letter, self._describe if letter == "D" else self._close
        )(body)

    def _in_copy(self, letter: str) -> bytes:
        if letter not in "dcfHS":
            self.closed = True
            return self._error("08P01", "FATAL")
        if letter == "d" and self.chance.random() >= self.fails:
            return b""
        if letter in "HS":
            return b""
        simple, self.copying = self.copying == "Q", ""
        if letter == "c":
            return build.message(b"C", b"COPY 1\0") + (self._ready() if simple else b"")
        return self._fail("57014", simple=simple)

    # The simple protocol

    def _query(self, body: bytes) -> bytes:
        text = body[:-1]
        self.received.append(Received("Q", text, False, build.message(b"Q", body)))
        self.statements.pop(b"", None)
        self.portals.pop(b"", None)
        return self._run(text, simple=True)

    def _run(self, text: bytes, *, simple: bool) -> bytes:
        words = text.lower().split()
        first = words[0] if words else b""
        end = self._ready if simple else bytes
        if self.tx == "E" and first not in (b"rollback", b"commit"):
            return self._fail("25P02", simple=simple)
        if self.chance.random() < self.fails:
            rows = ROW * self.chance.randrange(3)
            return (COLUMNS if simple and rows else b"") + rows + self._fail("22012", simple=simple)
        if not text.strip(b" ;"):
            return build.message(b"I", b"") + end()
        if first == b"begin":
            self.tx = "T"
        elif first in (b"commit", b"rollback"):
            self.tx = "I"
            self.portals.clear()
        elif first == b"prepare" and len(words) > 3:
            if words[1] in self.statements:
                return self._fail("42P05", simple=simple)
            self.statements[words[1]] = text
        elif first == b"deallocate" and len(words) > 1:
            if self.statements.pop(words[1], None) is None:
                return self._fail("26000", simple=simple)
        elif first == b"discard":
            self.statements.clear()
            self.portals.clear()
        if first == b"copy" and b"stdin" in words:
            self.copying = "Q" if simple else "E"
            return build.message(b"G", b"\0\0\0")
        if first == b"copy":
            return (
                build.message(b"H", b"\0\0\1\0\0")
                + build.message(b"d", b"1\n") * 3
                + build.message(b"c", b"")
                + (build.message(b"C", b"COPY 3\0") + end())
            )
        if first not in (b"select", b"show", b"table", b"values", b"with", b"explain", b"fetch"):
            return build.message(b"C", first.upper()[:20] + b"\0") + end()
        count = self.chance.randrange(4)
        return (COLUMNS if simple else b"") + ROW * count + build.message(b"C", b"SELECT %d\0" % count) + end()

    def _call(self, body: bytes) -> bytes:
        if self.chance.random() < self.fails:
            return self._fail("42883", simple=True)
        return build.message(b"V", b"\xff\xff\xff\xff") + self._ready()

    # The extended protocol

    def _parse(self, body: bytes) -> bytes:
        try:
            name, text, _ = client.parse(body, 0, len(body))
        except ProtocolViolation:
            return self._fail("08P01")
        name = name[:63]
        if not name:
            self.statements.pop(b"", None)
        if name in self.statements:
            return self._fail("42P05")
        if b";" in text.strip(b" ;") or self.chance.random() < self.fails:
            return self._fail("42601")
        self.statements[name] = text
        return b"1\0\0\0\4"

    def _bind(self, body: bytes) -> bytes:
        try:
            portal, source, _, _ = client.bind(body, 0, len(body))
        except ProtocolViolation:  # a long one streams unread in observe mode
            return self._fail("08P01")
        text = self.statements.get(source[:63])
        portal = portal[:63]
        if text is None:
            return self._fail("26000")
        if portal and portal in self.portals:
            return self._fail("42P03")
        if self.chance.random() < self.fails:
            return self._fail("22P02")
        self.portals[portal] = text
        return b"2\0\0\0\4"

    def _portal(self, body: bytes) -> bytes | None:
        return self.portals.get(client.execute(body, 0, len(body))[:63])

    def _execute(self, body: bytes) -> bytes:
        text = self._portal(body)
        self.received.append(Received("E", text, False))
        if text is None:
            return self._fail("34000")
        if text[:6].lower() == b"select" and self.tx != "E" and self.chance.random() < 0.05:
            return ROW + build.message(b"s", b"")
        return self._run(text, simple=False)

    def _describe(self, body: bytes) -> bytes:
        what, name = client.target(body, 0, len(body))
        kept = self.statements if what == client.STATEMENT else self.portals
        if name[:63] not in kept:
            return self._fail("26000")
        types = build.message(b"t", b"\0\1\0\0\0\x17") if what == client.STATEMENT else b""
        return types + self.chance.choice((COLUMNS, b"n\0\0\0\4"))

    def _close(self, body: bytes) -> bytes:
        what, name = client.target(body, 0, len(body))
        kept = self.statements if what == client.STATEMENT else self.portals
        kept.pop(name[:63], None)
        return b"3\0\0\0\4"

    # Ends

    def _fail(self, code: str, *, simple: bool = False) -> bytes:
        if self.tx == "T":
            self.tx = "E"
            self.portals.clear()
        if simple:
            return self._error(code) + self._ready()
        self.skipping = True
        return self._error(code)

    def _error(self, code: str, severity: str = "ERROR") -> bytes:
        return build.error(severity=severity, code=code, text="no", position=self.chance.choice((None, 1, 40)))

    def _ready(self) -> bytes:
        if self.tx == "I":
            self.portals.clear()
        return build.ready(ord(self.tx))
