"""Texts without their values: Postgres's own lexer must find no constant that is left."""

from __future__ import annotations

import json
import re
from pathlib import Path

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import lexical, oracle
from proxy.policy.literals import without
from proxy.policy.refusal import Refused

HERE = Path(__file__).parent
CORPUS = [
    entry["sql"]
    for file in (HERE / "honest.jsonl", HERE.parent / "bypass" / "evasions.jsonl")
    for line in file.read_text("utf-8").splitlines()
    if line.strip() and "sql" in (entry := json.loads(line))
]
VALUES = {"SCONST", "USCONST", "BCONST", "XCONST", "ICONST", "FCONST", "SQL_COMMENT", "C_COMMENT"}
LEFT = {"'…'", "0", "--…", "/*…*/"}


def drop(text: str) -> str | None:
    found = without(text, lambda value, number: "0" if number else "'…'")
    return found[0] if found else None


def parses(text: str) -> bool:
    """Whether the guard would read this text."""
    try:
        lexical.scan(lexical.text_of(text.encode()))
        oracle.statements(text.encode())
    except Refused:
        return False
    return True


def constants(text: str) -> set[str]:
    raw = text.encode()
    found = postgast.scan(text)
    # A string that goes on in the next line is one constant.
    return {
        re.sub("'…'(\\s+'…')+", "'…'", raw[token.start : token.end].decode())
        for token in found.tokens
        if postgast.pg_query_pb2.Token.Name(token.token) in VALUES
    }


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("select * from t where a = 'O''Brien' and b = 42", "select * from t where a = '…' and b = 0"),
        (r"select E'it\'s', N'x', B'101', x'1F'", "select '…', '…', '…', '…'"),
        ("select $$se cret$$, $a$b $$ c$a$, $1", "select '…', '…', $1"),
        ("select 1.5e-3, .5, 0x1F, 0b1, 1_000, -7", "select 0, 0, 0, 0, 0, -0"),
        ('select "Odd 1" from "t""2" -- secret 3', 'select "Odd 1" from "t""2" --…'),
        ("select /* a /* b */ 'c' */ 1 /* d */", "select /*…*/ 0 /*…*/"),
        ("select date '2026-01-01', t1.c2 from t1", "select date '…', t1.c2 from t1"),
        ("select 'a'\n'b'", "select '…'\n'…'"),
        ("-- only words", "--…"),
    ],
)
def test_values_go_and_names_stay(text: str, bare: str) -> None:
    assert drop(text) == bare


@pytest.mark.parametrize("text", ["select 'open", "select $$open", "/* open", "select U&'x'", 'select "open'])
def test_what_cannot_be_read_is_nothing(text: str) -> None:
    assert drop(text) is None


def test_the_values_are_told_as_they_are() -> None:
    found = without("select 'O''Brien', 12, $q$x'y$q$", lambda value, number: "?")
    assert found is not None
    assert found[1] == ["O'Brien", "12", "x'y"]


def test_no_constant_is_left_in_a_statement_of_the_corpora() -> None:
    tried = 0
    for text in CORPUS:
        if not parses(text):
            continue
        bare = drop(text)
        assert bare is not None, text
        assert constants(bare) <= LEFT, (text, bare)
        assert parses(bare), (text, bare)
        tried += 1
    assert tried > 300


PIECES = st.sampled_from(
    [
        "select ",
        "'",
        "''",
        "$$",
        "$a$",
        "--",
        "\n",
        "/*",
        "*/",
        "E'",
        "\\",
        '"',
        "1",
        "0x",
        "e5",
        ".",
        "a",
        "$1",
        " ",
        "U&",
    ]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join))
def test_no_constant_is_left_in_any_text_that_is_sql(text: str) -> None:
    if "\0" in text or not parses(text):
        return
    bare = drop(text)
    assert bare is not None
    assert constants(bare) <= LEFT
