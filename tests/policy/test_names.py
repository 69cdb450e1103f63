"""Names: of relations, functions, operators, types, casts and collations, each in its worse reading."""

from __future__ import annotations

import pytest

from proxy.policy.judge import Judge
from proxy.policy.names import oracle_identifier


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("select * from other_db.app.orders", "table"),
        ("select other_db.pg_catalog.now()", "function"),
        ("select hr.nothing()", "function"),
        ("select version()", "function"),
        ("select pg_catalog.version()", None),
        ("select 1 operator(hr.+) 2", "operator"),
        ("select 1 operator(pg_catalog.+) 2", None),
        ("select 'sad'::app.mood", None),
        ("select 'sad'::mood", None),
        ("select null::app.orders", "type"),
        ("select null::app.products", None),
        ("select null::pg_class", "type"),
        ("select 'x' collate hr.c", "type"),
        ("select 'x' collate \"C\"", None),
        ("select 'hr'::regnamespace", "table"),
        ("select 'app'::regnamespace", None),
        ("select 16384::regclass", None),
        ("select '16384'::regclass", None),
        ("select pg_get_serial_sequence('hr.salaries', 'amount')", "table"),
        ("select format('%s', 1)", None),
        ("select format('%900000s', 1)", "limit.size"),
        ("select repeat('x', 1000 * 1000)", "limit.size"),
        ("select repeat('x', length(name)) from products", None),
        ("select * from products tablesample bernoulli (5)", None),
        ("select * from products tablesample touch (5)", "function"),
    ],
)
def test_names(judge: Judge, sql: str, rule: str | None) -> None:
    refusal = judge.judge(sql.encode()).refusal
    assert (refusal.rule if refusal else None) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app.orders", ("app", "orders")),
        ('"A b".c', ("A b", "c")),
        ("ORDERS", ("orders",)),
        ("a b", None),
        ("a, b", None),
        ("a where true", None),
        ("", None),
        ("(select 1)", None),
    ],
)
def test_a_name_in_a_string_is_read_by_postgres_grammar(text: str, words: tuple[str, ...] | None) -> None:
    assert oracle_identifier(text) == words
