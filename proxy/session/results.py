"""The upstream's lane: rows pass, replies are struck off, refusals find their place.

A chunk is walked by its headers and goes to the client as it came, cut only where a refusal is inserted or an error
position is mapped back to the text that the client sent. Only whole messages are passed on, so that daypass can
always speak between two of them; a message above 64 KiB streams through instead.
Invariant: bytes leave in the order in which they came, none twice and none lost; memory does not grow with results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.session.names import Change
from proxy.session.refusals import refusal
from proxy.session.talk import IDLE, Talk
from proxy.wire import framing, upstream
from proxy.wire.framing import HEADER, TYPE_AND_LENGTH, ProtocolViolation
from proxy.wire.ledger import DESCRIBE, PARSE, QUERY, Owed
from proxy.wire.rows import walk
from recorder import events

STREAMED: Final = 64 * 1024
"""Messages longer than this are passed on before they are whole, bytes."""
LONGEST_READ: Final = 4096
"""Of an ErrorResponse longer than STREAMED, this much is read: it begins with severity and SQLSTATE."""
LONGEST_TAG: Final = 1024

FIXED_SETTINGS: Final = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
"""Settings that decide how SQL text is read. A judge that reads it differently would judge another statement."""


Handler = Callable[[Owed, bytes, int, int], None]
"""Takes the entry that a reply belongs to and the span of the reply's body."""
ASIDE: Final = frozenset((framing.ERROR, framing.NOTICE, framing.NOTIFICATION, framing.PARAMETER_STATUS))
"""Replies that are not in the order of what is owed."""


