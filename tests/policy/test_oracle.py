"""Postgres's grammar, as we call it: spans, syntax errors, trees that are equal but for their places."""

from __future__ import annotations

import pytest

from proxy.policy import oracle
from proxy.policy.refusal import Refused


def test_spans_are_bytes() -> None:
    sql = "select 'é'; select 2 ;".encode()
    assert [sql[r.start : r.end].strip() for r in oracle.statements(sql)] == ["select 'é'".encode(), b"select 2"]
    assert [r.kind for r in oracle.statements(b"begin; select 1")] == ["TransactionStmt", "SelectStmt"]


def test_a_syntax_error_has_postgres_words_and_place() -> None:
    with pytest.raises(Refused) as caught:
        oracle.statements(b"select 1 fromm x y")
    assert (caught.value.rule, caught.value.reason) == ("syntax", 'syntax error at or near "x"')
    assert caught.value.location == 15


def test_deep_trees_are_refused_and_not_survived_by_luck() -> None:
    with pytest.raises(Refused):
        oracle.statements(b"select " + b"1+" * 5000 + b"1")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("select a  from t", "select a from   t", True),
        ("select a from t", "select b from t", False),
        ("select 1", "select '1'", False),
        ("select a from t", "select a from t as t", False),
        ("select true", "select 1", False),
    ],
)
def test_same(one: str, other: str, equal: bool) -> None:
    assert oracle.same(oracle.tree(one.encode())[0]["stmt"], oracle.tree(other.encode())[0]["stmt"]) is equal


def test_normalize() -> None:
    assert oracle.normalize(b"select a from t where b = 5") == b"select a from t where b = $1"
    assert oracle.normalize(b"selec") is None
