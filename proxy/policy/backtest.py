"""Recorded statements, judged again under another policy: what would be refused, allowed or shown otherwise.

Takes statements as plain values, so it knows neither recordings nor databases. Literals of statements are not repeated
in what it finds: it names the shape, in which constants are $1, $2, …. Invariant: a statement that ran and of which a
named column would be gone counts as refused, although the guard itself would let it pass to an error of Postgres's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from proxy.policy import oracle
from proxy.policy.bind import Bound
from proxy.policy.compare import Change, table
from proxy.policy.judge import Judge
from proxy.policy.judgement import Judgement
from proxy.policy.model import Limits
from proxy.policy.uses import Key, Uses, everything, uses
from proxy.units import format_duration, format_size

Effect = Literal["refused", "allowed", "changed"]
_QUOTED = re.compile(r"'(?:[^']|'')*'?|\$(\w*)\$.*?(?:\$\1\$|\Z)", re.S)
_SYSTEM = ("pg_catalog", "information_schema")
KEPT = 8192  # answers for texts that come again
COLUMN_GONE = "column"
"""The rule of a statement that names a column which the other policy does not show."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One statement as it was recorded. `sqlstate` is its outcome's, None where it ended well or is not known."""

    sql: str
    verdict: str
    rule: str
    at: datetime
    session: str
    grant: str
    sqlstate: str | None = None
    rows: int = 0
    bytes: int = 0
    ms: float = 0.0

    @property
    def ran(self) -> bool:
        """Whether it went to Postgres and was not sent back as wrong (SQLSTATE class 42)."""
        return self.verdict != "deny" and not (self.sqlstate or "").startswith("42")


@dataclass(slots=True)
class Changed:
    """Statements of one shape whose verdict changes in one way."""

    effect: Effect
    statement: str
    was: str
    rule: str
    reason: str
    ran: bool
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    grants: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)

    def take(self, recorded: Recorded) -> None:
        """One more of them."""
        self.count += 1
        self.first = min(self.first or recorded.at, recorded.at)
        self.last = max(self.last or recorded.at, recorded.at)
        self.grants.add(recorded.grant)
        self.sessions.add(recorded.session)


@dataclass(slots=True)
class Report:
    """What came out: totals over all statements, and the changes, those that refuse first."""

    statements: int = 0
    totals: dict[str, int] = field(default_factory=lambda: {"same": 0, "refused": 0, "allowed": 0, "changed": 0})
    changes: list[Changed] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing that ran would be refused."""
        return not any(c.effect == "refused" and c.ran for c in self.changes)


class Backtest:
    """One policy on one catalog. `before` gives the judge of the policy that a grant was under, where it is known."""

    def __init__(self, judge: Judge, before: Callable[[str], Judge | None]) -> None:
        self._judge = judge
        self._before = before
        self._all: Bound | None = None
        self._known: dict[tuple[str, str, bool, str], tuple[Effect | None, str, str]] = {}
        self._limits = judge.policy.limits if judge.policy.mode == "enforce" else Limits()

    def run(self, recorded: Iterable[Recorded]) -> Report:
        """Judge all of them again."""
        report = Report()
        groups: dict[tuple[str, str, str, str, bool], Changed] = {}
        for one in recorded:
            report.statements += 1
            effect, rule, reason = self._one(one)
            report.totals[effect or "same"] += 1
            if effect is None:
                continue
            shape = shape_of(one.sql)
            key = (effect, shape, rule, reason, one.ran)
            if key not in groups:
                groups[key] = Changed(effect, shape, one.verdict, rule, reason, one.ran)
            groups[key].take(one)
        order = {"refused": 0, "changed": 1, "allowed": 2}
        report.changes = sorted(groups.values(), key=lambda c: (order[c.effect], not c.ran, -c.count, c.statement))
        return report

    def _one(self, one: Recorded) -> tuple[Effect | None, str, str]:
        sql = one.sql.encode("utf-8", "surrogateescape")
        judgement = self._judge.judge(sql)
        passed = one.verdict != "deny"
        refusal = judgement.refusal
        if refusal is not None and not judgement.allowed:
            return ("refused", refusal.rule, refusal.reason) if passed else (None, "", "")
        verdict = judgement.verdict
        if verdict == "hold" != one.verdict:
            return "changed" if passed else "allowed", verdict, "waits for an approval"
        if not passed:
            return "allowed", verdict, f"was refused by the rule {one.rule}"
        key = one.sql, one.verdict, one.ran, one.grant
        if key not in self._known:
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[key] = self._shown(one, sql, judgement)
        effect, rule, reason = self._known[key]
        if effect is None and one.ran and (over := _over(self._limits, one)):
            return "refused", *over
        return effect, rule or verdict, reason

    def _shown(self, one: Recorded, sql: bytes, judgement: Judgement) -> tuple[Effect | None, str, str]:
        """Columns that are gone, or that show something else."""
        if self._judge.policy.mode == "observe":
            if one.verdict == "mask":
                return "changed", "", "in observe mode tables are shown as they are"
            return None, "", ""
        old = self._before(one.grant)
        observed = old is None or old.policy.mode == "observe"
        bound = self._everything() if observed or old is None else old.bound
        found = uses(bound, sql)
        if found is None:
            return None, "", ""
        if one.ran and (gone := self._gone(found)):
            return "refused", COLUMN_GONE, gone
        said: list[Change] = []
        for key, columns in found.all.items():
            if key[0] not in _SYSTEM:
                star = columns >= set(bound.relations[key].columns)
                said += table(bound, self._judge.bound, *key, only=None if star else columns)
        if said:
            return "changed", "", "; ".join(f"{c.what}: {c.text}" for c in said)
        return None, "", ""

    def _gone(self, found: Uses) -> str:
        new = self._judge.bound.relations
        for key, columns in found.named.items():
            if key[0] in _SYSTEM or key not in new:
                continue
            hidden = sorted(columns - set(new[key].columns))
            if hidden:
                return f"{_name(key)} shows no column {', '.join(hidden)}"
            if key in found.whole and new[key].substitute:
                return f"{_name(key)} is shown in part, and has no system columns then"
        return ""

    def _everything(self) -> Bound:
        if self._all is None:
            catalog = self._judge.catalog
            self._all = Bound(everything(catalog, self._judge.policy.search_path), catalog)
        return self._all


def shape_of(sql: str) -> str:
    """A statement without its constants, in one line."""
    data = sql.encode("utf-8", "surrogateescape")
    normal = oracle.normalize(data) if b"\0" not in data else None
    text = normal.decode(errors="replace") if normal is not None else _QUOTED.sub("'…'", sql)
    return " ".join(text.split())


def _name(key: Key) -> str:
    return ".".join(key)


def _over(limits: Limits, one: Recorded) -> tuple[str, str] | None:
    """A limit of single statements that this one went beyond."""
    if limits.rows_per_statement is not None and one.rows > limits.rows_per_statement:
        return "limit.rows", f"it gave more than {limits.rows_per_statement:,} rows"
    if limits.bytes_per_statement is not None and one.bytes > limits.bytes_per_statement:
        return "limit.bytes", f"it gave more than {format_size(limits.bytes_per_statement)}"
    if limits.statement_timeout is not None and one.ms > limits.statement_timeout * 1000:
        return "limit.time", f"it took longer than {format_duration(limits.statement_timeout)}"
    return None
