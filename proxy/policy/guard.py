"""The guard: one text in, a verdict for each of its statements out. Default deny.

Order: lexical scan, Postgres's grammar (what kind of statement, an allow-list), the scoped walk (tables, columns,
functions, types, operators), agreement with sqlglot, substitution. It is pure: no clock, no network, no session. A
statement of a kind that is not listed here is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from proxy.policy import arguments, builtins, caps, facts, lexical, oracle, substitute
from proxy.policy.bind import Bound, Shown
from proxy.policy.caps import FULL, Caps
from proxy.policy.oracle import Node, RawStatement
from proxy.policy.refusal import Refused
from proxy.policy.scope import Walk
from proxy.policy.substitute import Edit
from proxy.policy.uses import Reading

OWN_SETTINGS = frozenset({"daypass.scope", "daypass.expires", "daypass.budget"})
"""What a client may SHOW of its own access."""
SYSTEM_SCHEMAS = ("pg_catalog", "information_schema")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TRANSACTIONS = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
    "TRANS_STMT_SAVEPOINT": "savepoint",
    "TRANS_STMT_RELEASE": "release",
    "TRANS_STMT_ROLLBACK_TO": "rollback",
}
_PINNED = frozenset(
    {
        "search_path",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_timeout",
        "idle_session_timeout",
        "default_transaction_read_only",
        "default_transaction_isolation",
        "default_transaction_deferrable",
        "standard_conforming_strings",
        "role",
        "session_authorization",
        "work_mem",
    }
)
LOCK_TIMEOUT = 5.0
_SHORTER = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_TIME = re.compile(r"(\d{1,9}) *(ms|s|min|h|d)?")
_UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_ONLY_ON = ("standard_conforming_strings", "default_transaction_read_only", "transaction_read_only")
_INNER = {
    "ExplainStmt": re.compile(rb"\(|\b(?:select|with|values|table)\b", re.I),
    "DeclareCursorStmt": re.compile(rb"(?<=\bfor\b)\s", re.I),
    "PrepareStmt": re.compile(rb"(?<=\bas\b)[\s(]", re.I),
    "CopyStmt": re.compile(rb"(?<=\()"),
}


@dataclass
class Judged:
    """What the guard found for one statement, before it is frozen by `judge`."""

    kind: str = "other"
    name: str | None = None
    tables: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    partial: list[str] = field(default_factory=list)
    """Tables of which only a part is shown."""
    edits: list[Edit] = field(default_factory=list)
    by_literal: bool = False
    opaque: bool = False
    """Whether it runs code that is judged by its name only: views, foreign tables."""
    replacement: Node | None = None
    """What the edited text must read as, where the edits change the kind of the statement."""
    refused: Refused | None = None


class Guard:
    """Judges statements under one bound policy."""

    def __init__(self, bound: Bound, limits: Caps = FULL) -> None:
        self.bound = bound
        self._caps = limits

    def read(self, sql: bytes) -> list[RawStatement]:
        """The statements of a text. Raises Refused where it is not safe or no SQL."""
        lexical.scan(lexical.text_of(sql, self._caps), self._caps)
        found = oracle.statements(sql)
        if len(found) > caps.STATEMENTS:
            raise Refused("limit.text", f"more than {caps.STATEMENTS} statements at once", "Send them in parts.")
        return found

    def statement(self, sql: bytes, raw: RawStatement) -> Judged:
        """The verdict on one statement of `sql`; edits its tree where something is substituted."""
        judged = Judged()
        try:
            handler = getattr(self, f"_{_WORDS.sub('_', raw.kind).lower()}", None)
            if handler is None:
                raise _refused_kind(raw.kind)
            handler(sql, raw, judged)
        except Refused as refused:
            judged.refused = refused
        except RecursionError:
            judged.refused = Refused("limit.nesting", "the statement is nested too deep", "Flatten the expression.")
        return judged

    # -- queries -----------------------------------------------------------------------------------------------------

    def _query(self, sql: bytes, text: bytes, select: Node, judged: Judged, *, explain: bool = False) -> None:
        walk = Reading(self.bound, self._caps)
        walk.select(select, {})
        walk.finish()
        judged.columns = walk.touched()
        ctes = _cte_names(select) if b"with" in text.lower() else frozenset()
        self._conclude(sql, text, walk, judged, ctes, explain=explain)

    def _conclude(
        self, sql: bytes, text: bytes | None, walk: Walk, judged: Judged, ctes: frozenset[str], *, explain: bool = False
    ) -> None:
        judged.tables = sorted({r.shown.relation.qualified for r in walk.references})
        judged.functions = sorted({".".join(words) for words in walk.functions})
        shown = [r.shown for r in walk.references]
        judged.partial = sorted(
            {s.relation.qualified for s in shown if s.substitute and s.relation.schema not in SYSTEM_SCHEMAS}
        )
        if explain and any(s.unplanned for s in shown):
            raise Refused(
                "explain", "EXPLAIN would show what the policy hides of this table", "Run the query without EXPLAIN."
            )
        if text is not None:
            facts.agree(text.decode(), walk, ctes)
        judged.by_literal = walk.names.by_literal
        judged.opaque = any(s.relation.kind in "vmf" and s.relation.schema not in SYSTEM_SCHEMAS for s in shown)
        judged.edits = substitute.edits_for(sql, walk) + arguments.edits_for(sql, walk)

    def _select_stmt(self, sql: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind = "select"
        self._query(sql, sql[raw.start : raw.end], raw.node, judged)

    def _explain_stmt(self, sql: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind = "explain"
        for option in raw.node.get("options", []):
            if option["DefElem"]["defname"].lower() not in builtins.EXPLAIN_OPTIONS:
                raise Refused("explain", f"the EXPLAIN option {option['DefElem']['defname']} is not judged")
        inner = raw.node["query"]
        if "SelectStmt" not in inner:
            raise Refused("explain", "EXPLAIN is allowed for SELECT only", "Explain the query itself.")
        self._query(sql, _inner_text(sql, raw, inner), inner["SelectStmt"], judged, explain=True)

    def _declare_cursor_stmt(self, sql: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind, judged.name = "declare", raw.node["portalname"]
        self._wrapped(sql, raw, judged)

    def _prepare_stmt(self, sql: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind, judged.name = "prepare", raw.node["name"]
        walk = Walk(self.bound, self._caps)
        walk.walk(raw.node.get("argtypes"), {})
        self._wrapped(sql, raw, judged)

    def _wrapped(self, sql: bytes, raw: RawStatement, judged: Judged) -> None:
        inner = raw.node["query"]
        if "SelectStmt" not in inner:
            raise _refused_kind(next(iter(inner)))
        self._query(sql, _inner_text(sql, raw, inner), inner["SelectStmt"], judged)

    def _execute_stmt(self, sql: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind, judged.name = "execute", raw.node["name"]
        walk = Walk(self.bound, self._caps)
        walk.walk(raw.node.get("params"), {})
        walk.finish()
        self._conclude(sql, None, walk, judged, frozenset())

    def _copy_stmt(self, sql: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind = "copy"
        node = raw.node
        if node.get("is_from"):
            raise Refused("write", "COPY FROM writes", "Only COPY … TO STDOUT is allowed.")
        if node.get("is_program") or "filename" in node:
            raise Refused("copy", "COPY to a file or program of the server is refused", "Use COPY … TO STDOUT.")
        for option in node.get("options", []):
            if option["DefElem"]["defname"].lower() not in builtins.COPY_OPTIONS:
                raise Refused("copy", f"the COPY option {option['DefElem']['defname']} is not judged")
        if "query" in node:
            self._wrapped(sql, raw, judged)
            judged.kind = "copy"
            return
        shown = Walk(self.bound, self._caps).names.relation(node["relation"])
        if shown.substitute and node.get("attlist") and "whereClause" not in node:
            self._copy_columns(sql, node, shown, judged)
            return
        if shown.substitute or "whereClause" in node:
            raise Refused(
                "substitute",
                f"parts of {shown.relation.qualified} are hidden, so it cannot be copied as a table",
                f"COPY (SELECT * FROM {shown.relation.qualified}) TO STDOUT works.",
            )
        judged.tables = [shown.relation.qualified]
        judged.columns = _copied(shown, oracle.names(node.get("attlist", [])))

    @staticmethod
    def _copy_columns(sql: bytes, node: Node, shown: Shown, judged: Judged) -> None:
        """COPY t (a, b) of a table of which parts are hidden becomes COPY (SELECT a, b FROM its substitute)."""
        name, wanted = shown.relation.qualified, oracle.names(node["attlist"])
        hidden = [c for c in wanted if c not in shown.columns]
        if hidden:
            raise Refused("substitute", f"{name}.{hidden[0]} is hidden", f"Shown are {', '.join(shown.columns)}.")
        edit, query = substitute.copied(sql, node["relation"], wanted, shown)
        del node["relation"], node["attlist"]
        node["query"] = query
        judged.tables = judged.partial = [name]
        judged.columns = _copied(shown, wanted)
        judged.edits = [edit]

    # -- the session -------------------------------------------------------------------------------------------------

    def _transaction_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        kind = raw.node.get("kind", "TRANS_STMT_BEGIN")
        if kind not in _TRANSACTIONS:
            raise Refused("statement", "two-phase commit is refused")
        judged.kind = _TRANSACTIONS[kind]
        judged.name = raw.node.get("savepoint_name")
        _transaction_options(raw.node.get("options", []))

    def _variable_set_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        node = raw.node
        kind, name = node["kind"], builtins.setting(node.get("name", ""))
        judged.kind, judged.name = "set", name or None
        if kind == "VAR_SET_MULTI":
            if name not in ("transaction", "session characteristics"):
                raise Refused("setting", "importing a snapshot is refused")
            _transaction_options(node.get("args", []))
            return
        if kind == "VAR_RESET_ALL":
            judged.kind = "reset"
            return
        if kind in ("VAR_RESET", "VAR_SET_DEFAULT"):
            judged.kind = "reset"
            if name in builtins.WRITABLE_SETTINGS or name in _PINNED:
                return
            raise Refused("setting", f"{name} is pinned for the session")
        values = [_plain_value(arg) for arg in node.get("args", [])]
        if kind != "VAR_SET_VALUE" or None in values:
            raise Refused("setting", f"this form of SET {name} is not judged")
        words = [str(v).lower() for v in values]
        if name in builtins.WRITABLE_SETTINGS:
            if name == "client_encoding" and words not in (["utf8"], ["utf-8"], ["unicode"]):
                raise Refused("setting", "client_encoding is UTF8 in this session", "SET client_encoding TO 'UTF8'")
            if name == "client_min_messages" and words not in (["notice"], ["warning"], ["error"]):
                # The server's LOG lines hold statements as forwarded: filters, masks, keys.
                raise Refused("setting", "log and debugging messages are refused", "notice is the lowest level")
            return
        if name in _SHORTER and self._shorter(name, values):
            return
        if name == "search_path" and [str(v) for v in values] == list(self.bound.path):
            return
        if name in _ONLY_ON and words in (["on"], ["true"], ["1"], ["yes"]):
            return
        if name in ("transaction_isolation", "default_transaction_isolation"):
            return
        raise Refused(
            "setting",
            f"{name} is pinned for the session",
            "It follows from the policy." if name in _PINNED else "It is not on the list of harmless settings.",
        )

    def _shorter(self, name: str, values: list[Any]) -> bool:
        """Whether a time limit is set to something, and to no more than the session starts with."""
        limits = self.bound.policy.limits
        starts = {"statement_timeout": limits.statement_timeout, "lock_timeout": LOCK_TIMEOUT}
        most = starts.get(name, limits.transaction)
        wanted = _milliseconds(values[0]) if len(values) == 1 else None
        return wanted is not None and most is not None and 0 < wanted <= most * 1000

    def _variable_show_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        name = builtins.setting(raw.node["name"])
        judged.kind, judged.name = "show", name
        if name in OWN_SETTINGS:
            # Postgres runs it like any statement, and the session fills its one row in.
            text = f" SELECT ''::pg_catalog.text AS {builtins.quote(name)}".encode()
            judged.edits = [Edit(raw.start, raw.end, text)]
            (inner,) = oracle.statements(text)
            judged.replacement = {inner.kind: inner.node}
            return
        if name.startswith("daypass."):
            raise Refused("setting", f"there is no {name}", f"There are {', '.join(sorted(OWN_SETTINGS))}.")
        if name not in builtins.READABLE_SETTINGS:
            raise Refused("setting", f"SHOW {name} is refused", "It would tell about the server, not about the data.")

    def _fetch_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind, judged.name = ("move" if raw.node.get("ismove") else "fetch"), raw.node.get("portalname")

    def _close_portal_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind, judged.name = "close", raw.node.get("portalname", "")

    def _deallocate_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind, judged.name = "deallocate", raw.node.get("name", "")

    def _discard_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind, judged.name = "discard", raw.node.get("target", "DISCARD_ALL").removeprefix("DISCARD_").lower()

    def _unlisten_stmt(self, _: bytes, raw: RawStatement, judged: Judged) -> None:
        judged.kind = "unlisten"


def _refused_kind(kind: str) -> Refused:
    words = _WORDS.sub(" ", kind.removesuffix("Stmt")).upper()
    if kind in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "TruncateStmt"):
        return Refused("write", f"{words} writes; this access is read-only", "Only reading statements are allowed.")
    if kind in ("ListenStmt", "NotifyStmt"):
        return Refused("statement", f"{words} reaches other sessions")
    if kind.startswith(("Create", "Alter", "Drop", "Rename", "Grant", "Comment", "Define", "Index", "View", "Rule")):
        return Refused("write", f"{words} changes the database; this access is read-only")
    return Refused("statement", f"{words} is not on the list of reading statements")


def _transaction_options(options: list[Any]) -> None:
    for option in options:
        name, value = option["DefElem"]["defname"], option["DefElem"].get("arg", {}).get("A_Const", {})
        if name not in builtins.TRANSACTION_OPTIONS:
            raise Refused("setting", f"the transaction option {name} is refused")
        if name == "transaction_read_only" and value.get("ival", {}).get("ival", 0) != 1:
            raise Refused("write", "READ WRITE is refused; this access is read-only", "Leave READ WRITE out.")


def _plain_value(arg: Node) -> str | int | float | bool | None:
    """A constant of SET; None for anything else."""
    node = arg.get("A_Const")
    if node is None:
        if "TypeCast" in arg and "A_Const" in arg["TypeCast"]["arg"]:  # SET TIME ZONE INTERVAL '…'
            return _plain_value(arg["TypeCast"]["arg"])
        return None
    for key, field_name in (("sval", "sval"), ("ival", "ival"), ("fval", "fval"), ("boolval", "boolval")):
        if key in node:
            value: str | int | float | bool = node[key].get(field_name, 0 if key == "ival" else "")
            return value
    return None


def _copied(shown: Shown, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a COPY, for the record."""
    return tuple(f"{shown.relation.qualified}.{name}" for name in columns or ("*",))


