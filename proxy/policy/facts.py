"""The second parser: sqlglot reads the same text on its own, and both must find the same facts.

A statement is judged on Postgres's tree; sqlglot is here so that no single parser's slip decides. Compared are the kind
of statement, the tables, the columns, the functions and the string constants. A difference, or a text that sqlglot
cannot read, is a denial.

The dialect is hardened first: `->` inside a call is no lambda and a function's name is kept as written, because
sqlglot's own readings lose arguments (`date_trunc(ssn, ts)`, `f(c -> …)`). Compiled parsers refuse subclasses, so
the tables of the class are assigned.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres

from proxy.policy import oracle
from proxy.policy.refusal import Refused
from proxy.policy.scope import Walk
from proxy.policy.transcribe import transcribe

_KEPT_PARSERS = (
    *("CAST", "EXTRACT", "JSON_TABLE", "JSON_VALUE", "NORMALIZE", "OVERLAY", "POSITION", "SUBSTRING", "TRIM"),
    *("XMLELEMENT", "XMLTABLE"),
)
_parser: Any = Postgres.Parser
_parser.LAMBDAS = {token: parse for token, parse in _parser.LAMBDAS.items() if token.name != "ARROW"}
_parser.FUNCTIONS = {}
_parser.FUNCTION_PARSERS = {name: _parser.FUNCTION_PARSERS[name] for name in _KEPT_PARSERS}
_dialect = Postgres()


@dataclass(frozen=True, slots=True)
class Facts:
    """What one parser found. Names are as Postgres folds them."""

    tables: frozenset[tuple[str, ...]]
    identifiers: frozenset[str]
    functions: frozenset[str]
    strings: Counter[str]
    intervals: tuple[str, ...]
    """The numbers with which the constants of intervals begin."""


def read(text: str) -> Facts:
    """What sqlglot finds in one statement. Raises Refused where it cannot read it."""
    return _facts(_parse(text))


def agree(text: str, walk: Walk, ctes: frozenset[str]) -> None:
    """Raises Refused unless sqlglot finds in `text` the facts that the walk found.

    Where it cannot read the text or reads it otherwise, it gets a second chance with the same text in plainer words.
    """
    try:
        _agree(text, walk, ctes)
    except Refused:
        plainer = transcribe(text)
        if plainer == text:
            raise
        _agree(plainer, walk, ctes)


def _agree(text: str, walk: Walk, ctes: frozenset[str]) -> None:
    root = _parse(text)
    if not isinstance(root, (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Table)):
        raise _disagreement(f"sqlglot reads {type(root).__name__}")
    theirs = _facts(root)
    mine = frozenset(r.written for r in walk.references if not (len(r.written) == 1 and r.written[0] in ctes))
    tables = frozenset(t for t in theirs.tables if not (len(t) == 1 and t[0] in ctes))
    if mine != tables:
        raise _disagreement("the tables differ")
    columns = {name for ref in walk.column_refs for name in oracle.names(ref["fields"])} - {"*"}
    if not columns <= theirs.identifiers:
        raise _disagreement("the columns differ")
    functions = frozenset(words[-1] for words in walk.functions)
    if not theirs.functions <= functions | theirs.identifiers & functions | _SYNTAX:
        raise _disagreement("the functions differ")
    if not {w for w in functions if not _hidden(w)} <= theirs.functions | theirs.identifiers:
        raise _disagreement("the functions differ")
    if not _same_strings(walk.strings, theirs):
        raise _disagreement("the string constants differ")


# What sqlglot shows as a call and Postgres's grammar as a node of its own (`second`: interval '…' day to second(2)).
_SYNTAX = frozenset(
    """coalesce greatest least nullif grouping array row xmlelement xmlconcat xmlforest xmlparse xmlpi xmlroot
xmlserialize xmlagg xmlattributes json_object json_array json_objectagg json_arrayagg json json_scalar json_serialize
json_query json_value json_exists merge_action bernoulli system any some all exists cube rollup if
current_date current_time current_timestamp localtime localtimestamp second""".split()  # noqa: SIM905
)


def _hidden(name: str) -> bool:
    """Functions that Postgres's grammar makes of syntax: `a AT TIME ZONE b` is timezone(b, a)."""
    return name in _FROM_SYNTAX


