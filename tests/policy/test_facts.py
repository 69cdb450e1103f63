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