def _milliseconds(value: Any) -> int | None:
    """A time limit as SET takes it; None for other forms."""
    match = _TIME.fullmatch(str(value).strip())
    return int(match[1]) * _UNITS[match[2] or "ms"] if match and not isinstance(value, bool) else None


def _inner_text(sql: bytes, raw: RawStatement, inner: Node) -> bytes:
    """The text of the query inside EXPLAIN, DECLARE, PREPARE or COPY: the span that reads as exactly that tree."""
    text = sql[raw.start : raw.end]
    if len(text) > caps.WRAPPED:
        raise Refused(
            "limit.text", f"more than {caps.WRAPPED} bytes inside another statement", "Send the query on its own."
        )
    tries = 12
    ends = [m.start() for m in re.finditer(rb"\)", text)][::-1] if raw.kind == "CopyStmt" else [len(text)]
    for opening in _INNER[raw.kind].finditer(text):
        for end in ends[:4]:
            start = opening.start()
            tries -= 1
            if tries < 0:
                break
            try:
                found = oracle.tree(text[start:end])
            except Refused:
                continue
            if len(found) == 1 and oracle.same(found[0]["stmt"], inner):
                return text[start:end]
    raise Refused("parser", "the query inside the statement cannot be told apart", "Send the query on its own.")


def _cte_names(value: Any) -> frozenset[str]:
    """The names of all WITH queries of a tree."""
    found: set[str] = set()
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            if "ctename" in node:
                found.add(node["ctename"])
            stack += node.values()
    return frozenset(found)
