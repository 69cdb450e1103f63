"""What may be said in a signing session, and the judge that allows nothing else.

Postgres's own grammar reads the text, so a name may be written in any way that Postgres takes. Allowed are SHOW
daypass.agreement, SET daypass.accept, and what drivers say by themselves and that touches no data: transactions, and
settings of how things are shown. Knows no texts of agreements. Invariant: what is not named here is denied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from proxy.policy import builtins, lexical, oracle
from proxy.policy.caps import LIGHT
from proxy.policy.judge import Judge
from proxy.policy.judgement import SPACE, Judgement, Statement
from proxy.policy.model import Limits, Policy
from proxy.policy.oracle import RawStatement
from proxy.policy.refusal import Refused

AGREEMENT: Final = "daypass.agreement"
ACCEPT: Final = "daypass.accept"
RULE: Final = "agreement"
HOW: Final = f"SHOW {AGREEMENT}; shows the text, SET {ACCEPT} = 'Your Full Name'; accepts it."
SETTABLE: Final = frozenset(
    (
        "application_name", "bytea_output", "client_encoding", "client_min_messages", "datestyle", "extra_float_digits",
        "intervalstyle", "standard_conforming_strings", "timezone",
    )
)  # fmt: skip
"""Settings that a driver may set: kept, shown again, and without effect here."""
SHOWABLE: Final = SETTABLE | frozenset(
    (
        "default_transaction_read_only", "integer_datetimes", "is_superuser", "server_encoding", "server_version",
        "server_version_num", "session_authorization", "transaction_isolation", "transaction_read_only",
    )
)  # fmt: skip
_FIXED: Final = {"client_encoding": ("utf8", "utf-8", "unicode"), "standard_conforming_strings": ("on", "true")}
_TRANSACTIONS: Final = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
}


@dataclass(frozen=True, slots=True)
class Said:
    """One statement. `kind` is show, set, reset, begin, commit or rollback; `name` a setting's, "" for RESET ALL."""

    kind: str
    name: str
    value: str
    start: int
    end: int


def read(sql: bytes) -> list[Said]:
    """The statements of a text. Raises Refused where one of them may not be said, or this is no SQL."""
    lexical.scan(lexical.text_of(sql, LIGHT), LIGHT)
    found = [_said(raw) for raw in oracle.statements(sql)]
    if len(found) > 1 and any(said.name == ACCEPT for said in found):
        raise Refused(RULE, f"SET {ACCEPT} is a statement of its own", "Read the text, then send SET alone.")
    return found


def _said(raw: RawStatement) -> Said:
    if raw.kind == "TransactionStmt" and raw.node["kind"] in _TRANSACTIONS and not raw.node.get("chain"):
        return Said(_TRANSACTIONS[raw.node["kind"]], "", "", raw.start, raw.end)
    if raw.kind == "VariableShowStmt":
        name = builtins.setting(raw.node["name"])
        if name == AGREEMENT or name in SHOWABLE:
            return Said("show", name, "", raw.start, raw.end)
    if raw.kind == "VariableSetStmt":
        return _set(raw)
    raise Refused(RULE, "", HOW, raw.start)


def _set(raw: RawStatement) -> Said:
    node = raw.node
    kind, name = node["kind"], builtins.setting(node.get("name", ""))
    if kind == "VAR_RESET_ALL":
        return Said("reset", "", "", raw.start, raw.end)
    if kind == "VAR_RESET" and name in SETTABLE:
        return Said("reset", name, "", raw.start, raw.end)
    values = [_plain(arg) for arg in node.get("args", [])]
    if kind == "VAR_SET_VALUE" and None not in values:
        value = ", ".join(str(value) for value in values)
        if name == ACCEPT:
            return _accept(raw, values, value)
        if name in SETTABLE and value.lower() in _FIXED.get(name, (value.lower(),)):
            return Said("set", name, value, raw.start, raw.end)
    if name == ACCEPT:
        hint = f"A parameter cannot stand there: write SET {ACCEPT} = 'Your Full Name'; with the name in it."
        raise Refused(RULE, "the name is not written as a string", hint, raw.start)
    raise Refused(RULE, "", HOW, raw.start)


def _accept(raw: RawStatement, values: list[str | int | None], value: str) -> Said:
    if raw.node.get("is_local") or len(values) != 1 or not isinstance(values[0], str):
        hint = f"Write SET {ACCEPT} = 'Your Full Name'; with the name in quotes."
        raise Refused(RULE, "the name is not written as one string", hint, raw.start)
    return Said("set", ACCEPT, value, raw.start, raw.end)


def _plain(arg: dict[str, Any]) -> str | int | None:
    const = arg.get("A_Const", {})
    if "sval" in const:
        found: str = const["sval"].get("sval", "")
        return found
    number = const.get("ival")
    return number.get("ival", 0) if number is not None else None


class SigningJudge:
    """The judge of a signing session; it is a `Judges`. `waits_for` says what has to be accepted first."""

    def __init__(self, policy: Policy, limits: Limits) -> None:
        self._policy = policy
        self._limits = limits
        self.waits_for = ""

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def limits(self) -> Limits:
        """Only what ends a session that nobody uses: there are no rows to count here."""
        return self._limits

    @property
    def scope(self) -> list[str]:
        return []

    @property
    def parts(self) -> tuple[Judge, ...]:
        return ()

    def conclude(self, sql: bytes, found: Sequence[Judgement]) -> Judgement:
        return found[0]

    def at_once(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement | None:
        return self.judge(sql, param_types)

    def judge(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement:
        try:
            said = read(sql)
        except Refused as refused:
            # Whatever is too large here would not be allowed if it were small.
            large = refused.rule.startswith("limit.")
            return self._deny(sql, Refused(RULE, "", HOW) if large else refused)
        except (RecursionError, MemoryError):
            return self._deny(sql, Refused(RULE, "", HOW))
        return Judgement(tuple(_allowed(sql, each) for each in said), allowed=True, forward=sql)

    def _deny(self, sql: bytes, refused: Refused) -> Judgement:
        reason = refused.reason or f"nothing else works until you have accepted {self.waits_for}"
        position = None
        if refused.reason and refused.location is not None:
            position = len(sql[: refused.location].decode(errors="replace")) + 1
        text = sql.decode(errors="backslashreplace").strip(SPACE)
        denied = replace(
            _statement("other", text, None, "deny", refused.rule),
            reason=reason, hint=refused.hint or HOW, position=position,
        )  # fmt: skip
        return Judgement((denied,), allowed=False, forward=sql)


def _allowed(sql: bytes, said: Said) -> Statement:
    text = sql[said.start : said.end].decode(errors="backslashreplace").strip(SPACE)
    return _statement(said.kind, text, said.name or None, "allow", "allow")


def _statement(kind: str, sql: str, name: str | None, verdict: str, rule: str) -> Statement:
    return Statement(
        kind=kind, verdict=verdict, rule=rule, reason="", hint="", position=None, sql=sql, rewritten=None, name=name,
        tables=(), functions=(),
    )  # fmt: skip
