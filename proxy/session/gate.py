"""The client's lane: judge, record, forward, in this order and for everything.

A chunk of bytes is walked message by message. Statements are judged (by text, before anything is decoded), their
events are chained, and only when the recording has written them does the whole batch go upstream in one write.
Knows no sockets and no SQL. Invariant: bytes that were not judged and recorded are never handed to `forward`; a
message type that is not understood ends the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from proxy.session import streaming
from proxy.session.answers import Answers
from proxy.session.extended import Extended
from proxy.session.names import NAME_BYTES
from proxy.session.refusals import refusal
from proxy.session.simple import Simple
from proxy.session.streaming import LONGEST_HEAD, STREAMED, Streamed, not_kept
from proxy.session.talk import Pause, Talk, for_answers, for_record
from proxy.wire import ledger as owed
from proxy.wire.framing import (
    BIND,
    CLOSE,
    COPY_DATA,
    COPY_DONE,
    COPY_FAIL,
    DESCRIBE,
    EXECUTE,
    FLUSH,
    FUNCTION_CALL,
    HEADER,
    PARSE,
    QUERY,
    SYNC,
    TERMINATE,
    ProtocolViolation,
    printable,
    uint32,
)
from proxy.wire.ledger import Owed
from recorder.files import RecordError

SMALL: Final = 10_000
"""Bytes that a message of a type without a limit of its own may have, as in Postgres."""
PARSE_EXTRA: Final = 4 * 65_535 + 1_024
"""What a Parse may hold beside its text: a name and the types of its parameters."""
SYNC_OWED: Final = Owed(owed.SYNC)
"""A Sync has nothing of its own, so one entry stands for all."""
MESSAGES: Final = (
    QUERY, PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, SYNC, FLUSH, FUNCTION_CALL, TERMINATE,
    COPY_DATA, COPY_DONE, COPY_FAIL,
)  # fmt: skip
KNOWN: Final = bytes(kind in MESSAGES for kind in range(256))
"""For each type byte whether a client may send it in a session."""
LONGEST: Final = 1 << 30
"""Postgres's own limit for any message."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long messages may be, in bytes."""

    statement: int = 1 << 20
    values: int = 16 << 20


