"""A statement put into words that the second parser knows, where it does not know Postgres's own.

sqlglot has no notion of many of Postgres's operators, of typed literals such as `box '…'`, of type names outside its
list, of `ORDER BY … USING`, SEARCH and CYCLE, and of functions that are called like its keywords. Each of these gives
way to something plain, at the place that Postgres's grammar reports. Never touched are the names of tables and
columns, the structure of queries, and what a function is called (its name may get quotes): those are what the two
parsers are compared by. Used only when sqlglot does not agree on the text as it was sent; nothing of it goes upstream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlglot.dialects.postgres import Postgres

from proxy.policy import oracle
from proxy.policy.oracle import Node

_Edit = tuple[int, int, bytes]
_PLAIN_OPERATORS = frozenset({"+", "-", "*", "/", "<", ">", "=", "<=", ">=", "<>"})
_KEYWORDS = frozenset(str(word).lower() for word in Postgres.Tokenizer.KEYWORDS)
_NAME = rb'(?:"(?:[^"]|"")*"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)'
_NAMES = rb"%s(?:\s*,\s*%s)*" % (_NAME, _NAME)
_VALUE = rb"(?:%s\s*)?(?:'(?:[^']|'')*'|[\w.+-]+)" % _NAME
_DOTTED = {n: re.compile(rb"\s*\.\s*".join([_NAME] * n)) for n in (1, 2, 3)}
_OPERATOR = re.compile(rb"[-+*/<>=~!@#%^&|`?]+|operator\s*\([^()]*\)", re.I)
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_$]*")
_PARAMETER = re.compile(rb"\$\d+")
_MODIFIERS = re.compile(rb"\s*\([^()]*\)")
_USING_AS = re.compile(rb"(\busing\s*\([^()]*\))\s*as\s+(%s)" % _NAME, re.I)
_USING = re.compile(rb"\busing\s+\Z", re.I)
_SEARCH = re.compile(rb"search\s+(?:depth|breadth)\s+first\s+by\s+%s\s+set\s+%s" % (_NAMES, _NAME), re.I)
_CYCLE = re.compile(
    rb"cycle\s+%s\s+set\s+%s(?:\s+to\s+%s\s+default\s+%s)?\s+using\s+%s" % (_NAMES, _NAME, _VALUE, _VALUE, _NAME), re.I
)
_XML = {
    "IS_XMLPARSE": (re.compile(rb"xmlparse\s*\(\s*(?:document|content)\b", re.I), b'"xmlparse"('),
    "IS_XMLPI": (re.compile(rb"xmlpi\s*\(\s*name\s+%s" % _NAME, re.I), b'"xmlpi"(1'),
}
_INTERVAL = re.compile(rb"interval(?=\s*')", re.I)
_XML_SERIALIZE = re.compile(rb"xmlserialize\s*\(\s*(?:document|content)\b", re.I)
_COLLATION_FOR = re.compile(rb"collation\s+for\b", re.I)


def transcribe(text: str) -> str:
    """The text in plainer words. Raises Refused where it is no SQL."""
    data = text.encode()
    nodes = list(_nodes(oracle.tree(data)))
    edits = sorted([*{e for kind, node in nodes for e in _edits(data, kind, node)}, *_join_aliases(data, nodes)])
    out, at = [], 0
    for start, end, new in edits:
        if start < at:
            continue
        out += [data[at:start], new]
        at = end
    return b"".join([*out, data[at:]]).decode(errors="replace")


def _nodes(tree: Any) -> Iterator[tuple[str, Node]]:
    """Every node of a tree with its type's name, or the name of the field that holds it."""
    stack: list[tuple[str, Any]] = [("", tree)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, list):
            stack += [(name, item) for item in value]
        elif isinstance(value, dict):
            yield name, value
            stack += value.items()