class Results:
    """The upstream's lane of one session."""

    __slots__ = ("_handlers", "_rest", "_streaming", "_tail", "_talk", "_to_client", "fatal")

    def __init__(self, talk: Talk, *, to_client: Callable[[bytes], None]) -> None:
        self._talk = talk
        self._to_client = to_client
        self._tail = b""
        self._handlers: dict[int, Handler] = {
            framing.COMMAND_COMPLETE: self._complete,
            framing.READY_FOR_QUERY: self._ready,
            framing.EMPTY_QUERY: self._empty,
            framing.PORTAL_SUSPENDED: self._suspended,
            framing.PARSE_COMPLETE: self._prepared,
            framing.BIND_COMPLETE: self._prepared,
            framing.PARAMETER_DESCRIPTION: self._types,
            framing.COPY_IN: self._copy_in,
        }
        self._rest = 0
        """Bytes still to come of a message that streams through."""
        self._streaming: Owed | None = None
        self.fatal: upstream.Report | None = None
        """The FATAL with which the server said goodbye."""

    @property
    def between(self) -> bool:
        """True when everything passed on so far ends with a whole message, so that another may follow."""
        return self._rest == 0

    def data(self, data: bytes) -> None:
        """Take what the upstream sent. Raises ProtocolViolation when it makes no sense, RecordError as usual."""
        ledger = self._talk.ledger
        self._talk.tally.upstream_bytes += len(data)
        handlers = self._handlers
        parts: list[bytes] = []
        pos = mark = 0
        if self._tail:
            data = self._tail + data
            self._tail = b""
        elif self._rest:
            pos = mark = self._stream(data, parts)
        end = len(data)
        last = end - HEADER
        while pos <= last:
            kind, length = TYPE_AND_LENGTH(data, pos)
            if kind == framing.DATA_ROW or kind == framing.COPY_DATA:  # noqa: PLR1714 - faster than a tuple
                after, rows = walk(data, pos, end)
                if rows:
                    entry = ledger.reply(kind)
                    entry.rows += rows
                    entry.octets += after - pos
                    pos = after
                    continue
            stop = pos + 1 + length
            if length < 4:
                raise ProtocolViolation(f"invalid length {length} in a message of type {framing.printable(kind)}")
            if stop > end:
                if length > STREAMED and (kind != framing.ERROR or end - pos >= LONGEST_READ):
                    self._begin(kind, data, pos, end)
                    self._rest = stop - end
                    pos = end
                break
            if kind in ASIDE:
                edit = self._aside(kind, data[pos + HEADER : stop])
                if edit is not None:
                    parts += (data[mark:pos], edit)
                    mark = stop
            else:
                entry = ledger.reply(kind)
                handler = handlers.get(kind)
                if handler is not None:
                    handler(entry, data, pos + HEADER, stop)
            pos = stop
            if ledger.held and (freed := ledger.released()):
                # Only after a whole answer may a refusal of ours follow.
                parts += (data[mark:pos], freed)
                mark = pos
        if pos < end:
            self._tail = data[pos:]
        if parts:
            self._to_client(b"".join((*parts, data[mark:pos])))
        elif pos:
            self._to_client(data if pos == end else data[:pos])

    # Messages

    def _aside(self, kind: int, body: bytes) -> bytes | None:
        """A message that may come at any time; returns what the client gets in its place, None for itself."""
        if kind == framing.ERROR:
            return self._error(body)
        if kind == framing.PARAMETER_STATUS:
            self._setting(body)
        return None

    def _complete(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        self._done(entry, upstream.tag(data[pos : min(stop, pos + LONGEST_TAG)]))

    def _empty(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        self._done(entry, "")

    def _suspended(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        self._done(entry, "SUSPENDED")

    def _prepared(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        if entry.n:
            self._done(entry, "PARSE" if entry.kind == PARSE else "BIND")

    def _types(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        if entry.kind == DESCRIBE and entry.undo is not None:
            entry.undo.types = upstream.parameter_types(data[pos:stop])

    def _copy_in(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        self._talk.ledger.copy_in()

    def _done(self, entry: Owed, tag: str) -> None:
        """One statement of `entry` has ended well."""
        # A server that completes more statements than were sent is only counted for the last one.
        if entry.done < entry.count:
            self._talk.outcome(entry, entry.n + entry.done, None, tag)
            entry.done += 1

    def _ready(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        talk = self._talk
        status = data[pos] if stop - pos == 1 else 0
        if status not in b"ITE":
            raise ProtocolViolation("invalid ReadyForQuery")
        talk.tx = status
        if entry.n and entry.done < entry.count:
            for n in range(entry.n + entry.done, entry.n + entry.count):
                talk.outcome(entry, n, None, None)
        # With more on the way, portals of the next transaction may already stand in the map.
        if status == IDLE and talk.names.portals and not talk.ledger.entries:
            talk.names.end_transaction()

    def _error(self, body: bytes) -> bytes | None:
        talk = self._talk
        found = upstream.report(body)
        if found.fatal:
            self.fatal = found
            talk.recording.append(events.Notice(severity=found.severity, sqlstate=found.sqlstate, text=found.text))
        gone = talk.ledger.error()
        if not gone:
            return None
        failed = gone[0]
        undone: list[Change] = []
        if failed.kind == QUERY:
            # What came before the failing statement has happened, and PREPARE is not taken back by a rollback.
            undone = [change for index, made in failed.undo or () if index >= failed.done for change in made]
        elif failed.kind == PARSE and failed.undo[0].name == b"":
            # Postgres drops the unnamed statement before it reads the new text.
            failed.undo[0].before = None
        for entry in gone:
            if entry.kind not in (QUERY, DESCRIBE) and entry.undo:
                undone += entry.undo
            talk.fail(entry, found.sqlstate)
        if undone:
            talk.names.take_back(undone, self._pending(failed))
        if found.position and failed.judgement is not None:
            moved = upstream.move_position(body, failed.judgement.client_position)
            return b"E" + (len(moved) + 4).to_bytes(4, "big") + moved
        return None

    def _pending(self, failed: Owed) -> list[Change]:
        """The changes of names that messages behind the failed one made, and that may still come true."""
        found: list[Change] = []
        for entry in self._talk.ledger.entries:
            if entry is failed or entry.kind == DESCRIBE or not entry.undo:
                continue
            if entry.kind == QUERY:
                found += [change for _, made in entry.undo for change in made]
            else:
                found += entry.undo
        return found

    def _setting(self, body: bytes) -> None:
        talk = self._talk
        name, value = upstream.parameter(body)
        if not talk.observe and FIXED_SETTINGS.get(name, value).lower() != value.lower():
            talk.end(refusal("setting changed", name=name, value=value), f"{name} became {value}")

    # Messages that stream

    def _begin(self, kind: int, data: bytes, pos: int, end: int) -> None:
        """The first part of a message that is too long to hold."""
        ledger = self._talk.ledger
        if kind == framing.ERROR:
            self._error(data[pos + HEADER : end])
            return
        if kind in (framing.NOTICE, framing.NOTIFICATION):
            return
        if kind not in b"DdTtV":
            raise ProtocolViolation(f"a message of type {framing.printable(kind)} that is far too long")
        entry = ledger.reply(kind)
        if kind in (framing.DATA_ROW, framing.COPY_DATA):
            entry.rows += 1
            entry.octets += end - pos
            self._streaming = entry

    def _stream(self, data: bytes, parts: list[bytes]) -> int:
        """More of a message that is too long to hold; returns where it ends in `data`."""
        step = min(self._rest, len(data))
        self._rest -= step
        parts.append(data if step == len(data) else data[:step])
        if self._streaming is not None:
            self._streaming.octets += step
        if not self._rest:
            self._streaming = None
            if self._talk.ledger.held:
                parts.append(self._talk.ledger.released())
        return step
