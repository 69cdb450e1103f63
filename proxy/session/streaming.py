"""Messages that are too long to keep, where nothing is refused: they pass in pieces, and the record gets their hash.

Only in observe mode. Of the message only its beginning is read, which names what it acts on; its statement is recorded
with size and SHA-256 before the last piece is passed on, and Postgres does nothing before it has the last piece.
Invariant: what was not read is never shown as if it had been: no text, no values, and names that it may have changed
are forgotten.
"""

from __future__ import annotations

import hashlib
from typing import Final

from proxy.policy.judgement import Statement
from proxy.session.talk import Talk
from proxy.wire import framing
from proxy.wire.ledger import CALL, QUERY, Owed

STREAMED: Final = frozenset((framing.QUERY, framing.PARSE, framing.BIND, framing.FUNCTION_CALL))
_NAMES: Final = {framing.PARSE: 1, framing.BIND: 2}
LONGEST_HEAD: Final = 10_000
"""Bytes in which the names at the beginning of a message must end; where they do not, it is refused after all."""


class Streamed:
    """One such message. `head` are its names, or the oid of a FunctionCall's function."""

    __slots__ = ("_digest", "_size", "head", "kind")

    def __init__(self, kind: int, size: int, head: list[bytes]) -> None:
        self.kind = kind
        self.head = head
        self._size = size
        self._digest = hashlib.sha256()

    def take(self, piece: bytes) -> None:
        """The next piece has come."""
        self._digest.update(piece)

    @property
    def reason(self) -> str:
        """What the record says about it, once it is whole."""
        return not_kept(self._size, self._digest.hexdigest())


def head(kind: int, data: bytes, pos: int, end: int) -> list[bytes] | None:
    """What a message whose body begins at `pos` begins with; None while that has not come."""
    if kind == framing.FUNCTION_CALL:
        return [data[pos : pos + 4]] if end - pos >= 4 else None
    found: list[bytes] = []
    end = min(end, pos + LONGEST_HEAD)
    for _ in range(_NAMES.get(kind, 0)):
        nul = data.find(0, pos, end)
        if nul < 0:
            return None
        found.append(data[pos:nul])
        pos = nul + 1
    return found


def unread(reason: str, rule: str = "observe.limit.statement", sql: str = "") -> Statement:
    """A statement of which no more is known than why."""
    return Statement(
        kind="other",
        verdict="allow",
        rule=rule,
        reason=reason,
        hint="",
        position=None,
        sql=sql,
        rewritten=None,
        name=None,
        tables=(),
        functions=(),
    )


def query(talk: Talk, message: Streamed) -> None:
    """A Query has passed: one statement in the record, however many it holds."""
    n = talk.record(unread(message.reason), protocol="simple")
    names = talk.names
    # It may have prepared, dropped and declared anything.
    changes = names.clear(names.statements) + names.clear(names.portals)
    talk.ledger.entries.append(Owed(QUERY, n, talk.active, [(0, changes)]))


def call(talk: Talk, message: Streamed) -> None:
    """A FunctionCall has passed."""
    sql = f"function oid {int.from_bytes(message.head[0], 'big')}"
    n = talk.record(unread(message.reason, "observe.statement", sql), protocol="function")
    talk.ledger.entries.append(Owed(CALL, n, talk.active))


def not_kept(size: int, digest: str) -> str:
    """What the record says about a message that was not kept."""
    return f"a message of {size} bytes, not kept; its SHA-256 is {digest}"
