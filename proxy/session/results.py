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
from proxy.wire.ledger import CALL, DESCRIBE, EXECUTE, PARSE, QUERY, Owed
from proxy.wire.rows import walk
from recorder import events

STREAMED: Final = 64 * 1024
"""Messages longer than this are passed on before they are whole, bytes."""
LONGEST_READ: Final = 4096
"""Of an ErrorResponse longer than STREAMED, this much is read: it begins with severity and SQLSTATE."""
LONGEST_TAG: Final = 1024

FIXED_SETTINGS: Final = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
"""Settings that decide how SQL text is read. A judge that reads it differently would judge another statement."""


class Results:
    """The upstream's lane of one session."""

    __slots__ = ("_rest", "_streaming", "_tail", "_talk", "_to_client", "fatal")

    def __init__(self, talk: Talk, *, to_client: Callable[[bytes], None]) -> None:
        self._talk = talk
        self._to_client = to_client
        self._tail = b""
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
        parts: list[bytes] = []
        pos = mark = 0
        if self._tail:
            data = self._tail + data
            self._tail = b""
        elif self._rest:
            pos = mark = self._stream(data, parts)
        end = len(data)
        while True:
            entries = ledger.entries
            if entries:
                head = entries[0]
                if head.kind in (QUERY, EXECUTE):
                    after, rows = walk(data, pos, end)
                    if rows:
                        head.rows += rows
                        head.octets += after - pos
                        pos = after
            if end - pos < HEADER:
                break
            kind, length = TYPE_AND_LENGTH(data, pos)
            stop = pos + 1 + length
            if length < 4:
                raise ProtocolViolation(f"invalid length {length} in a message of type {framing.printable(kind)}")
            if stop > end:
                if length > STREAMED and (kind != framing.ERROR or end - pos >= LONGEST_READ):
                    self._begin(kind, data, pos, end)
                    self._rest = stop - end
                    pos = end
                break
            edit = self._one(kind, data, pos, stop)
            if edit is not None:
                parts += (data[mark:pos], edit)
                mark = stop
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

    def _one(self, kind: int, data: bytes, pos: int, stop: int) -> bytes | None:
        """One whole message that is not a row; returns what the client gets in its place, None for itself."""
        talk = self._talk
        if kind == framing.ERROR:
            return self._error(data[pos + HEADER : stop])
        if kind == framing.PARAMETER_STATUS:
            self._setting(data[pos + HEADER : stop])
            return None
        if kind in (framing.NOTICE, framing.NOTIFICATION):
            return None
        entry = talk.ledger.reply(kind)
        if kind == framing.READY_FOR_QUERY:
            self._ready(entry, data, pos, stop)
        elif kind == framing.COMMAND_COMPLETE:
            self._done(entry, upstream.tag(data[pos + HEADER : min(stop, pos + LONGEST_TAG)]))
        elif kind in (framing.EMPTY_QUERY, framing.PORTAL_SUSPENDED):
            self._done(entry, "SUSPENDED" if kind == framing.PORTAL_SUSPENDED else "")
        elif kind == framing.COPY_IN:
            talk.ledger.copy_in()
        elif kind == framing.PARAMETER_DESCRIPTION:
            if entry.kind == DESCRIBE and entry.undo is not None:
                entry.undo.types = upstream.parameter_types(data[pos + HEADER : stop])
        elif kind in (framing.PARSE_COMPLETE, framing.BIND_COMPLETE) and entry.n:
            self._done(entry, "PARSE" if entry.kind == PARSE else "BIND")
        return None

    def _done(self, entry: Owed, tag: str) -> None:
        """One statement of `entry` has ended well."""
        # A server that completes more statements than were sent is only counted for the last one.
        if entry.done < entry.count:
            self._talk.outcome(entry, entry.n + entry.done, None, tag)
            entry.done += 1

    def _ready(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        talk = self._talk
        status = data[pos + HEADER] if stop - pos == 6 else 0
        if status not in b"ITE":
            raise ProtocolViolation("invalid ReadyForQuery")
        talk.tx = status
        if entry.n and entry.done < entry.count and entry.kind in (QUERY, CALL):
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
