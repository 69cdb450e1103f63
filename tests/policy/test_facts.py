"""The second parser: it agrees with the first on honest SQL, and a difference is a denial."""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog
from proxy.policy import facts, oracle
from proxy.policy.bind import Bound
from proxy.policy.load import parse
from proxy.policy.refusal import Refused
from proxy.policy.scope import Walk
from tests.policy.conftest import POLICY


def walk_of(catalog: Catalog, sql: str) -> Walk:
    (raw,) = oracle.statements(sql.encode())
    walk = Walk(Bound(parse(POLICY, "p"), catalog))
    walk.select(raw.node, {})
    return walk


HONEST = [
    "select date_trunc('month', placed_at), count(*) from orders group by 1",
    "select c.name from app.customers as c join orders o on o.customer_id = c.id where c.country in ('DE', 'FR')",
    "select payload -> 'a' ->> 'b' from events",
    "select 'one'\n'two', E'a\\n\\x41', $$it's$$, $t$x$$y$t$, N'n', '', 'it''s', B'101', X'1F', 0x1F",
    "select interval '1 day 02:00', interval '1' year, interval '1-2' year to month, interval 'P1Y', interval '@ 1 h'",
    "select extract(year from placed_at), extract('YEAR' from placed_at), normalize('x', NFC) from orders",
    "select 'x' is nfc normalized, 'x' is not normalized",
    "select daterange('2024-01-01', '2024-02-01') && daterange('2024-01-15', '2024-03-01')",
]


@pytest.mark.parametrize("sql", HONEST)
def test_agreement(shop_catalog: Catalog, sql: str) -> None:
    facts.agree(sql, walk_of(shop_catalog, sql), frozenset())


@pytest.mark.parametrize(
    "other",
    [
        "select date_trunc('month', placed_at), count(*) from order_items group by 1",
        "select date_trunc('month', created_at), count(*) from orders group by 1",
        "select vat(1), count(*) from orders group by 1",
        "delete from orders",
        "select 1; select 2",
    ],
)
def test_a_different_reading_is_a_denial(shop_catalog: Catalog, other: str) -> None:
    with pytest.raises(Refused) as caught:
        facts.agree(other, walk_of(shop_catalog, HONEST[0]), frozenset())
    assert caught.value.rule == "parser"


STRINGS = "select 'a', interval '2 days', payload -> 'k' from events where kind = E'x\\n'"


def test_string_constants_are_compared(shop_catalog: Catalog) -> None:
    walk = walk_of(shop_catalog, STRINGS)
    facts.agree(STRINGS, walk, frozenset())
    for one, other in (
        ("'a'", "'b'"),
        ("'a'", "'a', 'a'"),
        ("'2 d", "'3 d"),
        ("'k'", "'j'"),
        ("x\\n", "x"),
        ("'a', ", ""),
    ):
        with pytest.raises(Refused, match="string constants"):
            facts.agree(STRINGS.replace(one, other), walk, frozenset())