class Gate:
    """The client's lane of one session. `terminated` once the client has said goodbye."""

    __slots__ = (
        "_answers",
        "_bounds",
        "_discard",
        "_extended",
        "_forward",
        "_held",
        "_next",
        "_out",
        "_passing",
        "_pause",
        "_reply",
        "_simple",
        "_streamed",
        "_talk",
        "_too_long",
        "_wanted",
        "terminated",
        "waiting",
    )

    def __init__(
        self,
        talk: Talk,
        *,
        forward: Callable[[bytes], None],
        reply: Callable[[bytes], None],
        bounds: Bounds,
        pause: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._talk = talk
        self._forward = forward
        self._reply = reply
        self._bounds = bounds
        self._answers = Answers(talk)
        self._extended = Extended(talk, self._answers, bounds.statement)
        self._simple = Simple(talk, self._answers, bounds.statement)
        self._held = bytearray()
        self._wanted = HEADER
        """How many bytes `_held` must have before walking again can get further."""
        self._discard = 0
        self._passing = 0
        self._streamed: Streamed | None = None
        """The message that passes in pieces, where it is more than COPY data."""
        self._too_long: _TooLong | None = None
        self.terminated = False
        self._pause = pause
        self.waiting: Callable[[], Awaitable[None]] | None = None
        """What the next message waits for; until `resume` nothing is walked."""
        self._out = b""
        """What goes upstream when it is recorded, while `waiting` is `for_record`."""
        self._next: Callable[[], Awaitable[None]] | None = None
        """What is waited for after that."""

    def data(self, chunk: bytes) -> None:
        """Take what the client sent. Raises ProtocolViolation and RecordError: nothing of this chunk was forwarded."""
        if self.terminated:
            return
        talk = self._talk
        talk.active = talk.monotonic()
        talk.began = talk.began or talk.active
        talk.tally.client_bytes += len(chunk)
        if self.waiting is not None:
            self._held += chunk
            if self._passing or self._discard:
                self._wanted = 0  # what is held is the rest of a message, of whatever length
            if self.waiting is for_record:
                # Only now: who waits for an answer sends nothing meanwhile, and need not be held.
                self._pause(for_record)
            return
        before, held = talk.n, talk.ledger.held
        if self._held:
            self._held += chunk
            if len(self._held) < self._wanted:
                return
            chunk = bytes(self._held)
            self._held.clear()
        out = self._walk(chunk)
        self._extended.record_unexecuted()
        if talk.n != before and not talk.recording.commit(talk.recorded):
            talk.ledger.unrecorded = talk.ledger.held - held
            self._out, self._next = out, self._awaited()
            self.waiting = for_record
            return
        self._send(out)

    def _awaited(self) -> Callable[[], Awaitable[None]] | None:
        """`waiting`, asked anew: mypy, and so mypyc, holds to what it was before the walk."""
        return self.waiting

    def _send(self, out: bytes) -> None:
        """It is recorded: tell the client what is refused, let the rest go upstream."""
        answers = self._answers
        if answers.waiting:
            self._reply(b"".join(answers.waiting))
            answers.waiting.clear()
        if out:
            self._forward(out)
        if self.waiting is not None:
            self._pause(self.waiting)

    @property
    def paused(self) -> bool:
        """Whether the client's lane waits for something."""
        return self.waiting is not None

    @property
    def kept(self) -> int:
        """Bytes of the client that wait with its lane."""
        return len(self._held)

    @property
    def within(self) -> bool:
        """Whether what went upstream ends inside of a message."""
        return self._passing > 0

    def resume(self) -> None:
        """What was waited for is here: go on with the message that needed it. As `data`."""
        if self.waiting is for_record:
            talk = self._talk
            if talk.recording.broken is not None:
                raise RecordError(talk.recording.broken)
            talk.ledger.unrecorded = 0
            if freed := talk.ledger.released(talk.tx):
                self._answers.waiting.append(freed)
            out, self._out = self._out, b""
            self.waiting, self._next = self._next, None
            if self.waiting is for_answers and not talk.ledger.ready_owed:
                self.waiting = None  # they came while the record was written
            self._send(out)
            if self.waiting is not None:
                return
        self.waiting = None
        if self._held:
            self.data(b"")

    def _walk(self, data: bytes) -> bytes:
        """Handle every whole message in `data`; returns what may go upstream once the record is written."""
        ledger = self._talk.ledger
        parts: list[bytes] = []
        pos, mark, end = 0, 0, len(data)
        if self._passing:
            pos = min(self._passing, end)
            self._passing -= pos
            self._stream(data, 0, pos)
        elif self._discard:
            pos = mark = min(self._discard, end)
            parts.append(self._drop(data, 0, pos))
        while end - pos >= HEADER and not self.terminated:
            kind = data[pos]
            if not KNOWN[kind]:
                raise ProtocolViolation(f"invalid frontend message type {kind}")
            length = uint32(data, pos + 1)
            stop = pos + 1 + length
            if length > SMALL or stop > end or length < 4:
                if length > self._limit(kind, length):
                    step = min(stop, end) - pos
                    try:
                        passes = self._passes(kind, length, data, pos)
                    except Pause as pause:
                        self.waiting = pause.work
                        self._wanted = HEADER
                        break
                    if passes is None:
                        self._wanted = end - pos + 1
                        break
                    if passes:
                        self._passing = stop - pos - step
                        self._stream(data, pos, pos + step)
                    else:
                        self._discard = stop - pos
                        parts += (data[mark:pos], self._drop(data, pos, step))
                        mark = pos + step
                    pos += step
                    continue
                if stop > end:
                    self._wanted = 1 + length
                    break
            # What Postgres ignores after an error is ignored here, whatever it says.
            skipped = ledger.skipping and kind != SYNC and kind != TERMINATE  # noqa: PLR1714 - quicker than a tuple
            try:
                edit = b"" if skipped else self._message(kind, data, pos + HEADER, stop)
            except Pause as pause:
                self.waiting = pause.work
                self._wanted = HEADER
                break
            if edit is not None:
                parts += (data[mark:pos], edit)
                mark = stop
            pos = stop
        else:
            self._wanted = HEADER
        if pos < end and not self.terminated:
            self._held += data[pos:]
        if not parts:
            return data if pos == end else data[:pos]
        parts.append(data[mark:pos])
        return b"".join(parts)

    # Lengths

    def _limit(self, kind: int, length: int) -> int:
        """How long a message of this type may be to be kept whole, as its length word counts; 0 for what streams."""
        if not 4 <= length < LONGEST:
            raise ProtocolViolation(f"invalid message length {length}")
        if kind == QUERY:
            return self._bounds.statement + 5
        if kind == PARSE:
            return self._bounds.statement + PARSE_EXTRA
        if kind == BIND:
            return self._bounds.values
        if kind == COPY_DATA:
            return 0
        if kind == FUNCTION_CALL and self._talk.observe:
            return SMALL
        if length > SMALL:
            raise ProtocolViolation(f"invalid length {length} in a message of type {printable(kind)}")
        return SMALL

    def _passes(self, kind: int, length: int, data: bytes, pos: int) -> bool | None:
        """Whether a message that is not kept whole streams through; otherwise it is thrown away.

        None while too little of it is there to say. Raises Pause.
        """
        ledger = self._talk.ledger
        self._too_long = None
        if kind == COPY_DATA:
            return self._talk.observe or (ledger.copying and not ledger.skipping)
        if self._talk.observe and kind in STREAMED and not ledger.skipping:
            head = streaming.head(kind, data, pos + HEADER, len(data))
            if head is not None:
                if kind == BIND:
                    self._talk.settle(self._talk.names.statements.get(head[1][:NAME_BYTES]))
                self._streamed = Streamed(kind, length + 1, head)
                return True
            if len(data) - pos < min(LONGEST_HEAD, length):
                return None
        if not ledger.skipping:
            self._too_long = _TooLong(kind, length + 1)
        return False

    def _stream(self, data: bytes, pos: int, stop: int) -> None:
        """More of the message that streams through; its last piece waits, as all does, until it is recorded."""
        message = self._streamed
        if message is None:
            return
        message.take(data[pos:stop])
        if self._passing:
            return
        self._streamed = None
        talk = self._talk
        if talk.ledger.skipping:
            return
        if message.kind == QUERY:
            streaming.query(talk, message)
        elif message.kind == FUNCTION_CALL:
            streaming.call(talk, message)
        else:
            self._extended.streamed(message)

    def _drop(self, data: bytes, pos: int, step: int) -> bytes:
        """Throw `step` bytes away; returns what goes upstream in their place."""
        self._discard -= step
        found = self._too_long
        if found is None:
            return b""
        found.digest.update(data[pos : pos + step])
        if self._discard:
            return b""
        self._too_long = None
        if self._talk.ledger.skipping:
            return b""  # an error has come meanwhile
        reason = not_kept(found.size, found.digest.hexdigest())
        if found.kind == BIND:
            no = refusal("values too long", size=found.size, limit=self._bounds.values)
        else:
            no = refusal("too long", size=found.size, limit=self._bounds.statement)
        return self._answers.too_long(no, reason, extended=found.kind != QUERY)

    # Messages

    def _message(self, kind: int, data: bytes, pos: int, stop: int) -> bytes | None:
        """Handle one message; None forwards it as it is, bytes go in its place (b"": nothing does)."""
        if kind == BIND:
            return self._extended.bind(data, pos, stop)
        if kind == EXECUTE:
            return self._extended.execute(data, pos, stop)
        if kind == SYNC:
            return self._sync(data, pos, stop)
        if kind == DESCRIBE:
            return self._extended.describe(data, pos, stop)
        if kind == PARSE:
            return self._extended.parse(data, pos, stop)
        if kind == QUERY:
            return self._simple.query(data, pos, stop)
        if kind == COPY_DATA:
            # Outside of COPY IN Postgres ignores these. Under a policy COPY IN never begins; where it may begin,
            # drivers send the data before they have heard that it did.
            return None if self._talk.observe or self._talk.ledger.copying else b""
        if kind == CLOSE:
            return self._extended.close(data, pos, stop)
        if kind == FLUSH:
            return None
        if kind == TERMINATE:
            self.terminated = True
            return None
        if kind == FUNCTION_CALL:
            return self._simple.call(data, pos, stop)
        return self._copy_end()

    def _sync(self, data: bytes, pos: int, stop: int) -> bytes | None:
        if stop != pos:
            raise ProtocolViolation("invalid Sync message")
        ledger = self._talk.ledger
        ledger.skipping = False
        self._talk.decision = None  # where what was decided about was skipped, nothing else may run on it
        if not ledger.copying:
            ledger.entries.append(SYNC_OWED)
            self._talk.names.group += 1
        return None

    def _copy_end(self) -> bytes | None:
        ledger = self._talk.ledger
        if not self._talk.observe and not ledger.copying:
            return b""
        ledger.copy_end()
        return None


class _TooLong:
    """A statement or value list above its limit: never kept, hashed while it is thrown away."""

    __slots__ = ("digest", "kind", "size")

    def __init__(self, kind: int, size: int) -> None:
        self.kind = kind
        self.size = size
        self.digest = hashlib.sha256()
