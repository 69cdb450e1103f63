"""How much a grant may take: rows and bytes for a statement, a session and the grant, and statements a minute.

What a grant has spent is shared by its sessions and outlives them in the state; a session counts what it passes on,
whole rows only. Knows no messages and no sockets. Invariant: a row is counted before the client gets it, and no row
is passed on that a limit leaves no room for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.policy.model import Limits
from proxy.units import format_size
from proxy.wire.ledger import Owed

if TYPE_CHECKING:
    from proxy.session.commons import Tab

FREE: Final = frozenset(
    (
        "begin", "commit", "rollback", "savepoint", "release", "set", "reset", "show", "discard", "deallocate",
        "close", "unlisten", "other",
    )
)  # fmt: skip
"""Kinds of statement that return no rows of the database and that a client needs to get out of where it is."""
ASK: Final = "SHOW daypass.budget tells what is left; ask the owner for a larger budget."
NARROW: Final = "Narrow the query with WHERE or LIMIT, or aggregate in the database."


class Spent:
    """What one grant has used; `new_*` is not in the state yet. It stands on the `ground`
    that processes share; without one this process counts alone."""

    def __init__(self, rows: int = 0, octets: int = 0, ground: Tab | None = None) -> None:
        self._ground = ground
        self._rows = rows
        self._octets = octets
        self._tokens = -1.0
        self._filled = 0.0
        self.new_rows = 0
        self.new_octets = 0

    @property
    def rows(self) -> int:
        """Rows that the grant has taken so far."""
        return self._rows if self._ground is None else self._rows + self._ground.used()[0]

    @property
    def octets(self) -> int:
        """Bytes that the grant has taken so far."""
        return self._octets if self._ground is None else self._octets + self._ground.used()[1]

    def add(self, rows: int, octets: int) -> None:
        """Something more goes to the client."""
        self._rows += rows
        self._octets += octets
        self.new_rows += rows
        self.new_octets += octets

    def publish(self) -> None:
        """Let other processes see it: at once where the grant has a limit, else now and then."""
        if self._ground is not None and (self._rows or self._octets):
            self._ground.put(self._rows, self._octets)
            self._rows = self._octets = 0

    def wait(self, per_minute: int, now: float) -> float:
        """Take one statement of `per_minute`; 0, or the seconds until there is one. `now`: monotonic seconds."""
        if self._ground is not None:
            return self._ground.wait(per_minute, now)
        self._tokens, wait = refilled(self._tokens, self._filled, per_minute, now)
        self._filled = now
        return wait


def refilled(tokens: float, filled: float, per_minute: int, now: float) -> tuple[float, float]:
    """The statements that may run at once after one has been taken of them, and 0, or the seconds until there is one.
    `tokens` (below zero: not started yet) were there at `filled`."""
    most = float(per_minute)
    there = most if tokens < 0 else min(most, tokens + max(0.0, now - filled) * most / 60)
    return (there - 1, 0.0) if there >= 1 else (there, (1 - there) * 60 / most)


@dataclass(frozen=True, slots=True)
class Ended:
    """A limit that leaves no room: its rule, its key in the policy, what the client is told."""

    rule: str
    limit: str
    text: str
    hint: str


class Meter:
    """One session's count under the limits that apply to it now."""

    __slots__ = ("_bounds", "_limits", "_shared", "octets", "rows", "spent", "unlimited")

    def __init__(self, limits: Limits, spent: Spent) -> None:
        self.spent = spent
        self.rows = 0
        self.octets = 0
        self.apply(limits)

    @property
    def limits(self) -> Limits:
        """The limits that apply."""
        return self._limits

    def apply(self, limits: Limits) -> None:
        """From now on these limits apply."""
        self._limits = limits
        names = (f"{what}_per_{scope}" for scope in ("statement", "session", "grant") for what in ("rows", "bytes"))
        self._bounds = [(name, getattr(limits, name)) for name in names if getattr(limits, name) is not None]
        self._shared = any(name.endswith("_per_grant") for name, _ in self._bounds)
        self.unlimited = not self._bounds and limits.statements_per_minute is None and limits.plan_cost is None
        """Whether every statement may begin."""

    def take(self, entry: Owed, rows: int, octets: int) -> Ended | None:
        """Count rows of `entry` that are about to be passed on; or say which limit has no room, and count nothing."""
        for name, limit in self._bounds:
            what, _, scope = name.partition("_per_")
            more = rows if what == "rows" else octets
            if self._used(what, scope, entry) + more > limit:
                return self._ended(name, limit)
        entry.rows += rows
        entry.octets += octets
        self.rows += rows
        self.octets += octets
        self.spent.add(rows, octets)
        if self._shared:
            self.spent.publish()
        return None

    def admit(self, kinds: tuple[str, ...], now: float) -> Ended | None:
        """Whether statements of these kinds may begin; None: they may, and count."""
        asking = [kind for kind in kinds if kind not in FREE]
        if not asking:
            return None
        for name, limit in self._bounds:
            what, _, scope = name.partition("_per_")
            if scope != "statement" and self._used(what, scope, None) >= limit:
                return self._ended(name, limit)
        per_minute = self._limits.statements_per_minute
        if per_minute is not None:
            for _ in asking:
                if wait := self.spent.wait(per_minute, now):
                    text = f"more than {per_minute:,} statements a minute (limits.statements_per_minute)"
                    return Ended("limit.rate", "statements_per_minute", text, f"Wait {wait:.1f} s.")
        return None

    def lines(self) -> list[str]:
        """What is used and what is left, for people."""
        found = []
        for name, limit in self._bounds:
            what, _, scope = name.partition("_per_")
            told = _count if what == "rows" else _size
            if scope == "statement":
                found.append(f"{what}: at most {told(limit)} for each statement")
            else:
                used = self._used(what, scope, None)
                found.append(f"{what}: {told(used)} of {told(limit)} used by this {scope}")
        limits = self._limits
        if limits.statements_per_minute is not None:
            found.append(f"statements: at most {limits.statements_per_minute:,} a minute")
        if limits.plan_cost is not None:
            found.append(f"plan cost: at most {limits.plan_cost:,.0f} for each statement")
        return found or ["no limit on rows or bytes"]

    def _used(self, what: str, scope: str, entry: Owed | None) -> int:
        if scope == "statement":
            return 0 if entry is None else entry.rows if what == "rows" else entry.octets
        held = self if scope == "session" else self.spent
        return held.rows if what == "rows" else held.octets

    def _ended(self, name: str, limit: int) -> Ended:
        what, _, scope = name.partition("_per_")
        amount = f"{limit:,} rows" if what == "rows" else _size(limit)
        text = f"{amount} is all that one {scope} may return (limits.{name})"
        return Ended(f"limit.{what}", name, text, NARROW if scope == "statement" else ASK)


def _count(count: int) -> str:
    """A count with thousands set apart."""
    return f"{count:,}"


def _size(octets: int) -> str:
    """Bytes, exact where the policy says them and rounded where they were counted."""
    if octets < 10 << 10 or octets % 1024 == 0:
        return format_size(octets)
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets >= size:
            return f"{octets / size:.1f} {unit}"
    return f"{octets} B"
