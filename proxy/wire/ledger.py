"""The ledger of replies that an upstream still owes, in the order in which it owes them.

Every message that earns a reply is entered when it is forwarded; every reply is struck off against the oldest
entry. So a refusal of daypass's own can take its right place among the upstream's answers, and a count of rows
belongs to the right statement. It knows nothing of SQL or policies. Invariant: what Postgres does after an error
is done here too: in the extended protocol it skips everything up to the next Sync, Query messages included.
Sources: PostgreSQL manual, "Extended Query"; `PostgresMain` in `src/backend/tcop/postgres.c` (ignore_till_sync).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from proxy.wire import build
from proxy.wire.framing import ProtocolViolation, printable

QUERY: Final = 0
CALL: Final = 1
PARSE: Final = 2
BIND: Final = 3
DESCRIBE: Final = 4
EXECUTE: Final = 5
CLOSE: Final = 6
SYNC: Final = 7
REFUSAL: Final = 8
NAMES: Final = ("Query", "FunctionCall", "Parse", "Bind", "Describe", "Execute", "Close", "Sync", "refusal")

MOST_ENDS: Final = 100
"""Ends of COPY data that may come ahead of the answer to what they belong to."""

_NOT, _PART, _ENDS = 0, 1, 2


def _table(parts: str, ends: str) -> bytes:
    """For each reply type byte: not an answer to this, a part of the answer, or the end of it."""
    row = bytearray(256)
    for letter in parts:
        row[ord(letter)] = _PART
    for letter in ends:
        row[ord(letter)] = _ENDS
    return bytes(row)


ANSWERS: Final[tuple[bytes, ...]] = (
    _table("TDCIGHWdc", "Z"),  # Query
    _table("V", "Z"),  # FunctionCall
    _table("", "1"),  # Parse
    _table("", "2"),  # Bind
    _table("t", "Tn"),  # Describe
    _table("DGHWdc", "CIs"),  # Execute
    _table("", "3"),  # Close
    _table("", "Z"),  # Sync
    _table("", ""),  # a refusal waits for nobody
)
"""Which reply answers what; ErrorResponse and the asynchronous messages are not in it, they may come at any time."""


class Owed:
    """One entry. What the session keeps with it (`n` and below) means nothing here.

    `n` is the number of the first statement that this message runs (0: none), `count` how many it runs, `done` how
    many of them have ended; `rows` and `octets` count for the statement that is running now; `started` is when it
    began and `first` when its first rows had come (0: not yet), monotonic seconds; `undo`, `judgement` and `portal`
    belong to the session. A refusal has a `reply`, and `count` of ReadyForQuery behind it.
    """

    __slots__ = (
        "count", "done", "first", "judgement", "kind", "n", "octets", "portal", "reply", "rows", "started", "undo",
    )  # fmt: skip

    def __init__(self, kind: int, n: int = 0, started: float = 0.0, undo: Any = None, judgement: Any = None) -> None:
        self.kind = kind
        self.n = n
        self.started = started
        self.undo = undo
        self.judgement = judgement
        self.portal: Any = None
        self.count = 1
        self.done = 0
        self.rows = 0
        self.octets = 0
        self.first = 0.0
        self.reply = b""

    def __repr__(self) -> str:
        return f"<{NAMES[self.kind]} n={self.n}>"


class Ledger:
    """Replies owed. `skipping` is true while the upstream, or daypass in its place, ignores messages up to a Sync."""

    __slots__ = ("_ends", "copying", "entries", "held", "skipping", "unrecorded")

    def __init__(self) -> None:
        self.entries: deque[Owed] = deque()
        self.held = 0
        """How many refusals wait in `entries`."""
        self.unrecorded = 0
        """How many of them, the last, may not be told yet."""
        self.skipping = False
        self.copying = False
        """True between CopyInResponse and the client's CopyDone: Sync and Flush are then ignored upstream."""
        self._ends: list[Owed] = []
        """The entries behind which the client ended COPY data before it had heard that the upstream reads any."""

    def reply(self, kind: int) -> Owed:
        """Strike off a reply; returns the entry that it belongs to. Raises ProtocolViolation when unasked for."""
        entries = self.entries
        if entries:
            head = entries[0]
            fits = ANSWERS[head.kind][kind]
            if fits == _ENDS:
                entries.popleft()
                return head
            if fits:
                return head
            raise ProtocolViolation(f"a reply of type {printable(kind)} does not answer a {NAMES[head.kind]} message")
        raise ProtocolViolation(f"a reply of type {printable(kind)} that nobody asked for")

    def error(self) -> list[Owed]:
        """An ErrorResponse came: the entry that failed, then those that the upstream will skip because of it.

        A Query stays owed until its ReadyForQuery; a Sync likewise. When no Sync is on its way yet, `skipping` is set.
        """
        entries = self.entries
        if not entries:
            return []
        self.copying = False
        head = entries[0]
        self.copying = False
        if head.kind in (QUERY, CALL, SYNC):
            return [head]
        gone: list[Owed] = []
        while entries and entries[0].kind != SYNC:
            entry = entries.popleft()
            if entry.kind == REFUSAL:
                self.held -= 1
            else:
                gone.append(entry)
        if not entries:
            self.skipping = True
        return gone

    def cut(self) -> Owed:
        """daypass itself ends what is running, with an error for the client; returns it.

        For the client it is as `error`; what is owed stays owed, because the upstream may still carry it out.
        """
        entries = self.entries
        head = entries[0]
        if head.kind != QUERY:
            place = next((i for i, entry in enumerate(entries) if entry.kind == SYNC), len(entries))
            if place == len(entries):
                self.skipping = True  # else it is what it was: a message behind that Sync may have been refused
            kept = [entry for i, entry in enumerate(entries) if i > place or entry.kind != REFUSAL]
            self.held -= len(entries) - len(kept)
            self.entries = deque(kept)
        return head

    def refuse(self, reply: bytes, *, ready: bool = False) -> bool:
        """Let `reply`, and a ReadyForQuery with it, wait for its turn; False when nothing is owed: it is now."""
        if not self.entries:
            return False
        entry = Owed(REFUSAL)
        entry.reply = reply
        entry.count = int(ready)
        self.entries.append(entry)
        self.held += 1
        return True

    def released(self, tx: int) -> bytes:
        """The refusals whose turn has come, while the transaction's state is `tx`."""
        entries = self.entries
        ready = b""
        while self.held > self.unrecorded and entries[0].kind == REFUSAL:
            entry = entries.popleft()
            ready += entry.reply + build.ready(tx) if entry.count else entry.reply
            self.held -= 1
        return ready

    @property
    def ready_owed(self) -> bool:
        """True when the upstream owes a ReadyForQuery."""
        return any(entry.kind in (QUERY, CALL, SYNC) for entry in self.entries)

    @property
    def unflushed(self) -> bool:
        """True when the upstream may keep replies to itself until a Flush or Sync comes."""
        for entry in reversed(self.entries):
            if entry.kind != REFUSAL:
                return PARSE <= entry.kind <= CLOSE
        return False

    def copy_in(self) -> None:
        """The upstream now reads COPY data: it ignores every Sync that it finds before the CopyDone."""
        ended = False
        kept: deque[Owed] = deque()
        for entry in self.entries:
            if ended or entry.kind != SYNC:
                kept.append(entry)
            if not ended and any(entry is end for end in self._ends):
                ended = True
                self._ends.remove(entry)
        self.entries = kept
        self.copying = not ended

    def copy_end(self) -> None:
        """The client ended its COPY data, perhaps ahead of the upstream's asking for it. Raises ProtocolViolation."""
        if self.copying or not self.entries:
            self.copying = False
            self._ends.clear()
            return
        last = self.entries[-1]
        if last.kind in (SYNC, DESCRIBE):
            # One object may stand for several entries of these; this one has to be told apart.
            self.entries[-1] = last = Owed(last.kind, last.n, last.started, last.undo, last.judgement)
        if len(self._ends) >= MOST_ENDS:
            self._ends = [end for end in self._ends if any(end is entry for entry in self.entries)]
        if len(self._ends) >= MOST_ENDS:
            raise ProtocolViolation("COPY data that nobody asked for ends too often")
        self._ends.append(last)
