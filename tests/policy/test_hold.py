"""Which statements wait for another person's yes: a property of the judgement, cached like any other."""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog
from proxy.policy.compare import compare
from proxy.policy.judge import Judge, both
from proxy.policy.load import PolicyError, parse

TEXT = """
name: reader
databases: [shop]
search_path: [app]
tables: {app.customers: {deny: [ssn], mask: {email: email}}, app.orders: {}, app.products: {}}
"""
HELD = TEXT + "hold: {tables: [app.cust*], functions: [pg_catalog.version]}\n"


def judge(text: str, catalog: Catalog) -> Judge:
    return Judge(parse(text, "test"), catalog)


@pytest.mark.parametrize(
    ("sql", "verdict"),
    [
        ("select * from orders", "allow"),
        ("select name from customers", "hold"),
        ("select 1; select count(*) from app.customers c", "hold"),
        ("select o.id from orders o where exists (select from customers c where c.id = o.id)", "hold"),
        ("declare c cursor for select name from customers", "hold"),
        ("copy (select name from customers) to stdout", "hold"),
        ("select amount from hr.salaries, customers", "deny"),
        ("select 1; drop table customers", "deny"),
        ("prepare p as select name from customers", "mask"),
        ("begin", "allow"),
    ],
)
def test_what_waits(sql: str, verdict: str, shop_catalog: Catalog) -> None:
    found = judge(HELD, shop_catalog).judge(sql.encode())
    assert found.verdict == verdict
    assert found.allowed == (verdict != "deny")
    if verdict == "hold":
        assert found.held
        assert not found.plain


def test_the_caches_keep_it(shop_catalog: Catalog) -> None:
    one = judge(HELD, shop_catalog)
    for text in (b"select name from customers where id = 1", b"select name from customers where id = 2") * 2:
        assert one.judge(text).verdict == "hold"
        assert one.judge(text) == one.uncached(text)


def test_a_hold_in_either_policy_counts(shop_catalog: Catalog) -> None:
    plain, held = judge(TEXT, shop_catalog), judge(HELD, shop_catalog)
    sql = b"select name from customers"
    assert both(plain, held).judge(sql).verdict == "hold"
    assert both(held, plain).judge(sql).verdict == "hold"


def test_an_observing_policy_holds_nothing(shop_catalog: Catalog) -> None:
    watcher = judge("name: w\nmode: observe\ndatabases: [shop]\nhold: {tables: [app.*]}\n", shop_catalog)
    found = watcher.judge(b"select name from app.customers")
    assert (found.verdict, found.held) == ("allow", False)


def test_it_is_a_difference_between_policies() -> None:
    (change,) = compare(parse(TEXT, "a"), parse(TEXT + "hold: {tables: [app.orders]}\n", "b"))
    assert (change.effect, change.text) == ("refuses", "app.orders waits for an approval")


def test_a_hold_names_something() -> None:
    with pytest.raises(PolicyError, match="tables or functions"):
        parse(TEXT + "hold: {from: [owners]}\n", "test")
    with pytest.raises(PolicyError, match=r"not schema\.name"):
        parse(TEXT + "hold: {tables: [orders]}\n", "test")
