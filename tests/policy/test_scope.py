"""The walk: exact scopes of WITH, columns that a query gives, and no node type that is not on a list.

Covers `proxy/policy/scope.py` and `proxy/policy/nodes.py`.
"""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog
from proxy.policy import oracle
from proxy.policy.bind import Bound
from proxy.policy.load import parse
from proxy.policy.refusal import Refused
from proxy.policy.scope import Walk
from tests.policy.conftest import POLICY


def walked(catalog: Catalog, sql: str) -> tuple[Walk, tuple[str | None, ...]]:
    (raw,) = oracle.statements(sql.encode())
    walk = Walk(Bound(parse(POLICY, "p"), catalog))
    given = walk.select(raw.node, {})
    walk.finish()
    return walk, given.names


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("select id, name as n, count(*), lower(name), 1, id::text, coalesce(id, 1) from products group by 1, 2",
         ("id", "n", "count", "lower", None, "id", "coalesce")),
        ("select * from products", ("id", "name", "price")),
        ("select p.*, 1 as one from products p", ("id", "name", "price", "one")),
        ("select * from customers", ("id", "name", "email", "phone", "country", "born", "created_at")),
        ("values (1, 2)", ("column1", "column2")),
        ("select * from products p(a, b)", ("a", "b", "price")),
        ("with x(k) as (select id from products) select * from x", ("k",)),
        ("select a from (select id as a from products) s union select 1", ("a",)),
    ],
)  # fmt: skip
def test_columns_of_a_query(shop_catalog: Catalog, sql: str, names: tuple[str | None, ...]) -> None:
    assert walked(shop_catalog, sql)[1] == names


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("with orders as (select 1) select * from orders", []),
        ("with orders as (select * from orders) select * from orders", ["app.orders"]),
        ("with a as (select * from orders), orders as (select 1) select * from a", ["app.orders"]),
        ("with recursive a as (select * from orders), orders as (select 1 as x) select * from a", []),
        ("with orders as (select 1) select * from app.orders", ["app.orders"]),
        ('with "Orders" as (select 1) select * from orders', ["app.orders"]),
        ("select (with orders as (select 1 as x) select x from orders) from orders", ["app.orders"]),
        ("select * from (with orders as (select 1) select * from orders) x, orders", ["app.orders"]),
        ("with orders as (select 1) (select * from orders union select 2) union select * from orders", []),
    ],
)
def test_with_shadows_exactly_what_it_shadows(shop_catalog: Catalog, sql: str, tables: list[str]) -> None:
    walk, _ = walked(shop_catalog, sql)
    assert sorted({r.shown.relation.qualified for r in walk.references}) == tables


@pytest.mark.parametrize(
    "place",
    [
        "select {}", "select 1 where {}", "select 1 limit {}", "select 1 offset {}", "values ({})", "select array[{}]",
        "select case when true then {} end", "select (select {})", "select 1 order by {}", "select 1 group by {}",
        "select 1 having {}", "select count(*) filter (where {})", "select sum(1) over (partition by {})",
        "select sum(1) over (order by 1 rows {} preceding)", "select * from generate_series(1, {}) g",
        "select * from orders o join orders p on {}", "select * from orders, lateral (select {}) x",
        "select * from rows from (lower({})) x", "select * from products tablesample system ({})",
        "select coalesce(1, {})", "select row({})", "select ({})::text", "select {} between 1 and 2",
        "select 1 in ({})",
        "select string_agg('a', {})", "select array_agg(1 order by {})", "select greatest({}, 1)",
        "select nullif(1, {})",
        "select (array[1])[{}]", "select distinct on ({}) 1", "with x as (select {}) select 1", "select not {}",
        "select xmlelement(name a, {})", "select percentile_cont({}) within group (order by 1)", "select {} is null",
        "select * from xmltable('/' passing {} columns a int path 'a')", "select grouping({})",
        "select * from orders window w as (partition by {})", "select exists (select {})", "select 1 = any (select {})",
    ],
)  # fmt: skip
def test_a_call_is_found_wherever_it_stands(shop_catalog: Catalog, place: str) -> None:
    with pytest.raises(Refused) as caught:
        walked(shop_catalog, place.format("pg_sleep(1)"))
    assert caught.value.rule == "function"


def test_an_unknown_node_is_a_denial(shop_catalog: Catalog) -> None:
    walk = Walk(Bound(parse(POLICY, "p"), shop_catalog))
    with pytest.raises(Refused):
        walk.walk({"SomethingNew": {}}, {})
    with pytest.raises(Refused):
        walk.select({"targetList": [], "somethingNew": {}}, {})
    with pytest.raises(Refused):
        walk.walk({"CaseExpr": {"newField": {"x": 1}}}, {})
