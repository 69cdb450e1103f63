"""The first scan: linear, and firm about what parsers read differently."""

from __future__ import annotations

import contextlib

import pytest

from proxy.policy import caps, lexical
from proxy.policy.refusal import Refused


@pytest.mark.parametrize(
    "text",
    [
        "select 'a''b', \"a\"\"b\", $$ (((( $$, $x$ $$ $x$, E'\\'(((', b'01', x'ff', n'x'",
        "select 1 /* a /* b */ c */ -- (((((\n",
        "select spaltenname_ä from tabelle",
        'select \'U&"\' , u & "x"',
        f"select {'(' * 100}1{')' * 100}",
        "select " + "(1)," * 2000 + "1",
        'select "' + "é" * 31 + '"',
    ],
)
def test_passes(text: str) -> None:
    lexical.scan(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('select U&"x"', "parser"),
        ("select u&'x'", "parser"),
        ("select 1\u00a0", "parser"),
        ("select 1\u2028", "parser"),
        ("select x\u00a0y", "parser"),
        ("select " + "x" * 64, "parser"),
        ('select "' + "é" * 32 + '"', "parser"),
        ("select " + "(" * 101, "limit.nesting"),
        ("select " + "array[" * 13, "limit.nesting"),
        ("select " + "int4(" * 13, "limit.nesting"),
        ("select " + "int4 -- a comment stands between\n(" * 13, "limit.nesting"),
        ("select " + "int4/**/(" * 13, "limit.nesting"),
        ("select 1.\u0663", "parser"),
        ("select " + "/*" * 12, "limit.nesting"),
        ("select /*", "syntax"),
        ("select $$", "syntax"),
    ],
)
def test_refuses(text: str, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        lexical.scan(text)
    assert caught.value.rule == rule


def test_a_megabyte_is_read_in_linear_time() -> None:
    for unit in ("\n", "x", "-- x\n"):
        with contextlib.suppress(Refused):
            lexical.scan(unit * ((1 << 20) // len(unit)))
    for quotes in ("''", '""', "$$$$", "e''", "/**/"):
        half = len(quotes) // 2
        with contextlib.suppress(Refused):
            lexical.scan(quotes[:half] + "x" * (1 << 20) + quotes[half:])


def test_too_many_words_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        lexical.scan("select " + "1," * caps.FULL.words)
    assert (caught.value.rule, "array parameter" in caught.value.hint) == ("limit.text", True)
