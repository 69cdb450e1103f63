"""The same statement without its values: string and number constants, and comments, are replaced one by one.

For records that must not hold what people typed. Reads tokens as `lexical` does, in linear time, and is for texts that
Postgres's grammar has taken for SQL: of others nobody can say which word is a value. Names stay, quoted ones too.
Invariant: no character of a constant or comment is left, and what is left is SQL again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from proxy.policy.lexical import TOKEN, comment_end
from proxy.policy.refusal import Refused

_KEPT: Final = frozenset(("word", "prefix", "plain", "open", "close", "quoted", "param", "end"))
_OTHER: Final = re.compile(r"[^A-Za-z0-9_$\"'\\\x00-\x1f\x7f]")
# 0x1F, 0b101, 1_000: the digits that follow belong to the number.
_TAIL: Final = re.compile(r"[A-Za-z0-9_]*")


def without(text: str, show: Callable[[str, bool], str]) -> tuple[str, list[str]] | None:
    """The text with `show(value, is_number)` for each constant, and the values; None where it cannot be read."""
    parts: list[str] = []
    values: list[str] = []
    at, end = 0, len(text)
    while at < end:
        token = TOKEN.match(text, at)
        if token is None or token.lastgroup is None:
            return None
        kind = token.lastgroup
        start, stop = token.span(kind)
        parts.append(text[at:start])
        at = stop
        if kind in _KEPT or (kind == "other" and _OTHER.match(text, start)):
            parts.append(text[start:stop])
        elif kind == "line":
            parts.append("--…")
        elif kind == "block":
            try:
                at = comment_end(text, start)
            except Refused:
                return None
            parts.append("/*…*/")
        elif kind == "number":
            tail = _TAIL.match(text, stop)
            at = tail.end() if tail else stop
            values.append(text[start:at])
            parts.append(show(text[start:at], True))
        elif kind in ("string", "escape", "dollar"):
            if kind == "dollar":
                close = text.find(token[kind], stop)
                if close < 0:
                    return None
                value, at = text[stop:close], close + len(token[kind])
            else:
                value = text[text.index("'", start) + 1 : stop - 1]
                value = value.replace("''", "'") if kind == "string" else value
            values.append(value)
            parts.append(show(value, False))
        else:
            return None
    return "".join(parts), values
