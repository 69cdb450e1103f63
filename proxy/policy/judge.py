"""Judging, as the session sees it: bytes in, a frozen Judgement out, from a cache where the same was judged before.

One Judge stands for one policy revision on one catalog revision of one database; sessions share it. It never raises on
what a client sent: a verdict is a value. Two caches: the exact text, and the normalized shape of plain SELECTs whose
verdict no constant can change; outlines are a quick way to the second. What is neither cached nor light is judged in a
process of its own: see `worker`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Protocol

import structlog
from msgspec.structs import replace

from proxy.catalog import Catalog
from proxy.policy import caps, describe, oracle, outlines, substitute
from proxy.policy.bind import Bound, Problem
from proxy.policy.guard import LOCK_TIMEOUT, Guard, Judged
from proxy.policy.judgement import RUNNING, SPACE, Judgement, Statement, with_text
from proxy.policy.model import Limits, Policy, tighter
from proxy.policy.names import Names
from proxy.policy.oracle import RawStatement
from proxy.policy.refusal import Refused
from proxy.policy.substitute import Edit

log = structlog.get_logger()

CACHE_TEXTS = 8192
CACHE_TEXT_BYTES = 16 << 10
_NAMELESS = frozenset(
    (
        "begin", "commit", "rollback", "savepoint", "release", "set", "reset", "show", "discard", "deallocate", "close",
    )
)  # fmt: skip
"""Kinds of statement in which the search_path decides nothing."""
_TOO_HEAVY = ("limit.text", "limit.nesting")
_PLAIN = re.compile(rb"[\x01-\x7f]*\Z")
# Strings that are not every string's equal: B'x' is none, U&'x' is refused, date E'x' the second parser does not read.
_PREFIXED = re.compile(rb"(?:\b[bBxXeEnN]|&)'")


def _partly(tables: list[str]) -> str:
    return f"{', '.join(tables)}: shown in part" if tables else ""


class Judges(Protocol):
    """What a session needs: Judge and Both have it."""

    @property
    def policy(self) -> Policy: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def scope(self) -> list[str]: ...
    @property
    def parts(self) -> tuple[Judge, ...]: ...
    def judge(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement: ...
    def at_once(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement | None: ...
    def conclude(self, sql: bytes, found: Sequence[Judgement]) -> Judgement: ...


class Judge:
    """See the module's text. `key` is the hex key of hash masks."""

    def __init__(self, policy: Policy, catalog: Catalog, *, key: str = "", views: str | None = None) -> None:
        self._policy = policy
        self.catalog = catalog
        self.bound = Bound(policy, catalog, key, views)
        self._guard = Guard(self.bound)
        self._light = Guard(self.bound, caps.LIGHT)
        self._names = Names(self.bound)
        self._texts: dict[bytes, Judgement] = {}
        self._shapes: dict[bytes, Judgement] = {}
        self._outlines: dict[bytes, Judgement] = {}
        self._observe = policy.mode == "observe"
        self._hold = policy.model.hold

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def limits(self) -> Limits:
        """What the policy limits; nothing in observe mode."""
        return Limits() if self._observe else self._policy.limits

    @property
    def scope(self) -> list[str]:
        """What may be read, a line for each relation, in words for the person who reads it."""
        return describe.scope(self.bound)

    @property
    def problems(self) -> list[Problem]:
        """Where the policy does not fit the catalog."""
        return self.bound.problems

    @property
    def parts(self) -> tuple[Judge, ...]:
        """The single judges of which every one must allow a text."""
        return (self,)

    @cached_property
    def mark(self) -> bytes:
        """Stands for everything that a verdict depends on beside the text."""
        made_from = (self._policy.revision, self.catalog.revision, self.bound.key, self.bound.views)
        return hashlib.sha256(repr(made_from).encode()).digest()

    def judge(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement:
        """The verdict on a text without its trailing NUL, however long it takes; `param_types` as in `at_once`."""
        found = self.at_once(sql, param_types)
        if found is None:
            found = self.uncached(sql)
            self.keep(sql, found)
        return found

    def at_once(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement | None:
        """The verdict where it is known or soon found, None for a text that a process of its own has to judge.

        `param_types` are the oids that a Parse declares.
        """
        known = self.known(sql, param_types)
        if known is not None or len(sql) > CACHE_TEXT_BYTES:
            return known
        outline = outlines.outline(sql)
        if outline is not None and (same := self._outlines.get(outline)) is not None:
            return with_text(same, sql)
        shape = self._shape(sql)
        if shape is not None and (same := self._shapes.get(shape)) is not None:
            found = with_text(same, sql)
            self._keep_text(sql, found)
        else:
            if len(sql) > caps.LIGHT.bytes:
                return None
            found = self._uncached(sql, self._light)
            if any(s.rule.removeprefix("observe.") in _TOO_HEAVY for s in found.statements):
                return None
            self._keep(sql, shape, found)
        if outline is not None and found.shape is not None and outlines.fits(outline, shape):
            if len(self._outlines) >= CACHE_TEXTS:
                self._outlines.clear()
            self._outlines[outline] = found
        return found

    def known(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement | None:
        """The verdict on a text that was judged before."""
        if param_types and (refused := self._undeclarable(param_types)):
            return self.deny(sql, refused)
        return self._texts.get(sql)

    def keep(self, sql: bytes, found: Judgement) -> None:
        """Remember a verdict that was worked out elsewhere."""
        if len(sql) <= CACHE_TEXT_BYTES:
            self._keep(sql, None if found.shape is None else self._shape(sql), found)

    def _keep(self, sql: bytes, shape: bytes | None, found: Judgement) -> None:
        if shape is not None and found.shape is not None:
            if len(self._shapes) >= CACHE_TEXTS:
                self._shapes.clear()
            self._shapes[shape] = found
        self._keep_text(sql, found)

    def _keep_text(self, sql: bytes, found: Judgement) -> None:
        if len(self._texts) >= CACHE_TEXTS:
            self._texts.clear()
        self._texts[sql] = found

    def conclude(self, sql: bytes, found: Sequence[Judgement]) -> Judgement:
        """One verdict from those of `parts`."""
        return found[0]

    def _undeclarable(self, param_types: tuple[int, ...]) -> Refused | None:
        """A value of a domain or row type runs that type's checks when it is bound."""
        try:
            for oid in param_types:
                self._names.parameter(oid)
        except Refused as refused:
            return refused
        return None

    @staticmethod
    def _shape(sql: bytes) -> bytes | None:
        """The normalized shape, where asking for it is safe and cheap."""
        if len(sql) > caps.SHAPE_BYTES or sql.count(b"(") > caps.SHAPE_PARENS or b"/*" in sql:
            return None
        if not _PLAIN.match(sql) or _PREFIXED.search(sql):
            return None
        return oracle.normalize(sql)

    def uncached(self, sql: bytes) -> Judgement:
        """The verdict worked out anew: the plain twin of `judge`."""
        return self._uncached(sql, self._guard)

    def _uncached(self, sql: bytes, guard: Guard) -> Judgement:
        try:
            raws = guard.read(sql)
            return self._conclude(sql, [(raw, guard.statement(sql, raw)) for raw in raws])
        except Refused as refused:
            return self.deny(sql, refused)
        except RecursionError:
            return self.deny(sql, Refused("limit.nesting", "the statement is nested too deep", "Flatten it."))
        except MemoryError:
            return self.deny(sql, Refused("limit.judging", "judging it takes too much memory", "Split it."))
        except Exception:
            # A bug of ours, or of a parser, is a denial; the session and the others go on.
            log.exception("judge_bug")
            return self.deny(sql, Refused("parser", "the statement cannot be judged", "Write it in plainer SQL."))

    def deny(self, sql: bytes, refused: Refused) -> Judgement:
        """The same refusal for a whole text; in observe mode it is only noted."""
        return self._conclude(sql, [(RawStatement("", {}, 0, len(sql)), Judged(refused=refused))])

    def _conclude(self, sql: bytes, found: list[tuple[RawStatement, Judged]]) -> Judgement:
        edits = [edit for _, judged in found for edit in judged.edits]
        forward = sql
        if edits and not any(judged.refused for _, judged in found):
            try:
                forward = substitute.apply(sql, edits)
                substitute.verify(forward, [judged.replacement or {raw.kind: raw.node} for raw, judged in found])
            except Refused as refused:
                forward, edits = sql, []
                for _, judged in found:
                    if judged.edits:
                        judged.refused, judged.edits = refused, []
        statements = tuple(self._statement(sql, raw, judged) for raw, judged in found)
        allowed = self._observe or not any(judged.refused for _, judged in found)
        if not allowed or self._observe:
            forward, edits = sql, []
        plain = allowed and not edits and len(found) == 1 and found[0][1].kind == "select"
        by_literal = found[0][1].by_literal if found else True
        veiled = not self._observe and any(self._veiled(judged) for _, judged in found)
        shape = b"" if plain and not by_literal else None
        held = allowed and self._hold is not None and any(s.held or s.kind in RUNNING for s in statements)
        return Judgement(statements, allowed, forward, tuple(edits), shape, veiled, held)

    def _veiled(self, judged: Judged) -> bool:
        """FETCH and EXECUTE run what another statement named, and a function's own code may raise what it likes."""
        if judged.partial or judged.opaque or self.bound.allowed_functions:
            return True
        return judged.kind in RUNNING and not self._policy.whole

    def _statement(self, sql: bytes, raw: RawStatement, judged: Judged) -> Statement:
        text = sql[raw.start : raw.end].decode(errors="backslashreplace").strip(SPACE)
        refused = judged.refused
        rewritten = None
        if judged.edits and not refused:
            local = [Edit(e.start - raw.start, e.end - raw.start, e.new) for e in judged.edits]
            rewritten = substitute.apply(sql[raw.start : raw.end], local).decode().strip(SPACE)
            if self.bound.key:
                rewritten = rewritten.replace(self.bound.key, "…")
        position = None
        if refused and refused.location is not None:
            position = len(sql[: refused.location].decode(errors="replace")) + 1
        verdict = "deny" if refused else "mask" if judged.partial else "allow"
        held = "" if refused else self._held(judged)
        if held and judged.kind != "prepare":
            verdict = "hold"
        rule = refused.rule if refused else verdict
        if self._observe:
            verdict, rule = "allow", f"observe.{rule}"
        return Statement(
            kind=judged.kind,
            verdict=verdict,
            rule=rule,
            reason=refused.reason if refused else held or _partly(judged.partial),
            hint=refused.hint if refused else "",
            position=position,
            sql=text,
            rewritten=rewritten,
            name=judged.name,
            tables=tuple(judged.tables),
            functions=tuple(judged.functions),
            held=bool(held) and not self._observe,
            columns=judged.columns,
            parsed=raw.kind != "",
        )

    def _held(self, judged: Judged) -> str:
        """What of a statement makes it wait for another person's yes, in words; nothing where it need not."""
        if self._hold is None:
            return ""
        both = ((judged.tables, self._hold.tables), (judged.functions, self._hold.functions))
        found = [name for names, held in both for name in names if any(fnmatchcase(name, glob) for glob in held)]
        return f"{', '.join(dict.fromkeys(found))}: needs another person's approval" if found else ""


class Both:
    """A grant's pinned policy and the file as it is now, where they differ: a statement must be allowed by both."""

    def __init__(self, pinned: Judge, current: Judge) -> None:
        self.parts = (pinned, current)

    @property
    def policy(self) -> Policy:
        return self.parts[0].policy

    @property
    def limits(self) -> Limits:
        """The smaller limit of each."""
        pinned, current = self.parts
        return tighter(pinned.limits, current.limits)

    @property
    def scope(self) -> list[str]:
        """What both show alike."""
        pinned, current = (part.scope for part in self.parts)
        return [line for line in pinned if line in current]

    def judge(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement:
        return self.conclude(sql, [part.judge(sql, param_types) for part in self.parts])

    def at_once(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement | None:
        found = []
        for part in self.parts:
            judgement = part.at_once(sql, param_types)
            if judgement is None:
                return None
            found.append(judgement)
        return self.conclude(sql, found)

    def conclude(self, sql: bytes, found: Sequence[Judgement]) -> Judgement:
        first, second = found
        if not first.allowed:
            return first
        if not second.allowed:
            return second
        if first.forward != second.forward:
            return self._changed(first, sql, "the policy shows this table differently since the grant was made")
        pinned, current = (part.policy for part in self.parts)
        if pinned.search_path != current.search_path and not _NAMELESS.issuperset(s.kind for s in first.statements):
            # The session has the pinned path; what the file's judge has allowed may be another table of that name.
            return self._changed(first, sql, "the policy has another search_path since the grant was made")
        return second if any(s.held for s in second.statements) else first

    @staticmethod
    def _changed(first: Judgement, sql: bytes, reason: str) -> Judgement:
        refused = replace(
            first.statements[0],
            verdict="deny",
            rule="policy.changed",
            reason=reason,
            hint="Ask for a new grant.",
            rewritten=None,
        )
        return Judgement((refused,), False, sql)


def both(pinned: Judge, current: Judge) -> Judges:
    """One judge for a grant: the pinned revision alone where nothing changed.

    What only observes refuses and changes nothing, so beside it the other one alone decides.
    """
    if pinned.policy.revision == current.policy.revision or pinned.policy.mode == "observe":
        return current
    return pinned if current.policy.mode == "observe" else Both(pinned, current)


def startup_settings(policy: Policy, server_version_num: int, limits: Limits | None = None) -> dict[str, str]:
    """Settings for the upstream StartupMessage, so that RESET and DISCARD return to them. Times in milliseconds.

    `limits` are those of the policy where none are given.
    """
    if policy.mode == "observe":
        return {}
    limits = limits or policy.limits
    path = [f'"{name}"' for name in policy.search_path if name != "pg_catalog"]
    settings = {
        "default_transaction_read_only": "on",
        "search_path": ", ".join(path) or '""',
        "standard_conforming_strings": "on",
        "client_encoding": "UTF8",
        "lock_timeout": str(round(LOCK_TIMEOUT * 1000)),
    }
    if limits.statement_timeout is not None:
        settings["statement_timeout"] = str(max(1, round(limits.statement_timeout * 1000)))
    if limits.transaction is not None:
        milliseconds = str(max(1, round(limits.transaction * 1000)))
        settings["idle_in_transaction_session_timeout"] = milliseconds
        if server_version_num >= 170000:
            settings["transaction_timeout"] = milliseconds
    return settings
