"""Words: what of a statement can be searched for, and what a person's query means to the index.

Pure: no files, no database. Must not change what a query asks: it only quotes words that are meant as words (such as
`app.customers`). Invariant: a filter's value is one word of its own column, made by a hash, so that no text of a client
can pass for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from recorder.reading import Number

_TERM = re.compile(r'(?:[^\s"():]+:)?"(?:[^"]|"")*"|[^\s"()]+|[()]')
_PLAIN = re.compile(r"[\w$.\-/@%'=<>#!?;~&|\[\]\\]+")
_BARE = re.compile(r"\w+")
MOST = 10_000
"""Different sets of facts whose words are kept for a session."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """What the index wants of a `statement`."""

    n: Number
    sql: str
    verdict: str
    params: list[Any] | None = None
    rule: str | None = None
    reason: str = ""
    kind: str = ""
    tables: list[str] = []
    functions: list[str] = []
    columns: list[str] = []


class Of(msgspec.Struct, frozen=True):
    """What it wants of the session."""

    session: str
    person: str | None
    vendor: str | None
    grant: str | None
    database: str | None


@lru_cache(maxsize=65_536)
def key(kind: str, value: str) -> str:
    """One word for a whole value of a filter."""
    return "x" + hashlib.blake2b(f"{kind}\0{value}".encode("utf-8", "replace"), digest_size=7).hexdigest()


@lru_cache
def _powers(bits: int) -> str:
    return " ".join(key("rows", str(n)) for n in range(bits))


def powers(rows: int) -> str:
    """The words `at least 1, 2, 4, … rows` that hold for a result."""
    return _powers(rows.bit_length()) if rows > 0 else ""


def power(rows: int) -> str | None:
    """The strictest of these words that holds wherever there are `rows` rows."""
    return key("rows", str(rows.bit_length() - 1)) if rows > 0 else None


def session_keys(of: Of) -> str:
    """The keys that all statements of a session share."""
    named = (
        ("session", of.session), ("person", of.person), ("vendor", of.vendor), ("grant", of.grant),
        ("database", of.database),
    )  # fmt: skip
    return " ".join(key(kind, value) for kind, value in named if value)


class Words:
    """The words of one session's statements, in the order of `search_store.WORDS`; those of a result come with it."""

    def __init__(self, of: Of) -> None:
        self._people = f"{of.person or ''} {of.vendor or ''}"
        self._shared = session_keys(of)
        self._seen: dict[tuple[object, ...], tuple[str, ...]] = {}

    def of(self, said: Said) -> tuple[str, ...]:
        """All that can be found of a statement."""
        facts = (said.verdict, said.rule, said.kind, *said.tables, None, *said.functions, None, *said.columns)
        rest = self._seen.get(facts)
        if rest is None:
            if len(self._seen) >= MOST:
                self._seen.clear()
            rest = self._seen[facts] = self._facts(said)
        params = said.params and " ".join(str(value) for value in said.params if value is not None)
        return (said.sql, params or "", said.reason, *rest)

    def _facts(self, said: Said) -> tuple[str, ...]:
        keys = [self._shared, key("verdict", said.verdict)]
        if said.rule:
            keys.append(key("rule", said.rule))
        for kind, names in (("table", said.tables), ("function", said.functions), ("column", said.columns)):
            keys += [key(kind, form) for name in names for form in forms(name)]
        return (
            " ".join(said.tables),
            " ".join(said.functions),
            " ".join(said.columns),
            f"{said.verdict} {said.rule or ''} {said.kind} {self._people}",
            " ".join(keys),
        )


@lru_cache(maxsize=65_536)
def forms(name: str) -> tuple[str, ...]:
    """What a person may call `app.customers.email`: the whole, or its end."""
    parts = name.split(".")
    return tuple(".".join(parts[n:]) for n in range(len(parts)))


def spelled(query: str) -> str:
    """The query as the index reads it: a word with dots, dashes and the like is put in quotes; operators, quoted text
    and everything else stays. ValueError for a bracket without its other half: a query stands in brackets of ours."""
    if "\0" in query or query != query.encode("utf-8", "replace").decode():
        raise ValueError("it holds a character that no text has")
    depth, terms = 0, _TERM.findall(query)
    for term in terms:
        depth += (term == "(") - (term == ")")
        if depth < 0:
            raise ValueError("a ) stands without its (")
    if depth:
        raise ValueError("a ( stands without its )")
    if (
        sum(term.startswith('"') and (len(term) < 2 or not term.endswith('"')) for term in terms)
        or query.count('"') % 2
    ):
        raise ValueError("a quoted phrase does not end")
    return " ".join(_term(found) for found in terms)


def _term(text: str) -> str:
    if text.startswith('"') or text in "()" or _BARE.fullmatch(text):
        return text
    column, colon, rest = text.partition(":")
    if colon and _BARE.fullmatch(column) and rest and _plain(rest):
        return f"{column}:{_quoted(rest)}"
    return _quoted(text) if _plain(text) else text


def _plain(text: str) -> bool:
    return _PLAIN.fullmatch(text.removesuffix("*")) is not None


def _quoted(text: str) -> str:
    if _BARE.fullmatch(text.removesuffix("*")):
        return text
    return f'"{text[:-1]}" *' if text.endswith("*") else f'"{text}"'


def matching(query: str, keys: Iterable[str]) -> str:
    """The whole MATCH: the person's query, and every filter's word."""
    parts = [f"({spelled(query)})"] if query.strip() else []
    return " AND ".join([*parts, *(f"keys : {word}" for word in keys)])
