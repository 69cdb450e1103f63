"""Names of output columns: only what is certain has a name."""

from __future__ import annotations

import pytest

from proxy.policy import columns, oracle
from proxy.policy.columns import UNKNOWN, Columns


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("a", "a"), ("t.a", "a"), ("f(1)", "f"), ("s.f(1)", "f"), ("a::text", "a"), ("1::text", None),
        ("a collate \"C\"", "a"), ("1 + 1", None), ("array[1]", "array"), ("(t).a", None),
        ("case when true then 1 end", None),
        ("(select 1)", None),
    ],
)  # fmt: skip
def test_name_of(expression: str, name: str | None) -> None:
    (raw,) = oracle.statements(f"select {expression}".encode())
    assert columns.name_of(raw.node["targetList"][0]["ResTarget"]["val"]) == name


def test_alias_lists_rename_by_position_where_it_is_certain() -> None:
    assert Columns(("a", "b", "c")).renamed(("x",)).names == ("x", "b", "c")
    assert Columns(("a", "b"), exact=False).renamed(("x",)).names == ("x",)
    assert UNKNOWN.renamed(("x", "y")).names == ("x", "y")
    assert not (Columns(("a",)) + UNKNOWN).exact


def test_peek_looks_at_the_first_term() -> None:
    (raw,) = oracle.statements(b"select 1 as n, x union all select n + 1, y from t")
    assert columns.peek(raw.node).names == ("n", "x")
    (raw,) = oracle.statements(b"select * from t union all select 1")
    assert columns.peek(raw.node) is UNKNOWN
