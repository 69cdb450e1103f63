"""A conversation as people read it: one line a message, in the form of libpq's PQtrace.

    F	13	Query	 "SELECT 1"
    B	11	DataRow	 1 1 '1'

Bytes of either direction in, lines out: F is what the client says, B what the server says, the number is the length
word. Passwords, SASL payloads and cancel keys are never in a line; everything else is, values too.
Invariants: never raises, whatever the bytes are; keeps a bounded part of a message; no byte of a peer can end a line.
Source: PostgreSQL manual, "PQtrace", "Message Formats".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.wire import framing, startup, upstream

LONGEST_FIELD: Final = 256
"""Bytes of one text or value that are shown."""
KEPT: Final = 16 * 1024
"""Bytes of one message that are kept until it is whole; the rest is counted."""
BUILT_IN: Final = 16_384
"""OIDs below this one are the same in every database."""
BLANK: Final = "***"
"""What stands in the place of a secret."""
VOLATILE: Final = "NNNN"
"""What stands in the place of what differs from run to run."""
IN_THE_SOURCE: Final = b"FLR"
"""The fields of an error that say where in the server's source it was found."""

# A letter is one field: s string, b byte as a character, h int16, i int32, o OID, p process id, v value with its
# length, k a secret to the end, e the fields of an error, r a column's description, x all that is left as a value.
# * repeats the next letter as often as an int16 says, + as often as an int32 says.
_FRONT: Final = {
    framing.QUERY: ("Query", "s"),
    framing.PARSE: ("Parse", "ss*o"),
    framing.BIND: ("Bind", "ss*h*v*h"),
    framing.DESCRIBE: ("Describe", "bs"),
    framing.EXECUTE: ("Execute", "si"),
    framing.CLOSE: ("Close", "bs"),
    framing.FLUSH: ("Flush", ""),
    framing.SYNC: ("Sync", ""),
    framing.TERMINATE: ("Terminate", ""),
    framing.FUNCTION_CALL: ("FunctionCall", "o*h*vh"),
    framing.COPY_DATA: ("CopyData", "x"),
    framing.COPY_DONE: ("CopyDone", ""),
    framing.COPY_FAIL: ("CopyFail", "s"),
}
_BACK: Final = {
    framing.PARAMETER_STATUS: ("ParameterStatus", "ss"),
    framing.BACKEND_KEY_DATA: ("BackendKeyData", "pk"),
    framing.NEGOTIATE_VERSION: ("NegotiateProtocolVersion", "hh+s"),
    framing.READY_FOR_QUERY: ("ReadyForQuery", "b"),
    framing.ROW_DESCRIPTION: ("RowDescription", "*r"),
    framing.DATA_ROW: ("DataRow", "*v"),
    framing.COMMAND_COMPLETE: ("CommandComplete", "s"),
    framing.EMPTY_QUERY: ("EmptyQueryResponse", ""),
    framing.PORTAL_SUSPENDED: ("PortalSuspended", ""),
    framing.PARSE_COMPLETE: ("ParseComplete", ""),
    framing.BIND_COMPLETE: ("BindComplete", ""),
    framing.CLOSE_COMPLETE: ("CloseComplete", ""),
    framing.NO_DATA: ("NoData", ""),
    framing.PARAMETER_DESCRIPTION: ("ParameterDescription", "*o"),
    framing.COPY_IN: ("CopyInResponse", "b*h"),
    framing.COPY_OUT: ("CopyOutResponse", "b*h"),
    framing.COPY_BOTH: ("CopyBothResponse", "b*h"),
    framing.COPY_DATA: ("CopyData", "x"),
    framing.COPY_DONE: ("CopyDone", ""),
    framing.FUNCTION_RESULT: ("FunctionCallResponse", "v"),
    framing.ERROR: ("ErrorResponse", "e"),
    framing.NOTICE: ("NoticeResponse", "e"),
    framing.NOTIFICATION: ("NotificationResponse", "pss"),
}
_COLUMN: Final = "sohohih"
_AUTHENTICATION: Final = {
    upstream.OK: "AuthenticationOk",
    upstream.CLEARTEXT: "AuthenticationCleartextPassword",
    upstream.MD5: "AuthenticationMD5Password",
    upstream.SASL: "AuthenticationSASL",
    upstream.SASL_CONTINUE: "AuthenticationSASLContinue",
    upstream.SASL_FINAL: "AuthenticationSASLFinal",
}
_RESPONSE: Final = {upstream.SASL: "SASLInitialResponse", upstream.SASL_CONTINUE: "SASLResponse"}


