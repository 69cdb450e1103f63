"""Records without values: what `recording.literals` leaves of texts, parameters and the server's words.

`hash` puts a keyed hash in a value's place, the same for the same value wherever it stands; `drop` puts nothing there.
A text that no grammar could read is a hash and a length. Knows nothing of events. Invariant: nothing that a client
wrote as a value, and nothing that the server might repeat of it, comes out of here.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from msgspec.structs import replace

from proxy.policy import literals
from proxy.policy.judgement import Statement
from proxy.session.scrub import bare
from proxy.wire import upstream

GONE: Final = "…"
_SHA256: Final = re.compile(r"\b[0-9a-f]{64}\b")
KEPT: Final = 1024
KEPT_BYTES: Final = 16 << 10


class Literals:
    """For one session. `hashed`: whether values leave their hash; `key` is the installation's."""

    __slots__ = ("_hashed", "_key", "_known")

    def __init__(self, *, hashed: bool, key: bytes) -> None:
        self._hashed = hashed
        self._key = key
        self._known: dict[str, tuple[str, list[str]] | None] = {}

    def text(self, sql: str) -> str | None:
        """A statement's text; None where it cannot be read."""
        found = self._read(sql)
        return None if found is None else found[0]

    def reason(self, reason: str, sql: str = "") -> str:
        """What is said about a statement, without its values. A plain hash in it becomes a keyed one: who knows most of
        a text cannot find the rest by trying."""
        reason = _SHA256.sub(lambda digest: f"{self._digest(digest[0].encode(), 16)} (keyed)", reason)
        found = self._read(sql)
        for value in sorted(found[1] if found else (), key=len, reverse=True):
            if value and value in reason:
                reason = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", GONE, reason)
        return reason

    def statement(self, statement: Statement) -> Statement:
        """A statement as the record may show it."""
        sql = statement.sql
        if not statement.parsed or (shown := self.text(sql)) is None:
            return replace(statement, sql="", rewritten=None, reason=self.unread(sql) if sql else statement.reason)
        rewritten = statement.rewritten
        if rewritten is not None:
            rewritten = self.text(rewritten)
        return replace(statement, sql=shown, rewritten=rewritten, reason=self.reason(statement.reason, sql))

    def unread(self, sql: str) -> str:
        """What is said in place of a text that cannot be read."""
        raw = sql.encode("utf-8", "surrogateescape")
        return f"a text of {len(raw)} bytes that cannot be read, not kept; its keyed hash is {self._digest(raw, 16)}"

    def values(self, values: list[Any]) -> list[Any]:
        """The values of a Bind."""
        return [None if value is None else self._value(value) for value in values]

    def told(self, body: bytes) -> upstream.Report:
        """An error or notice of the server."""
        return upstream.report(bare(body))

    def _value(self, value: Any) -> str:
        if not self._hashed:
            return GONE
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return self._mark(text)

    def _show(self, value: str, number: bool) -> str:
        if self._hashed:
            return f"'{self._mark(value)}'"
        return "0" if number else f"'{GONE}'"

    def _mark(self, text: str) -> str:
        return f"#{self._digest(text.encode('utf-8', 'surrogatepass'), 8)}"

    def _digest(self, raw: bytes, size: int) -> str:
        return hashlib.blake2b(raw, key=self._key, digest_size=size, person=b"daypass literal").hexdigest()

    def _read(self, sql: str) -> tuple[str, list[str]] | None:
        if sql in self._known:
            return self._known[sql]
        found = literals.without(sql, self._show)
        if len(sql) <= KEPT_BYTES:
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[sql] = found
        return found
