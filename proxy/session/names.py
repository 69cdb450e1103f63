"""What the client has named upstream: prepared statements and portals, by wire and by SQL.

`EXECUTE p` and a Bind of `p` mean the same thing upstream, so both kinds of name live in one map each. Entries are
made when a message is forwarded and taken back when the upstream fails or skips it. What a message did to a name is in
doubt for those behind it that would run although it failed: behind a Sync, or a Query. They wait for the answers, so
what runs under a name is what the maps say, and therefore what the record says.
Invariant: names are cut at 63 bytes as Postgres cuts them, and names and texts are bounded in number and size.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.policy.judge import Judgement, Judges, Statement

NAME_BYTES: Final = 63
MOST_NAMES: Final = 5_000
MOST_BYTES: Final = 32 << 20

NAMING: Final = frozenset(("prepare", "execute", "deallocate", "declare", "close", "discard"))
"""Kinds of SQL statement that make, use or drop names."""


class InDoubt(Exception):
    """What a name means depends on answers that are still to come."""


class Prepared:
    """A prepared statement: its text, and what was said about it by which judge.

    `statement` is None for an empty text. `judgement` is kept where the text that went upstream is another one.
    """

    __slots__ = ("judge", "judgement", "sql", "statement", "turn", "types")

    def __init__(
        self,
        sql: bytes,
        types: tuple[int, ...],
        statement: Statement | None,
        judge: Judges,
        judgement: Judgement | None = None,
    ) -> None:
        self.sql = sql
        self.types = types
        self.statement = statement
        self.judge = judge
        self.judgement = judgement
        self.turn = 0

    @property
    def size(self) -> int:
        return len(self.sql)

    def judged_by(self, judge: Judges, found: Judgement) -> Statement | bool:
        """What another judge found: True: it may run as prepared, False: only a new text would; or the denial."""
        if not found.allowed and found.refusal is not None:
            return found.refusal
        now = found.statements[0] if found.statements else None
        if (now and now.rewritten) != (self.statement and self.statement.rewritten):
            return False
        self.judge = judge
        return True


class Portal:
    """A bound statement with its values as the record will show them, or an SQL cursor."""

    __slots__ = ("name", "params", "prepared", "runs", "size", "turn")

    def __init__(self, name: str, prepared: Prepared, params: list[Any] | None, size: int = 0) -> None:
        self.name = name
        self.prepared = prepared
        self.params = params
        self.runs = 0
        self.size = size
        self.turn = 0


class Change:
    """What a message did to a map, so that it can be taken back. `before` is None where there was nothing."""

    __slots__ = ("before", "kept", "name")

    def __init__(self, kept: dict[bytes, Any], name: bytes, before: Any) -> None:
        self.kept = kept
        self.name = name
        self.before = before


class Names:
    """The two maps."""

    __slots__ = ("_gone", "octets", "portals", "settled", "statements", "turn")

    def __init__(self) -> None:
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.octets = 0
        self.turn = 0
        """Counts what ends an error's reach: each Sync, Query and FunctionCall that was sent."""
        self.settled = 0
        """What was done to names before this turn has been answered."""
        self._gone: dict[tuple[bool, bytes], int] = {}
        """The turn in which a name was dropped, until that is settled; true for those of statements."""

    def room(self, size: int) -> bool:
        """Whether another name with `size` bytes of text may be kept."""
        return len(self.statements) + len(self.portals) < MOST_NAMES and self.octets + size <= MOST_BYTES

    def statement(self, name: bytes) -> Prepared | None:
        """The prepared statement that the upstream will find under a name. Raises InDoubt."""
        found = self.statements.get(name[:NAME_BYTES])
        turn = found.turn if found is not None else self._gone.get((True, name[:NAME_BYTES]), self.turn)
        if self.settled <= turn != self.turn:
            raise InDoubt
        return found

    def portal(self, name: bytes) -> Portal | None:
        """The portal that the upstream will find under a name. Raises InDoubt."""
        found = self.portals.get(name[:NAME_BYTES])
        turn = found.turn if found is not None else self._gone.get((False, name[:NAME_BYTES]), self.turn)
        if self.settled <= turn != self.turn:
            raise InDoubt
        return found

    def settle(self) -> None:
        """Everything that was sent in earlier turns has been answered."""
        self.settled = self.turn
        if self._gone:
            self._gone.clear()

    def put(self, kept: dict[bytes, Any], name: bytes, value: Prepared | Portal | None) -> Change:
        """What a message that is sent now does to a name: set or drop it; returns how to take it back."""
        if value is not None:
            value.turn = self.turn
        else:
            self._gone[kept is self.statements, name[:NAME_BYTES]] = self.turn
        return self._set(kept, name, value)

    def _set(self, kept: dict[bytes, Any], name: bytes, value: Prepared | Portal | None) -> Change:
        name = name[:NAME_BYTES]
        before = kept.get(name)
        if before is not None:
            self.octets -= before.size
        if value is None:
            kept.pop(name, None)
        else:
            self.octets += value.size
            kept[name] = value
        return Change(kept, name, before)

    def take_back(self, changes: list[Change], pending: list[Change]) -> None:
        """Undo changes, the latest first. `pending` are those of messages behind them that may still succeed.

        Where a later message has changed the same name, its change stands, and what it would go back to is corrected.
        """
        for change in reversed(changes):
            later = next((p for p in pending if p.kept is change.kept and p.name == change.name), None)
            if later is None:
                self._set(change.kept, change.name, change.before)
            else:
                later.before = change.before

    def clear(self, kept: dict[bytes, Any]) -> list[Change]:
        """Drop every name of one map."""
        return [self.put(kept, name, None) for name in list(kept)]

    def end_transaction(self) -> None:
        """Portals die with their transaction; SQL cursors may outlive it (WITH HOLD) and are kept."""
        if len(self.portals) == 1 and b"" in self.portals:
            # The unnamed portal alone: the next Bind replaces it, and until then it leads nowhere upstream.
            return
        gone = [name for name, portal in self.portals.items() if portal.params is not None]
        for name in gone:
            self._set(self.portals, name, None)

    def follow(self, statement: Statement, judge: Judges) -> list[Change]:
        """What a successful SQL statement of a NAMING kind does to the maps (EXECUTE does nothing)."""
        name = (statement.name or "").encode()
        kind = statement.kind
        if kind in ("prepare", "declare"):
            prepared = Prepared(statement.sql.encode("utf-8", "surrogatepass"), (), statement, judge)
            if kind == "prepare":
                return [self.put(self.statements, name, prepared)]
            return [self.put(self.portals, name, Portal(statement.name or "", prepared, None))]
        if kind == "deallocate":
            return [self.put(self.statements, name, None)] if name else self.clear(self.statements)
        if kind == "close":
            return [self.put(self.portals, name, None)] if name else self.clear(self.portals)
        if kind == "discard" and statement.name == "":
            return self.clear(self.statements) + self.clear(self.portals)
        return []