class Conversation:
    """Both directions of one connection. `started` says that its StartupMessage has gone by already.

    `steady` leaves out what differs from run to run (process ids, OIDs that are not built in, where in its source the
    server found an error), so that two traces can be compared.
    """

    def __init__(self, *, steady: bool = False, started: bool = False) -> None:
        self._steady = steady
        self._asked = upstream.OK
        """What the server last asked for in its authentication: it names the client's answer."""
        self._front = _Lane(typed=started)
        self._back = _Lane(typed=True)

    def client(self, data: bytes) -> list[str]:
        """The lines of what the client sent."""
        return [self._line("F", kind, length, body) for kind, length, body in self._front.feed(data)]

    def server(self, data: bytes) -> list[str]:
        """The lines of what the server sent."""
        return [self._line("B", kind, length, body) for kind, length, body in self._back.feed(data)]

    def _line(self, side: str, kind: int, length: int, body: bytes) -> str:
        reader = _Reader(body, self._steady)
        if kind == UNTYPED:
            name, words = _opening(body, reader)
        elif length < 4:
            name, words = f"a message of type {framing.printable(kind)} with a length that cannot be", []
        elif side == "F" and kind == framing.PASSWORD:
            name, words = _RESPONSE.get(self._asked, "PasswordMessage"), list(reader.fields("k"))
        elif side == "B" and kind == framing.AUTHENTICATION:
            self._asked = int.from_bytes(body[:4], "big")
            name, words = _authentication(self._asked, reader)
        else:
            name, spec = (_FRONT if side == "F" else _BACK).get(kind, (f"Unknown {framing.printable(kind)}", "x"))
            words = list(reader.fields(spec))
        missing = length - 4 - len(body)
        if missing > 0:
            words.append(f"(+{missing} bytes)")
        elif reader.torn or reader.left:
            words.append("(malformed)")
        shown = "NN" if self._steady and kind in (framing.ERROR, framing.NOTICE) and side == "B" else str(length)
        return f"{side}\t{shown}\t{name}" + ("\t " + " ".join(words) if words else "")


def _opening(body: bytes, reader: _Reader) -> tuple[str, list[str]]:
    """(name, fields) of a packet without a type byte."""
    code = int.from_bytes(body[:4], "big")
    if code == startup.CANCEL_REQUEST:
        reader.pos = 4
        return "CancelRequest", list(reader.fields("pk"))
    if code in (startup.SSL_REQUEST, startup.GSSENC_REQUEST):
        reader.pos = 4
        return ("SSLRequest" if code == startup.SSL_REQUEST else "GSSENCRequest"), []
    words = list(reader.fields("hh"))
    while reader.left > 1 and not reader.torn:
        words += reader.fields("s")
    if not reader.torn:
        words += reader.fields("s")
    return "StartupMessage", words


def _authentication(what: int, reader: _Reader) -> tuple[str, list[str]]:
    reader.pos = min(4, len(reader.body))
    name = _AUTHENTICATION.get(what, f"Authentication {what}")
    if what != upstream.SASL:
        return name, list(reader.fields("k")) if reader.left else []
    words: list[str] = []
    while reader.left > 1 and not reader.torn:
        words += reader.fields("s")
    reader.pos = len(reader.body)
    return name, words


UNTYPED: Final = -1


