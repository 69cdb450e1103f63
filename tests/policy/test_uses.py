"""What a statement needs: never fewer columns than it uses."""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog
from proxy.policy.bind import Bound
from proxy.policy.uses import everything, uses

ITEMS = {"order_id", "line", "product_id", "qty"}
ORDERS = {"id", "customer_id", "status", "placed_at", "note"}
PRODUCTS = {"id", "name", "price"}


@pytest.fixture(scope="module")
def bound(shop_catalog: Catalog) -> Bound:
    return Bound(everything(shop_catalog, ("app",)), shop_catalog)


CASES = [
    ("select id from orders", {"orders": {"id"}}),
    ("select o.id from orders o where status = 'new'", {"orders": {"id", "status"}}),
    ("select * from orders", {"orders": ORDERS}),
    ("select o.* from orders o, products p", {"orders": ORDERS, "products": set()}),
    ("table products", {"products": PRODUCTS}),
    ("select count(*) from orders", {"orders": set()}),
    ("select count(o) from orders o", {"orders": ORDERS}),
    ("select to_jsonb(orders) from orders", {"orders": ORDERS}),
    ("select name from products order by price", {"products": {"name", "price"}}),
    ("select a from products p(a, b, c)", {"products": PRODUCTS}),
    (
        "select line from orders join order_items on order_items.order_id = orders.id",
        {"orders": {"id"}, "order_items": {"line", "order_id"}},
    ),
    ("select name from products join orders using (id)", {"products": {"name", "id"}, "orders": {"id"}}),
    ("select price from products natural join customers", {"products": {"price", "id", "name"}}),
    ("select j.status from (orders o join order_items i on o.id = i.order_id) as j", {"orders": {"id", "status"}}),
    (
        "select j.a from (orders o join order_items i on o.id = i.order_id) as j(a)",
        {"orders": ORDERS, "order_items": ITEMS},
    ),
    ("with c as (select id from orders) select * from c", {"orders": {"id"}}),
    ("with c as (select * from orders) select id from c", {"orders": ORDERS}),
    (
        "select name from products p where exists (select from order_items where product_id = p.id and qty > 2)",
        {"products": {"name", "id"}, "order_items": {"product_id", "qty"}},
    ),
    ("select (select status from orders where price > 1 limit 1) from products",
     {"orders": {"status"}, "products": {"price"}}),
    ("select l.x from products p, lateral (select p.price as x) l", {"products": {"price"}}),
    ("select id from orders union select id from products order by 1", {"orders": {"id"}, "products": {"id"}}),
    ("select (o).status from orders o", {"orders": ORDERS}),
    ("copy orders to stdout", {"orders": ORDERS}),
    ("copy orders (id, note) to stdout", {"orders": {"id", "note"}}),
    ("copy (select id from orders) to stdout", {"orders": {"id"}}),
    ("explain select note from orders", {"orders": {"note"}}),
    ("prepare p as select note from orders", {"orders": {"note"}}),
    ("declare c cursor for select note from orders", {"orders": {"note"}}),
    ("select id from orders; select price from products", {"orders": {"id"}, "products": {"price"}}),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "wanted"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_columns_that_a_statement_reads(bound: Bound, sql: str, wanted: dict[str, set[str]]) -> None:
    found = uses(bound, sql.encode())
    assert found is not None
    mine = {name: columns for (schema, name), columns in found.all.items() if schema == "app"}
    assert {name: mine.get(name) for name in wanted} == wanted


def test_names_apart_from_stars(bound: Bound) -> None:
    found = uses(bound, b"select * from orders where status = 'new'")
    assert found is not None
    assert found.named["app", "orders"] == {"status"}
    assert found.all["app", "orders"] == ORDERS


def test_what_needs_a_whole_table(bound: Bound) -> None:
    found = uses(bound, b"select ctid from orders")
    assert found is not None
    assert found.whole == {("app", "orders")}


def test_functions_and_what_cannot_be_told(bound: Bound) -> None:
    found = uses(bound, b"select vat(price), app.vat(1) from products")
    assert found is not None
    assert found.functions == {("vat",), ("app", "vat")}
    assert uses(bound, b"select from where") is None
    assert uses(bound, b"select * from nowhere") is None
    assert uses(bound, b"begin") is not None


def test_without_harm(shop_catalog: Catalog) -> None:
    harmless = everything(shop_catalog, ("app",), harmless=True).model.functions.allow
    assert "app.vat" in harmless
    assert not {"app.touch", "app.leak"} & set(harmless)
