"""What may be said in a signing session: read by Postgres's grammar, and nothing but what is on the list."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.load import parse
from proxy.policy.model import Limits
from proxy.policy.refusal import Refused
from proxy.policy.signing import ACCEPT, HOW, SigningJudge, read

POLICY = parse("name: reader\ndatabases: [app]\ntables: {app.a: {}}\n", "test")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("set daypass.accept = 'Jo Doe'", "Jo Doe"),
        ("SET DayPass.Accept TO 'Jo O''Neill' ;", "Jo O'Neill"),
        ("set session daypass.accept = 'Jo Doe'", "Jo Doe"),
        ("set daypass.accept = E'Jo\\x20Doe'", "Jo Doe"),
        ("set daypass.accept = $n$Jo 'the' Doe$n$", "Jo 'the' Doe"),
        ("set /* now */ daypass.accept = 'Jo Doe' -- me", "Jo Doe"),
        ("set \"daypass\".accept = 'Zoë Müller'", "Zoë Müller"),
        ("set daypass.accept = Jo", "jo"),
        ("set daypass.accept = ''", ""),
    ],
)
def test_a_name_in_any_way_that_postgres_takes(text: str, name: str) -> None:
    (said,) = read(text.encode())
    assert (said.kind, said.name, said.value) == ("set", ACCEPT, name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("set daypass.accept = $1", "not written as a string"),
        ("set daypass.accept to default", "not written as a string"),
        ("set daypass.accept = 'a', 'b'", "not written as one string"),
        ("set daypass.accept = 12", "not written as one string"),
        ("set local daypass.accept = 'Jo Doe'", "not written as one string"),
        ("begin; set daypass.accept = 'Jo Doe'", "a statement of its own"),
        ("set daypass.accept = 'Jo Doe'; show daypass.agreement", "a statement of its own"),
        ("set daypass.accept = U&'Jo Doe'", "U&"),
        ("set daypass.accept = 'Jo Doe", "syntax error|unterminated|cannot be read"),
        ("select 1", "nothing else works until you have accepted nda"),
        ("show all", "nothing else works"),
        ("show daypass.accept", "nothing else works"),
        ("select '" + "x" * 5000 + "'", "nothing else works"),
        ("select " + "(" * 50 + "1" + ")" * 50, "nothing else works"),
        ("show search_path", "nothing else works"),
        ("commit and chain", "nothing else works"),
        ("prepare transaction 'x'", "nothing else works"),
        ("savepoint s", "nothing else works"),
        ("set client_encoding = 'latin1'", "nothing else works"),
        ("set standard_conforming_strings = off", "nothing else works"),
        ("reset daypass.accept", "not written as a string"),
        ("reset role", "nothing else works"),
        ("show daypass.agreement; select 1", "nothing else works"),
        ("set daypass.accept = '\0'", "NUL"),
    ],
)
def test_everything_else_is_denied_with_what_to_type(text: str, reason: str) -> None:
    judge = SigningJudge(POLICY, Limits())
    judge.waits_for = "nda (version 3)"
    found = judge.judge(text.encode())
    assert not found.allowed
    assert found.refusal is not None
    assert any(part in found.refusal.reason for part in reason.split("|")), found.refusal
    assert found.refusal.hint
    if reason.startswith("nothing"):
        assert found.refusal.hint == HOW
        assert found.refusal.position is None


def test_what_drivers_say() -> None:
    judge = SigningJudge(POLICY, Limits())
    for text, kinds in (
        ("begin; show daypass.agreement; commit", ["begin", "show", "commit"]),
        ("SET extra_float_digits = -1", ["set"]),
        ("set time zone 'UTC'; reset all", ["set", "reset"]),
        ("start transaction isolation level serializable, read only", ["begin"]),
        ("abort", ["rollback"]),
        ("show server_version", ["show"]),
        (" ; -- nothing", []),
    ):
        found = judge.at_once(text.encode())
        assert found is not None
        assert found.allowed
        assert found.forward == text.encode()
        assert [s.kind for s in found.statements] == kinds


@given(st.text(max_size=60).filter(lambda text: text.isprintable() and "\\" not in text))
def test_a_quoted_name_is_read_as_it_was_typed(name: str) -> None:
    text = f"set daypass.accept = '{name.replace(chr(39), chr(39) * 2)}'".encode("utf-8", "replace")
    (said,) = read(text)
    assert said.value.encode("utf-8", "replace") == name.encode("utf-8", "replace")


@given(st.binary(max_size=200))
def test_noise_is_denied_or_harmless(noise: bytes) -> None:
    with contextlib.suppress(Refused):
        assert all(said.name != ACCEPT for said in read(noise))