_FROM_SYNTAX = frozenset(
    """timezone extract position substring overlay btrim ltrim rtrim normalize is_normalized overlaps like_escape
similar_to_escape xmlexists pg_collation_for system_user current_schema""".split()  # noqa: SIM905
)


def _parse(text: str) -> exp.Expr:
    try:
        roots = sqlglot.parse(text, dialect=_dialect)
    except Exception as error:  # beside its own errors it lets TypeError, UnboundLocalError and others through
        raise Refused(
            "parser",
            "the second parser cannot read the statement",
            (str(error) or type(error).__name__).splitlines()[0][:120],
        ) from None
    found = [root for root in roots if root is not None and not isinstance(root, exp.Semicolon)]
    if len(found) != 1:
        raise _disagreement(f"sqlglot finds {len(found)} statements")
    return found[0]


def _disagreement(what: str) -> Refused:
    return Refused("parser", f"the two parsers read the statement differently: {what}", "Write it in plainer SQL.")


def _fold(identifier: Any) -> str:
    if not isinstance(identifier, exp.Identifier):
        return str(identifier).lower()
    name = str(identifier.this)
    if identifier.args.get("quoted"):
        return name
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)


_FORMS = frozenset({"nfc", "nfd", "nfkc", "nfkd"})


def _string(node: exp.Expr) -> str | None:
    """The string constant that a node stands for, None where it stands for none."""
    if isinstance(node, exp.Literal):
        inside = isinstance(node.parent, exp.Concat) or _split(node.parent)
        return str(node.this) if node.is_string and not inside else None
    if isinstance(node, (exp.National, exp.RawString, exp.ByteString)):
        return str(node.this)
    if isinstance(node, exp.Concat):  # no function, those keep their names: this is 'a' and 'b' on two lines
        return "".join(str(part.this) for part in node.expressions)
    if isinstance(node, exp.JSONPathKey):
        return str(node.this)
    if isinstance(node, exp.Extract) and isinstance(node.this, exp.Var):
        return str(node.this.this).lower()
    if isinstance(node, exp.Normalize) and node.args.get("form"):
        return str(node.args["form"].name)
    if isinstance(node, exp.Is) and node.expression.name.lower() in _FORMS:  # IS NFC NORMALIZED
        return str(node.expression.name).upper()
    return None


def _split(node: exp.Expr | None) -> bool:
    """Whether a node is an interval with its constant taken apart into a number and a unit."""
    return isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal) and "unit" in node.args


def _same_strings(mine: list[str], theirs: Facts) -> bool:
    """Whether both have the same constants; of an interval's, sqlglot tells the first number for certain."""
    left = Counter(mine)
    if any(left[string] < count for string, count in theirs.strings.items()):
        return False
    rest = list((left - theirs.strings).elements())
    for number in sorted(theirs.intervals, key=len, reverse=True):
        begins = re.compile(rf"\s*{re.escape(number)}(?![\d.])")
        found = next((string for string in rest if begins.match(string)), None)
        if found is None:
            return False
        rest.remove(found)
    return not rest


def _facts(root: exp.Expr) -> Facts:
    tables, identifiers, functions = set(), set(), set()
    strings: Counter[str] = Counter()
    intervals: list[str] = []
    for node in root.walk():
        string = _string(node)
        if string is not None:
            strings[string] += 1
        elif _split(node):
            intervals.append(str(node.this.this))
        if isinstance(node, exp.Identifier):
            identifiers.add(_fold(node))
        elif isinstance(node, exp.Table):
            if isinstance(node.this, exp.Identifier):
                words = [node.args.get("catalog"), node.args.get("db"), node.this]
                tables.add(tuple(_fold(w) for w in words if w))
        elif isinstance(node, exp.Anonymous):
            functions.add(_fold(node.this) if isinstance(node.this, exp.Identifier) else str(node.this).lower())
        elif isinstance(node, exp.Var):
            identifiers.add(str(node.this).lower())
        elif isinstance(node, exp.DataType) and isinstance(node.this, exp.DataType.Type):
            identifiers.add(node.this.value.lower())
        elif isinstance(node, exp.Func):
            identifiers.update(name.lower() for name in node.sql_names())
    return Facts(frozenset(tables), frozenset(identifiers), frozenset(functions), strings, tuple(intervals))