def _edits(data: bytes, kind: str, node: Node) -> Iterator[_Edit]:
    at = node.get("location", 0)
    if kind == "A_Expr":
        yield from _operator(data, at, node.get("name", []))
    elif kind == "SubLink" and "operName" in node:
        yield from _operator(data, at, node["operName"])
    elif kind == "SortBy" and "useOp" in node:
        using, operator = _USING.search(data[max(0, at - 100) : at]), _OPERATOR.match(data, at)
        if using and operator:
            yield at - len(using.group()), operator.end(), b""
    elif kind in ("TypeName", "typeName"):
        yield from _type(data, at, node)
    elif kind == "FuncCall":
        yield from _call(data, at, node)
    elif kind == "ParamRef":
        parameter = _PARAMETER.match(data, at)
        if parameter:
            yield at, parameter.end(), b" " + parameter.group() + b" "
    elif kind == "XmlExpr" and node.get("op") in _XML:
        pattern, new = _XML[node["op"]]
        yield from _match(pattern, data, at, new)
    elif kind == "XmlSerialize":
        yield from _match(_XML_SERIALIZE, data, at, b"cast(")
    elif kind == "search_clause":
        yield from _match(_SEARCH, data, at, b"")
    elif kind == "cycle_clause":
        yield from _match(_CYCLE, data, at, b"")


def _join_aliases(data: bytes, nodes: list[tuple[str, Node]]) -> Iterator[_Edit]:
    """`USING (…) AS name` loses its name, whose place the grammar does not report."""
    names = {node["aliasname"] for kind, node in nodes if kind == "join_using_alias"}
    for found in _USING_AS.finditer(data) if names else ():
        if _folded(found.group(2))[0] in names:
            yield found.end(1), found.end(), b""


def _match(pattern: re.Pattern[bytes], data: bytes, at: int, new: bytes) -> Iterator[_Edit]:
    found = pattern.match(data, at)
    if found:
        yield at, found.end(), new


def _operator(data: bytes, at: int, name: list[Any]) -> Iterator[_Edit]:
    """An operator that is not plain arithmetic or comparison becomes a plus."""
    words = oracle.names(name)
    found = _OPERATOR.match(data, at)
    if found is None or (words[-1] in _PLAIN_OPERATORS and found.group()[0] not in b"oO"):
        return
    if found.group().startswith(words[-1].encode()):
        yield at, at + len(words[-1].encode()), b"+"  # what follows is another operator, as in `@-1`
    elif found.group()[0] in b"oO":
        yield at, found.end(), b"+"


def _type(data: bytes, at: int, node: Node) -> Iterator[_Edit]:
    """A type by a name of its own becomes text; those that Postgres's grammar knows are left."""
    words = oracle.names(node.get("names", []))
    if words == ("pg_catalog", "interval") and not node.get("typmods"):
        yield from _match(_INTERVAL, data, at, b"text")  # sqlglot takes the constant apart
        return
    found = _DOTTED[len(words)].match(data, at) if len(words) in _DOTTED else None
    if found is None or _folded(found.group()) != words:
        return
    modifiers = _MODIFIERS.match(data, found.end()) if node.get("typmods") else None
    yield at, modifiers.end() if modifiers else found.end(), b"text"


def _call(data: bytes, at: int, node: Node) -> Iterator[_Edit]:
    """A function called like one of sqlglot's keywords gets quotes; so does COLLATION FOR its name."""
    words = oracle.names(node["funcname"])
    if words[-1] == "pg_collation_for":
        yield from _match(_COLLATION_FOR, data, at, b'"pg_collation_for"')
    found = _WORD.match(data, at)
    if (
        node.get("funcformat") == "COERCE_EXPLICIT_CALL"
        and found
        and _folded(found.group()) == words
        and words[0] in _KEYWORDS
    ):
        yield at, found.end(), b'"' + words[0].encode() + b'"'


def _folded(dotted: bytes) -> tuple[str, ...]:
    """The words of a dotted name as Postgres folds them."""
    words = [word.decode() for word in re.findall(_NAME, dotted)]
    return tuple(
        w[1:-1].replace('""', '"') if w.startswith('"') else "".join(c.lower() if c.isascii() else c for c in w)
        for w in words
    )
