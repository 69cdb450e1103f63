"""The upstream's lane: rows pass, replies are struck off, refusals find their place.

A chunk is walked by its headers and goes to the client as it came, cut only where a refusal is inserted or an error
position is mapped back to the text that the client sent. Only whole messages are passed on, so that daypass can
always speak between two of them; a message above 64 KiB streams through instead.
Invariant: bytes leave in the order in which they came, none twice and none lost; memory does not grow with results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.policy.guard import OWN_SETTINGS
from proxy.session.budget import Ended
from proxy.session.names import SETTLED, Change
from proxy.session.refusals import refusal
from proxy.session.scrub import scrub
from proxy.session.talk import IDLE, Talk
from proxy.wire import build, framing, upstream
from proxy.wire.framing import (
    BIND_COMPLETE,
    COMMAND_COMPLETE,
    COPY_DATA,
    DATA_ROW,
    EMPTY_QUERY,
    FUNCTION_RESULT,
    HEADER,
    PARAMETER_DESCRIPTION,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    READY_FOR_QUERY,
    ROW_DESCRIPTION,
    ProtocolViolation,
    uint32,
)
from proxy.wire.ledger import BIND, CALL, DESCRIBE, PARSE, QUERY, Owed
from proxy.wire.rows import walk
from recorder import events

STREAMED: Final = 64 * 1024
"""Messages longer than this are passed on before they are whole, bytes."""
LONGEST_READ: Final = 4096
"""Of an ErrorResponse or NoticeResponse longer than STREAMED, this much is read: severity and SQLSTATE come first."""
LONGEST_TAG: Final = 1024
LONGEST_LATER: Final = 1 << 20
"""Bytes of refusals that wait for the end of a message that the upstream does not end."""
TORN: Final = "…\0\0".encode()
"""Ends a list of fields that is cut in the middle of one."""

INTO_COPY: Final = "the client sent a statement where the data of COPY from stdin belongs"
FIXED_SETTINGS: Final = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
"""Settings that decide how SQL text is read. A judge that reads it differently would judge another statement."""


ASIDE: Final = bytes(
    kind in (framing.ERROR, framing.NOTICE, framing.NOTIFICATION, framing.PARAMETER_STATUS) for kind in range(256)
)
"""For each type byte whether it is a reply that is not in the order of what is owed."""


class Results:
    """The upstream's lane of one session."""

    __slots__ = ("_dropping", "_later", "_muted", "_rest", "_row", "_shown", "_tail", "_talk", "_to_client", "fatal")

    def __init__(self, talk: Talk, *, to_client: Callable[[bytes], None]) -> None:
        self._talk = talk
        self._to_client = to_client
        self._tail = b""
        self._rest = 0
        """Bytes still to come of a message that streams through."""
        self._shown = talk.shown
        self._row = (0, 0)
        """Where that message is a row that is recorded: its statement and its number in the result."""
        self._dropping = False
        """Whether those bytes are thrown away instead."""
        self._later = b""
        """Words of daypass's own that wait for the end of that message."""
        self._muted = False
        """True after a limit has ended a statement, until the upstream says that it is ready."""
        self.fatal: upstream.Report | None = None
        """The FATAL with which the server said goodbye."""

    @property
    def between(self) -> bool:
        """True when everything passed on so far ends with a whole message, so that another may follow."""
        return self._rest == 0

    def tell(self, words: bytes) -> None:
        """Whole messages of daypass's own for the client, behind the one that is on its way."""
        if self._rest:
            self._later += words
            if len(self._later) > LONGEST_LATER:
                raise ProtocolViolation("the upstream stopped in the middle of a message")
        else:
            self._to_client(words)

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
        last = end - HEADER
        while pos <= last:
            kind = data[pos]
            if kind in (DATA_ROW, COPY_DATA):
                after, rows = walk(data, pos, end)
                if rows:
                    if self._muted:
                        parts.append(data[mark:pos])
                        mark = pos = after
                        continue
                    entry = ledger.reply(kind)
                    shown = self._shown
                    if entry.judgement is not None and (own := self._own(entry)):
                        parts += (data[mark:pos], own)
                        if shown is not None:
                            shown.take(entry.n + entry.done, 1, own, 0, len(own))
                        mark = pos = after
                        continue
                    before = entry.rows
                    if self._talk.meter.take(entry, rows, after - pos) is None:
                        if shown is not None:
                            shown.take(entry.n + entry.done, before + 1, data, pos, after)
                        pos = after
                        continue
                    stop, ended = self._last_rows(entry, data, pos)
                    if shown is not None and stop > pos:
                        shown.take(entry.n + entry.done, before + 1, data, pos, stop)
                    parts += (data[mark:stop], self._end_statement(ended))
                    mark = pos = after
                    continue
            length = uint32(data, pos + 1)
            stop = pos + 1 + length
            if length < 4:
                raise ProtocolViolation(f"invalid length {length} in a message of type {framing.printable(kind)}")
            if stop > end:
                if length > STREAMED and (kind not in (framing.ERROR, framing.NOTICE) or end - pos >= LONGEST_READ):
                    edit = self._begin(kind, data, pos, end, length + 1)
                    self._rest = stop - end
                    self._dropping = edit is not None
                    if edit is not None:
                        parts += (data[mark:pos], edit)
                        mark = end
                    pos = end
                break
            if ASIDE[kind]:
                edit = self._aside(kind, data[pos + HEADER : stop])
                if edit is not None:
                    parts += (data[mark:pos], edit)
                    mark = stop
            else:
                self._reply(ledger.reply(kind), kind, data, pos + HEADER, stop)
                if self._muted:
                    # What the upstream does all the same is counted, and not told.
                    parts.append(data[mark:pos])
                    mark = stop
            pos = stop
            if ledger.held and (freed := ledger.released(self._talk.tx)):
                # Only after a whole answer may a refusal of ours follow.
                parts += (data[mark:pos], freed)
                mark = pos
        if ledger.entries and (running := ledger.entries[0]).rows and not running.first:
            running.first = self._talk.monotonic()
        if pos < end:
            self._tail = data[pos:]
        if parts:
            self._to_client(b"".join((*parts, data[mark:pos])))
        elif pos:
            self._to_client(data if pos == end else data[:pos])

    # Messages

    def _reply(self, entry: Owed, kind: int, data: bytes, pos: int, stop: int) -> None:
        """What a reply to `entry` with its body in data[pos:stop] tells."""
        if kind == COMMAND_COMPLETE:
            self._done(entry, upstream.tag(data[pos : min(stop, pos + LONGEST_TAG)]))
        elif kind == READY_FOR_QUERY:
            self._ready(entry, data, pos, stop)
        elif kind in (PARSE_COMPLETE, BIND_COMPLETE):
            entry.undo[0].value.group = SETTLED
            if entry.n:
                self._done(entry, "PARSE" if entry.kind == PARSE else "BIND")
        elif kind == ROW_DESCRIPTION:
            if self._shown is not None and (entry.kind == QUERY or entry.undo is not None):
                self._shown.described(data[pos:stop], entry.undo if entry.kind == DESCRIBE else None)
        elif kind == FUNCTION_RESULT:
            if self._shown is not None and not self._muted:
                self._shown.take(entry.n, 1, data, pos - HEADER, stop)
        elif kind == PARAMETER_DESCRIPTION:
            if entry.kind == DESCRIBE and entry.undo is not None:
                entry.undo.types = upstream.parameter_types(data[pos:stop])
        elif kind == EMPTY_QUERY:
            self._done(entry, "")
        elif kind == PORTAL_SUSPENDED:
            self._done(entry, "SUSPENDED")
        elif kind in (framing.COPY_IN, framing.COPY_BOTH):
            self._copy_in()

    def _copy_in(self) -> None:
        ledger = self._talk.ledger
        ledger.copy_in()
        if ledger.copying and len(ledger.entries) > 1 and ledger.entries[1].kind in (QUERY, CALL):
            # The COPY reads it as the end of its data, in error: its own answer would never come.
            self._talk.end(refusal("protocol", text=INTO_COPY), INTO_COPY)

    def _aside(self, kind: int, body: bytes) -> bytes | None:
        """A message that may come at any time; returns what the client gets in its place, None for itself."""
        if kind == framing.ERROR:
            return self._error(body)
        if kind == framing.PARAMETER_STATUS:
            self._setting(body)
        elif kind == framing.NOTICE:
            return self._notice(body)
        else:
            self._notified(body)
        return None

    def _notice(self, body: bytes, *, torn: bool = False) -> bytes | None:
        """A notice, recorded as the client reads it; of a `torn` one there is only the beginning."""
        talk = self._talk
        entries = talk.ledger.entries
        veiled = bool(entries) and _veiled(entries[0])
        told = scrub(body, notice=True) if veiled else body
        talk.note(talk.told(told + TORN if torn else told))
        return build.message(b"N", told) if veiled else None

    def _notified(self, body: bytes) -> None:
        pid, channel, payload = upstream.notification(body)
        kept = self._shown is not None and self._shown.rows
        text = payload.decode("utf-8", "backslashreplace") if kept else None
        self._talk.recording.append(events.Notification(channel=channel, pid=pid, bytes=len(payload), payload=text))

    def _done(self, entry: Owed, tag: str) -> None:
        """One statement of `entry` has ended well."""
        # A server that completes more statements than were sent is only counted for the last one.
        if entry.done < entry.count:
            if entry.n:
                self._talk.outcome(entry, entry.n + entry.done, None, tag)
            entry.done += 1

    def _ready(self, entry: Owed, data: bytes, pos: int, stop: int) -> None:
        talk = self._talk
        status = data[pos] if stop - pos == 1 else 0
        if status not in b"ITE":
            raise ProtocolViolation("invalid ReadyForQuery")
        talk.tx = status
        self._muted = False
        if status == IDLE:
            talk.began = talk.monotonic() if talk.ledger.entries else 0.0
        if entry.n and entry.done < entry.count:
            for n in range(entry.n + entry.done, entry.n + entry.count):
                talk.outcome(entry, n, None, None)
        # With more on the way, portals of the next transaction may already stand in the map.
        if status == IDLE and talk.names.portals and not talk.ledger.entries:
            talk.names.end_transaction()

    def _error(self, body: bytes, *, torn: bool = False) -> bytes | None:
        talk = self._talk
        gone = talk.ledger.error()
        judgement = gone[0].judgement if gone else None
        told = body
        if judgement is not None:
            told = scrub(body) if judgement.veiled else body
            if judgement.edits:
                told = upstream.move_position(told, judgement.client_position)
        found = talk.told(told + TORN if torn else told)
        if found.fatal:
            self.fatal = found
        recorded = self._failed(gone, found)
        if self._muted and not found.fatal:
            return b""
        if found.fatal or not recorded:
            talk.note(found)
        return None if told is body else build.message(b"E", told)

    def _failed(self, gone: list[Owed], found: upstream.Report) -> bool:
        """An error ends what is running, and in the extended protocol all up to the Sync (`gone`); returns whether a
        statement has ended with it."""
        talk = self._talk
        if not gone:
            return False
        failed = gone[0]
        undone: list[Change] = []
        if failed.kind == QUERY:
            # What came before the failing statement has happened, and PREPARE is not taken back by a rollback.
            undone = [change for index, made in failed.undo or () if index >= failed.done for change in made]
        elif failed.kind in (PARSE, BIND) and failed.undo[0].name == b"":
            # Postgres drops the unnamed statement before it reads the new text, the unnamed portal before it plans.
            failed.undo[0].before = None
        told: upstream.Report | None = found
        for entry in gone:
            if entry.kind == QUERY and entry is not failed:
                # Skipped as a whole, because no Sync came between it and the error.
                undone += [change for _, made in entry.undo or () for change in made]
            elif entry.kind not in (QUERY, DESCRIBE) and entry.undo:
                undone += entry.undo
            if entry.portal is not None:
                # Where it was skipped, the next Execute is its first: what that runs is asked about anew.
                entry.portal.runs -= 1
            if talk.fail(entry, found.sqlstate, told):
                told = None
        if undone:
            talk.names.take_back(undone, self._pending(failed))
        return told is None

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

    # Limits and answers of daypass's own

    def _own(self, entry: Owed) -> bytes:
        """The row that answers SHOW daypass.…, where this entry runs one now."""
        statements = entry.judgement.statements
        statement = statements[entry.done] if entry.done < len(statements) else None
        if statement is None or statement.kind != "show" or statement.name not in OWN_SETTINGS:
            return b""
        entry.rows += 1
        return build.text_row(self._talk.own(statement.name))

    def _last_rows(self, entry: Owed, data: bytes, pos: int) -> tuple[int, Ended]:
        """Count the rows that a limit still has room for; returns where they end, and the limit."""
        step = 1 + uint32(data, pos + 1)
        while (ended := self._talk.meter.take(entry, 1, step)) is None:
            pos += step
            step = 1 + uint32(data, pos + 1)
        return pos, ended

    def _end_statement(self, ended: Ended) -> bytes:
        """A limit ends the running statement: returns what the client is told; the upstream is cancelled."""
        talk = self._talk
        detail = f"rule {ended.rule}, policy {talk.judge.policy.name}"
        no = refusal("limit", detail=detail, text=ended.text, hint=ended.hint)
        talk.tally.denied[ended.rule] = talk.tally.denied.get(ended.rule, 0) + 1
        talk.recording.append(
            events.Notice(severity=no.severity, sqlstate=no.sqlstate, text=no.text, hint=no.hint, rule=ended.rule)
        )
        entry = talk.ledger.cut()
        done = entry.done
        talk.fail(entry, no.sqlstate)
        # It has its outcome; what the upstream makes of it still says what names mean.
        entry.done, entry.n = done, 0
        self._muted = True
        talk.stop()
        return no.message

    # Messages that stream

    def _begin(self, kind: int, data: bytes, pos: int, end: int, size: int) -> bytes | None:
        """The first part of a message that is too long to hold; what goes to the client in place of all of it."""
        ledger = self._talk.ledger
        if kind == framing.ERROR:
            return self._error(data[pos + HEADER : end], torn=True)
        if kind == framing.NOTICE:
            return self._notice(data[pos + HEADER : end], torn=True)
        if kind == framing.NOTIFICATION:
            return None
        if kind not in b"DdTtV":
            raise ProtocolViolation(f"a message of type {framing.printable(kind)} that is far too long")
        entry = ledger.reply(kind)
        if self._muted:
            return b""
        if kind in (DATA_ROW, COPY_DATA):
            ended = self._talk.meter.take(entry, 1, size)
            if ended is not None:
                return self._end_statement(ended)
        if self._shown is not None and kind in (DATA_ROW, COPY_DATA, FUNCTION_RESULT):
            self._row = (entry.n + entry.done, max(1, entry.rows))
            self._shown.part(*self._row, data[pos:end], more=True)
        return None

    def _stream(self, data: bytes, parts: list[bytes]) -> int:
        """More of a message that is too long to hold; returns where it ends in `data`."""
        step = min(self._rest, len(data))
        self._rest -= step
        if self._shown is not None and self._row[0]:
            self._shown.part(*self._row, data[:step], more=self._rest > 0)
            if not self._rest:
                self._row = (0, 0)
        parts.append(b"" if self._dropping else data if step == len(data) else data[:step])
        if not self._rest:
            self._dropping = False
            parts.append(self._later)
            self._later = b""
            if self._talk.ledger.held:
                parts.append(self._talk.ledger.released(self._talk.tx))
        return step


def _veiled(entry: Owed) -> bool:
    return entry.judgement is not None and entry.judgement.veiled