class _Lane:
    """One direction: bytes in, (type, length word, kept part of the body) out."""

    def __init__(self, *, typed: bool) -> None:
        self._typed = typed
        self._buffer = bytearray()
        self._skip = 0
        self._broken = False

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        if self._broken:
            return
        buffer = self._buffer
        buffer += data
        while True:
            step = min(self._skip, len(buffer))
            del buffer[:step]
            self._skip -= step
            head = framing.HEADER if self._typed else framing.HEADER - 1
            if self._skip or len(buffer) < head:
                return
            kind = buffer[0] if self._typed else UNTYPED
            length = int.from_bytes(buffer[head - 4 : head], "big")
            if length < 4:
                # There is no telling where the next message begins.
                self._broken = True
                buffer.clear()
                yield kind, length, b""
                return
            keep = min(length - 4, KEPT)
            if len(buffer) < head + keep:
                return
            body = bytes(buffer[head : head + keep])
            del buffer[: head + keep]
            self._skip = length - 4 - keep
            self._typed = True
            yield kind, length, body


class _Torn(Exception):
    """A message ends inside a field."""


class _Reader:
    """The fields of one body, in words. `torn` once the body ended inside a field."""

    def __init__(self, body: bytes, steady: bool) -> None:
        self.body = body
        self.pos = 0
        self.torn = False
        self._steady = steady

    @property
    def left(self) -> int:
        """Bytes that no field has taken."""
        return len(self.body) - self.pos

    def fields(self, spec: str) -> Iterator[str]:
        """The words of what `spec` names, as far as the body goes."""
        try:
            yield from self._fields(spec)
        except _Torn:
            self.torn = True

    def _fields(self, spec: str) -> Iterator[str]:
        letters = iter(spec)
        for letter in letters:
            if letter in "*+":
                count = self._number(2 if letter == "*" else 4)
                yield str(count)
                inner = next(letters)
                for _ in range(count):
                    yield from self._fields(_COLUMN if inner == "r" else inner)
            elif letter == "e":
                yield from self._report()
            else:
                yield self._field(letter)

    def _field(self, letter: str) -> str:
        if letter == "s":
            return _text(self._string())
        if letter == "b":
            return _safe(self._take(1).decode("latin-1"))
        if letter == "h":
            return str(self._number(2, signed=True))
        if letter == "i":
            return str(self._number(4, signed=True))
        if letter == "p":
            found = self._number(4)
            return VOLATILE if self._steady else str(found)
        if letter == "o":
            found = self._number(4)
            return VOLATILE if self._steady and found >= BUILT_IN else str(found)
        if letter == "k":
            self.pos = len(self.body)
            return BLANK
        if letter == "x":
            return _value(self._take(self.left))
        size = self._number(4, signed=True)
        return "-1" if size < 0 else f"{size} {self._value(size)}"

    def _value(self, size: int) -> str:
        there = self.body[self.pos : self.pos + size]
        self.pos += len(there)
        if len(there) < min(size, LONGEST_FIELD):
            raise _Torn
        if len(there) < size:
            self.torn = True
        return _value(there, size)

    def _report(self) -> Iterator[str]:
        while code := self._take(1)[0]:
            text = self._string()
            yield _safe(chr(code))
            yield '"SSSS"' if self._steady and code in IN_THE_SOURCE else _text(text)

    def _string(self) -> bytes:
        nul = self.body.find(0, self.pos)
        if nul < 0:
            raise _Torn
        return self._take(nul + 1 - self.pos)[:-1]

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "big", signed=signed)

    def _take(self, size: int) -> bytes:
        if self.left < size:
            raise _Torn
        self.pos += size
        return self.body[self.pos - size : self.pos]


def _text(data: bytes) -> str:
    """A string in double quotes."""
    shown = data[:LONGEST_FIELD].decode("utf-8", "backslashreplace" if len(data) <= LONGEST_FIELD else "replace")
    more = f" (+{len(data) - LONGEST_FIELD} bytes)" if len(data) > LONGEST_FIELD else ""
    return f'"{_safe(shown)}"{more}'


def _value(data: bytes, size: int = 0) -> str:
    """Bytes in single quotes: what is printable ASCII as it is, the rest as \\xNN."""
    size = size or len(data)
    shown = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in data[:LONGEST_FIELD])
    return f"'{shown}'" + (f" (+{size - LONGEST_FIELD} bytes)" if size > LONGEST_FIELD else "")


def _safe(text: str) -> str:
    """The text with everything that could end or hide a line written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
