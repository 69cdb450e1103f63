"""What the client has named upstream: prepared statements and portals, by wire and by SQL.

`EXECUTE p` and a Bind of `p` mean the same thing upstream, so both kinds of name live in one map each. Entries are
made when a message is forwarded and taken back when the upstream fails or skips it: at every moment the maps say
what the upstream would find under a name, and therefore the record says what really runs.
Invariant: names are cut at 63 bytes as Postgres cuts them, and names and texts are bounded in number and size.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from proxy.policy.judge import Judges
from proxy.policy.judgement import RUNNING, Judgement, Statement
from proxy.wire.upstream import Field
from recorder.forms import Form

NAME_BYTES: Final = 63
MOST_NAMES: Final = 5_000
MOST_BYTES: Final = 32 << 20

SETTLED: Final = 0
"""The group of what certainly stands upstream."""
NEW: Final = -1

NAMING: Final = RUNNING | {"prepare", "deallocate", "declare", "close", "discard"}
"""Kinds of SQL statement that make, use or drop names."""


class Prepared:
    """A prepared statement: its text, and what was said about it by which judge.

    `statement` is None for an empty text. `judgement` is kept where the text that went upstream is another one, or
    where it matters when it runs. `inner`: made by SQL, so `statement` is a PREPARE or DECLARE, and what stands in it
    runs. `unread`: its text is not known, so it may run only where nothing is refused.
    """

    __slots__ = (
        "columns", "form", "formed", "group", "inner", "judge", "judgement", "sql", "statement", "types", "unread",
    )  # fmt: skip

    def __init__(
        self,
        sql: bytes,
        types: tuple[int, ...],
        statement: Statement | None,
        judge: Judges,
        judgement: Judgement | None = None,
        *,
        inner: bool = False,
        unread: bool = False,
    ) -> None:
        self.sql = sql
        self.inner = inner
        self.types = types
        self.statement = statement
        self.judge = judge
        self.judgement = judgement
        self.columns: list[Field] | None = None
        """Those of its result, where rows are recorded and the client has asked for them."""
        self.form: Form | None = None
        """How it is recorded when it runs the way it last did."""
        self.formed: tuple[str, bytes, bool, int] | None = None
        """The way it last ran: its name, the portal, whether from the start, the transaction's state."""
        self.group = NEW
        self.unread = unread

    @property
    def size(self) -> int:
        return len(self.sql)

    @property
    def about_names(self) -> bool:
        """Whether what runs is itself a statement about names, which Parse takes and PREPARE does not."""
        return not self.inner and self.statement is not None and self.statement.kind in NAMING

    @property
    def shown(self) -> str:
        """Its text for the record."""
        return self.sql.decode("utf-8", "surrogateescape")

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
    """A bound statement with its values as the record will show them, or an SQL cursor.


    `unread` is what the record says in place of values that were not kept.
    """

    __slots__ = ("formats", "group", "name", "params", "prepared", "runs", "size", "unread")

    def __init__(
        self, name: str, prepared: Prepared, params: list[Any] | None, size: int = 0, *, unread: str = ""
    ) -> None:
        self.name = name
        self.prepared = prepared
        self.params = params
        self.formats: tuple[int, ...] | None = None
        """Those that its Bind asks for, where rows are recorded."""
        self.runs = 0
        self.size = size
        self.group = NEW
        self.unread = unread

    @property
    def shown(self) -> Statement | None:
        """The statement as the record shows it."""
        statement = self.prepared.statement
        if not self.unread or statement is None:
            return statement
        return replace(statement, reason="; ".join(filter(None, (statement.reason, self.unread))))


class Change:
    """What a message did to a map, so that it can be taken back. `before` and `value` are None for nothing."""

    __slots__ = ("before", "kept", "name", "value")

    def __init__(self, kept: dict[bytes, Any], name: bytes, before: Any, value: Any) -> None:
        self.kept = kept
        self.name = name
        self.before = before
        self.value = value


class Names:
    """The two maps. `group` counts the Syncs and Queries sent: what fails takes all up to the next one with it."""

    __slots__ = ("group", "octets", "portals", "statements")

    def __init__(self) -> None:
        self.group = 1
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.octets = 0

    def room(self, size: int) -> bool:
        """Whether another name with `size` bytes of text may be kept."""
        return len(self.statements) + len(self.portals) < MOST_NAMES and self.octets + size <= MOST_BYTES

    def make_room(self, size: int) -> None:
        """Forget the oldest names, where another one may not be refused."""
        while not self.room(size):
            kept: dict[bytes, Any] = self.statements if any(self.statements) else self.portals
            oldest = next(filter(None, kept), None)
            if oldest is None:
                return
            self.put(kept, oldest, None)

    def put(self, kept: dict[bytes, Any], name: bytes, value: Prepared | Portal | None) -> Change:
        """Set or drop a name; returns how to take it back."""
        name = name[:NAME_BYTES]
        before = kept.get(name)
        if before is not None:
            self.octets -= before.size
        if value is None:
            kept.pop(name, None)
        else:
            self.octets += value.size
            kept[name] = value
            if value.group == NEW:
                value.group = self.group
        return Change(kept, name, before, value)

    def take_back(self, changes: list[Change], pending: list[Change]) -> None:
        """Undo changes, the latest first. `pending` are those of messages behind them that may still succeed.

        Where a later message has changed the same name, its change stands, and what it would go back to is corrected.
        """
        for change in reversed(changes):
            later = next((p for p in pending if p.kept is change.kept and p.name == change.name), None)
            if later is None:
                self.put(change.kept, change.name, change.before)
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
            self.put(self.portals, name, None)

    def follow(self, statement: Statement, judge: Judges) -> list[Change]:
        """What a successful SQL statement of a NAMING kind does to the maps (EXECUTE does nothing)."""
        name = (statement.name or "").encode()
        kind = statement.kind
        if kind in ("prepare", "declare"):
            sql = statement.sql.encode("utf-8", "surrogatepass")
            # An error of what runs later can hold what the policy hides, as one of EXECUTE or FETCH can.
            veiled = judge.policy.mode != "observe"
            judgement = Judgement((statement,), True, sql, veiled=veiled, held=statement.held)
            prepared = Prepared(sql, (), statement, judge, judgement, inner=True)
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
