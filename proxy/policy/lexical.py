"""The first look at a text, before any parser: one linear scan that keeps the parsers safe and the two of them agreed.

Refuses what Postgres's lexer and sqlglot's read differently (NUL, invalid UTF-8, U& names and strings, names over 63
bytes, white space that is none to Postgres) and what costs a parser more than linear time (nesting). Assumes
standard_conforming_strings = on, which the session pins. It knows tokens, not grammar: a text that passes may still be
no SQL at all. (Postgres manual, section 4.1 "Lexical Structure".)
"""

from __future__ import annotations

import re

from proxy.policy import caps
from proxy.policy.caps import FULL, Caps
from proxy.policy.refusal import Refused

TOKEN = re.compile(
    r"""[ \t\n\r\f\v]*+(?:
     (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+)(?!'|&["'])
    |(?P<plain>[,;=*<>]|\.(?![0-9]))
    |(?P<open>[(\[])|(?P<close>[)\]])
    |(?P<string>[bBxXnN]?'[^']*(?:''[^']*)*')
    |(?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)
    |(?P<quoted>"[^"]*(?:""[^"]*)*")
    |(?P<line>--[^\n\r]*)
    |(?P<block>/\*)
    |(?P<escape>[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*')
    |(?P<unicode>[uU]&["'])
    |(?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    |(?P<param>\$[0-9]+)
    |(?P<prefix>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    |(?P<end>\Z)
    |(?P<other>.))""",
    re.X | re.S,
)
_COMMENT = re.compile(r"/\*|\*/")
# sqlglot reads a type's name before a bracket in exponential time when such calls are nested.
_TYPES = re.compile(
    r"(?:var)?(?:bit|char(?:acter)?)|bpchar|n?char|n?varchar|text|bool(?:ean)?|small(?:int|serial)|(?:big)?int(?:eger)?"
    r"|int[248]|int4range|int8range|float[48]?|real|double|dec(?:imal)?|numeric|num|money|date|time(?:tz|stamp|stamptz)?"
    r"|interval|uuid|jsonb?|xml|inet|cidr|bytea|name|array|struct|map|row|nested|list|object|tuple|nullable|set"
    r"|enum|oid|range|\w*range|\w*char|\w*text|\w*int\d*|\w*blob|\w*binary|vector|geometry|geography|hstore"
    r"|lowcardinality|decimal\d*|datetime\d*|timestamp\w*",
    re.I,
)


def text_of(sql: bytes, limits: Caps = FULL) -> str:
    """The statement as text. Raises Refused where Postgres and the parsers could see different texts."""
    if len(sql) > limits.bytes:
        raise Refused(
            "limit.text",
            f"the statement is longer than {limits.bytes} bytes",
            "Send it in parts, or load data another way.",
        )
    if b"\0" in sql:
        raise Refused("parser", "the statement holds a NUL byte", "", sql.index(b"\0"))
    try:
        return sql.decode()
    except UnicodeDecodeError as error:
        raise Refused(
            "parser", "the statement is not valid UTF-8", "Set client_encoding to UTF8.", error.start
        ) from None


def _refuse(rule: str, reason: str, hint: str, text: str, at: int) -> Refused:
    return Refused(rule, reason, hint, len(text[:at].encode()))


def comment_end(text: str, start: int) -> int:
    """The end of the (nested) comment that opens at `start`."""
    depth = 0
    for mark in _COMMENT.finditer(text, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
        if depth > caps.COMMENTS:
            raise _refuse("limit.nesting", "comments are nested too deep", "", text, mark.start())
    raise _refuse("syntax", "a /* comment is never closed", "", text, start)


def scan(text: str, limits: Caps = FULL) -> None:
    """One pass over the tokens. Raises Refused."""
    at, end, last_word = 0, len(text), ""
    stack: list[tuple[str, bool]] = []
    parens = brackets = type_calls = subscripts = count = 0
    most = limits.words
    match = TOKEN.match
    while at < end:
        token = match(text, at)
        if token is None or token.lastgroup is None:  # cannot be: the last alternative takes any character
            raise _refuse("parser", "the text cannot be read", "", text, at)
        kind, at = token.lastgroup, token.end()
        count += 1
        if count > most:
            hint = "Split a long IN list, or send the values as one array parameter."
            raise _refuse("limit.text", f"the statement has more than {most} words", hint, text, token.start(kind))
        if kind in ("word", "prefix"):
            last_word = token[kind]
            if not last_word.isascii():
                _check_letters(text, last_word, token.start(kind))
            if len(last_word) > 15 and len(last_word.encode()) > caps.NAME:
                start = token.start(kind)
                raise _refuse("parser", "a name is longer than 63 bytes", "Postgres would cut it.", text, start)
            continue
        if kind == "block":
            at = comment_end(text, token.start(kind))
            continue
        if kind == "line":
            continue
        if kind == "open":
            opened = token[kind]
            typed = opened == "(" and bool(last_word) and _TYPES.fullmatch(last_word) is not None
            stack.append((opened, typed))
            type_calls += typed
            if opened == "(":
                parens += 1
            else:
                brackets += 1
                subscripts += 1
            if (
                parens > limits.parens
                or brackets > limits.brackets
                or type_calls > limits.type_calls
                or subscripts > limits.subscripts
            ):
                start = token.start(kind)
                raise _refuse("limit.nesting", "brackets are nested too deep", "Flatten the expression.", text, start)
        elif kind == "close":
            if stack:
                opened, typed = stack.pop()
                parens -= opened == "("
                brackets -= opened == "["
                type_calls -= typed
        elif kind == "quoted":
            name = token[kind]
            if len(name) > 17 and len(name[1:-1].replace('""', '"').encode()) > caps.NAME:
                start = token.start(kind)
                raise _refuse("parser", "a name is longer than 63 bytes", "Postgres would cut it.", text, start)
        elif kind == "unicode":
            hint = "Write the characters themselves."
            raise _refuse("parser", "U& names and strings are not judged", hint, text, token.start(kind))
        elif kind == "dollar":
            close = text.find(token[kind], at)
            if close < 0:
                raise _refuse("syntax", "a dollar-quoted string is never closed", "", text, token.start(kind))
            at = close + len(token[kind])
        last_word = ""


def _check_letters(text: str, word: str, start: int) -> None:
    for offset, letter in enumerate(word):
        if not letter.isascii() and not letter.isalpha():
            raise _refuse(
                "parser",
                f"the character U+{ord(letter):04X} stands outside quotes",
                "Postgres takes it for a letter. Remove it, or write the name in double quotes.",
                text,
                start + offset,
            )
