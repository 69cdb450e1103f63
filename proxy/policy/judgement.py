"""The verdict on a text, as a value: what each statement is, whether it may run, and what goes upstream.

Made by `judge`, kept in its caches, carried between processes as msgpack. Frozen: sessions share it. Knows how places
in the text that went upstream map back to the client's own; knows no policy.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from proxy.policy.substitute import Edit

SPACE = " \t\n\r\f\v"
"""What Postgres takes for space. Python takes more, and a text without it would be another text."""

RUNNING = frozenset(("execute", "fetch", "move"))
"""Kinds of statement that run what a name stands for."""


class Statement(msgspec.Struct, frozen=True):
    """The verdict on one statement.

    `kind` is what the statement does (select, set, begin, execute, …); `position` a 1-based character in the client's
    text; `rewritten` the statement with its substitutes where there are any, keys blanked; `name` a prepared
    statement's, cursor's, savepoint's or setting's name, "" for ALL.
    """

    kind: str
    verdict: str
    rule: str
    reason: str
    hint: str
    position: int | None
    sql: str
    rewritten: str | None
    name: str | None
    tables: tuple[str, ...]
    functions: tuple[str, ...]
    held: bool = False
    """Whether another person has to say yes before it runs; a PREPARE itself runs nothing, what executes it does."""
    columns: tuple[str, ...] = ()
    parsed: bool = True
    """Whether Postgres's grammar takes the text for SQL; where not, nobody can say what in it is a value."""


class Judgement(msgspec.Struct, frozen=True):
    """The verdict on one message's text. `forward` is what goes upstream when `allowed`."""

    statements: tuple[Statement, ...]
    allowed: bool
    forward: bytes
    edits: tuple[Edit, ...] = ()
    shape: bytes | None = None
    veiled: bool = False
    """Whether an error of these statements can hold values that the policy hides."""
    held: bool = False
    """Whether one of them waits, or could by what it executes, for another person's yes."""

    @property
    def plain(self) -> bool:
        """Whether these statements need no more than to be passed on."""
        return not self.edits and not self.veiled and not self.held

    @property
    def verdict(self) -> str:
        """The hardest verdict on any of the statements."""
        found = {s.verdict for s in self.statements}
        return next((verdict for verdict in ("deny", "hold", "mask") if verdict in found), "allow")

    @property
    def refusal(self) -> Statement | None:
        """The first statement that is denied."""
        return next((s for s in self.statements if s.verdict == "deny"), None)

    def client_position(self, position: int) -> int:
        """A 1-based character position in `forward`, as Postgres reports it, mapped back to the client's text."""
        if not self.edits:
            return position
        at = len(self.forward.decode(errors="replace")[: position - 1].encode())
        original, shift = at, 0
        for edit in sorted(self.edits, key=lambda e: e.start):
            start = edit.start + shift
            if at < start:
                break
            if at < start + len(edit.new):
                original = edit.start
                break
            shift += len(edit.new) - (edit.end - edit.start)
            original = at - shift
        else:
            original = at - shift
        return original + 1 if self.forward.isascii() else self._characters(original) + 1

    def _characters(self, offset: int) -> int:
        """Characters before a byte offset of the client's text."""
        text, at, shift = self.forward, 0, 0
        out = b""
        for edit in sorted(self.edits, key=lambda e: e.start):
            out += text[at + shift : edit.start + shift] + b"?" * (edit.end - edit.start)
            at, shift = edit.end, shift + len(edit.new) - (edit.end - edit.start)
        return len((out + text[at + shift :])[:offset].decode(errors="ignore"))


def with_text(same: Judgement, sql: bytes) -> Judgement:
    """The same verdict on another text of its shape."""
    return replace(same, statements=(replace(same.statements[0], sql=sql.decode().strip(SPACE)),), forward=sql)
