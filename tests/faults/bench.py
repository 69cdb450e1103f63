"""One session without sockets, and what must hold for it whatever either peer sends.

The relay and the judge are the real ones; the recording keeps its lines in memory, so that thousands of sessions a
second can be tried (files and chains have tests of their own). `Broken` says which law did not hold.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from proxy.clock import FakeClock
from proxy.policy.judge import Judges
from proxy.policy.judgement import SPACE
from proxy.session.gate import PARSE_EXTRA, Bounds
from proxy.session.relay import Relay
from proxy.session.talk import Tally
from proxy.wire import build, framing
from proxy.wire.framing import HEADER
from recorder import events
from recorder.events import Event
from recorder.journal import Recording
from tests.faults.scripted import Backend, Received
from tests.session.playbook import Pipe

SMALL_BOUNDS = Bounds(statement=2_000, values=4_000)
KEPT = 2_000 + PARSE_EXTRA + HEADER
"""Bytes that a session with SMALL_BOUNDS may keep of its client's stream beside the chunk that it was given."""
HELD_BACK = 64 * 1024 + 5
IGNORED = re.compile(rb"(?:[\s;]|--[^\n\r]*(?:[\n\r]|$)|/\*.*?\*/)*", re.DOTALL)
"""What may stand between the statements of one text."""


class Broken(AssertionError):
    """A law was broken."""


class Lines:
    """A recording in memory. Encodes every event as the real one does."""

    id = "s-bench"
    broken: str | None = None

    def __init__(self) -> None:
        self.written: list[Event] = []
        self.waiting: list[Event] = []
        self.closed = False

    def append(self, event: Event) -> None:
        if self.closed:
            raise Broken(f"recorded after the end: {event}")
        events.encode(event)
        self.waiting.append(event)

    def append_encoded(self, body: bytes) -> None:
        self.append(msgspec.json.decode(body, type=events.Statement))

    def flush(self) -> None:
        self.written += self.waiting
        self.waiting.clear()

    def commit(self, told: Callable[[], None] | None = None) -> bool:
        self.flush()
        return True

    def close(self, end: events.SessionEnd) -> None:
        self.append(end)
        self.flush()
        self.closed = True

    def sent(self) -> list[events.Statement]:
        """What the record says was forwarded to be executed, in order."""
        kept = {e.n for e in self.written if isinstance(e, events.Outcome) and not e.sent}
        return [
            e for e in self.written
            if isinstance(e, events.Statement) and e.verdict != "deny" and e.protocol in RUNS and e.n not in kept
        ]  # fmt: skip


RUNS = ("simple", "extended")
NOT_KEPT = ("observe.limit.statement", "observe.name")
"""What the record shows by its hash, or not at all, because nothing is refused in observe mode."""


class Upstream(Pipe):
    """Nothing may be written to it that does not stand in the record yet."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def write(self, data: bytes) -> None:
        # A goodbye holds nothing that could be recorded.
        if data != build.TERMINATE and any(isinstance(event, events.Statement) for event in self._lines.waiting):
            raise Broken("forwarded before it was recorded")
        super().write(data)


class Bench:
    """A session and its scripted backend. `pump` carries bytes until both sides are quiet."""

    def __init__(self, judge: Judges, chance: random.Random, *, observe: bool = False, fails: float = 0.1) -> None:
        self.chance = chance
        self.lines = Lines()
        self.client, self.upstream = Pipe(), Upstream(self.lines)
        self.backend = Backend(random.Random(chance.random()), fails)
        self.observe = observe
        self.told = b""
        self.relay = Relay(
            client=self.client,
            upstream=self.upstream,
            judge=judge,
            recording=cast(Recording, self.lines),
            monotonic=FakeClock().monotonic,
            tally=Tally(),
            bounds=SMALL_BOUNDS,
            on_end=lambda busy: None,
            observe=observe,
            # It always comes too late: the server has answered already.
            cancel=lambda done: done(),
        )
        self._coming = b""

    def run(self, chunks: Sequence[bytes], mutate: Any = None) -> None:
        """The client sends these; the backend's answers arrive late and in pieces. `mutate` changes them on the way."""
        for chunk in chunks:
            self.relay.client_data(chunk)
            self._bounded(len(chunk))
            self._answer(mutate)
            if self.chance.random() < 0.5:
                self._deliver(self.chance.randrange(len(self._coming) + 1))
        self._answer(mutate)
        while self._coming and not self.relay.ended:
            self._deliver(self.chance.randrange(1, len(self._coming) + 1))
            self._answer(mutate)
        if self.backend.closed:
            self.relay.upstream_lost()
        self.told += self.client.take()
        if self.relay.reason == "bug":
            raise Broken("an exception that is not the protocol's own")

    def begin(self, message: bytes, count: int) -> None:
        """The client sends a message and gets the first `count` bytes of the answer."""
        self.relay.client_data(message)
        self._answer(None)
        self._deliver(count)

    def _answer(self, mutate: Any) -> None:
        said = self.backend.feed(self.upstream.take())
        self._coming += mutate(said) if mutate is not None else said

    def _deliver(self, count: int) -> None:
        piece, self._coming = self._coming[:count], self._coming[count:]
        if piece and not self.relay.ended:
            self.relay.upstream_data(piece)
            self._bounded(count)
            self.told += self.client.take()

    def _bounded(self, chunk: int) -> None:
        kept = len(self.relay._gate._held)
        if kept > KEPT + chunk:
            raise Broken(f"{kept} bytes of the client's stream are kept")
        if len(self.relay._results._tail) > HELD_BACK:
            raise Broken(f"{len(self.relay._results._tail)} bytes of the upstream's stream are kept")

    # The laws

    def check(self) -> None:
        """What must hold when everything has been delivered and the upstream told the truth."""
        self.check_whole()
        self.check_record()
        if self.relay.ended:
            return
        ledger = self.relay.talk.ledger
        if not self.backend.copying and not self.backend.closed and self.backend.between and ledger.entries:
            raise Broken(f"replies are owed that will never come: {list(ledger.entries)}")
        if self.backend.skipping and not ledger.skipping and not ledger.entries:
            raise Broken("the server skips and daypass does not")
        if bool(self.backend.copying) != ledger.copying and not self.backend.closed:
            raise Broken(f"COPY: server {self.backend.copying!r}, daypass {ledger.copying}")

    def check_whole(self) -> None:
        """The client gets whole messages."""
        end = max((stop for _, _, stop in framing.spans(self.told)), default=0)
        if end != len(self.told) and self.relay._results.between:
            raise Broken("the client got half a message")

    def check_record(self) -> None:
        """What the server received to execute is what the record says was forwarded, in order."""
        sent = self.lines.sent()
        for got in self.backend.received:
            long = got.protocol == "Q" and len(got.text or b"") > SMALL_BOUNDS.statement
            if got.skipped and long and not (sent and _digest(got) in sent[0].reason):
                # It streamed when the error came: the server read it and did nothing.
                continue
            if got.protocol == "Q":
                _take_query(got, sent)
                continue
            found = sent.pop(0) if sent else None
            if found is None or found.protocol != "extended":
                raise Broken(f"an Execute that is not recorded: {got} {found}")
            if found.rule in NOT_KEPT:
                continue
            if got.text is not None and _shown(got.text) not in (found.sql.strip(SPACE), found.rewritten):
                raise Broken(f"the server ran {got.text!r}, the record says {found.sql!r}")
        if sent and not self.relay.ended and not self.backend.closed:
            raise Broken(f"recorded as forwarded, never received: {sent}")


def _shown(text: bytes) -> str:
    """A text as the record shows it: without spaces around it, what is no UTF-8 in hexadecimal form."""
    return text.decode(errors="backslashreplace").strip(SPACE)


def _digest(got: Received) -> str:
    return hashlib.sha256(got.whole).hexdigest()


def _take_query(got: Received, sent: list[events.Statement]) -> None:
    """Strike off the statements of one Query message; nothing of its text may be left."""
    if sent and sent[0].protocol == "simple" and sent[0].rule in NOT_KEPT:
        if _digest(got) not in sent[0].reason:
            raise Broken(f"a long message with another hash than {sent[0].reason}")
        sent.pop(0)
        return
    # What is no text stands in the record in its hexadecimal form.
    text, pos = (got.text or b"").decode(errors="backslashreplace").encode(), 0
    taken = 0
    while sent and sent[0].protocol == "simple":
        piece = (sent[0].rewritten or sent[0].sql).encode()
        at = text.find(piece, pos)
        if at < 0 or not IGNORED.fullmatch(text, pos, at):
            break
        if taken and not piece:
            break
        pos = at + len(piece)
        taken += 1
        sent.pop(0)
        if IGNORED.fullmatch(text, pos):
            break
    if not taken or not IGNORED.fullmatch(text, pos):
        raise Broken(f"the server received {text[:200]!r} ({len(text)} bytes); the record goes on with {sent[:2]}")
