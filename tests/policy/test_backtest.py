"""Recorded statements under another policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.catalog import Catalog
from proxy.policy.backtest import Backtest, Changed, Recorded, Report, shape_of
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from tests.policy.conftest import POLICY

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NEXT = """
name: next
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn, name], mask: {email: email}, rows: "country = 'DE'"}
  app.orders: {}
  hr.salaries: {}
limits: {rows_per_statement: 10, bytes_per_statement: 1KiB, statement_timeout: 1s}
"""


def recorded(sql: str, verdict: str = "allow", **more: Any) -> Recorded:
    facts: dict[str, Any] = {"rule": verdict, "at": NOW, "session": "s-1", "grant": "g-1", **more}
    return Recorded(sql, verdict, **facts)


def judged(catalog: Catalog, *statements: Recorded, policy: str = NEXT, known: bool = True) -> Report:
    old = Judge(parse(POLICY, "old"), catalog)
    return Backtest(Judge(parse(policy, "new"), catalog), lambda _: old if known else None).run(statements)


def one(report: Report) -> Changed:
    (change,) = report.changes
    return change


@pytest.mark.parametrize(
    ("sql", "verdict", "effect", "rule", "words"),
    [
        ("select price from products", "allow", "refused", "table", "products cannot be read"),
        ("select vat(1)", "allow", "refused", "function", "not allowed"),
        ("select name from customers", "mask", "refused", "column", "app.customers shows no column name"),
        ("select * from customers", "mask", "changed", "mask", "app.customers.name: hidden"),
        ("select phone from customers where country = 'DE'", "mask", "changed", "mask",
         "app.customers.phone: shown as it is; it was masked as last4"),
        ("select email from customers", "mask", "changed", "mask", "only rows where country"),
        ("select amount from hr.salaries", "deny", "allowed", "allow", "was refused by the rule deny"),
        ("select id from orders", "mask", None, "", ""),
        ("select * from orders", "mask", "changed", "allow", "app.orders.note: shown"),
        ("delete from orders", "deny", None, "", ""),
        ("select 1", "allow", None, "", ""),
    ],
)  # fmt: skip
def test_what_becomes_of_a_statement(
    shop_catalog: Catalog, sql: str, verdict: str, effect: str | None, rule: str, words: str
) -> None:
    report = judged(shop_catalog, recorded(sql, verdict))
    assert report.totals[effect or "same"] == 1
    assert report.ok == (effect != "refused")
    if effect is None:
        assert report.changes == []
    else:
        change = one(report)
        assert (change.effect, change.rule) == (effect, rule)
        assert words in change.reason


def test_like_statements_are_one_group_without_their_constants(shop_catalog: Catalog) -> None:
    later = NOW + timedelta(hours=1)
    change = one(judged(
        shop_catalog,
        recorded("select price from products where name = 'secret one'"),
        recorded("select price from products where name = 'secret two'", at=later, grant="g-2"),
    ))  # fmt: skip
    assert change.statement == "select price from products where name = $1"
    assert (change.count, change.first, change.last, change.grants) == (2, NOW, later, {"g-1", "g-2"})


def test_what_never_worked_is_no_loss(shop_catalog: Catalog) -> None:
    report = judged(shop_catalog, recorded("select nothing from nowhere", sqlstate="42P01"))
    assert report.ok
    assert not one(report).ran
    assert not judged(shop_catalog, recorded("select price from products", sqlstate="57014")).ok


@pytest.mark.parametrize(
    ("facts", "rule"), [({"rows": 11}, "limit.rows"), ({"bytes": 1025}, "limit.bytes"), ({"ms": 1001.0}, "limit.time")]
)
def test_limits_of_single_statements(shop_catalog: Catalog, facts: dict[str, Any], rule: str) -> None:
    change = one(judged(shop_catalog, recorded("select id from orders", "mask", **facts)))
    assert (change.effect, change.rule) == ("refused", rule)


def test_without_the_grants_policy_a_table_was_shown_whole(shop_catalog: Catalog) -> None:
    report = judged(shop_catalog, recorded("select email from customers"), known=False)
    assert "app.customers.email: masked as email; it was shown as it is" in one(report).reason


def test_to_observe(shop_catalog: Catalog) -> None:
    observe = "name: watch\nmode: observe\ndatabases: [shop]\n"
    report = judged(
        shop_catalog,
        recorded("delete from orders", "deny"), recorded("select price from products"),
        recorded("select email from customers", "mask"), policy=observe,
    )  # fmt: skip
    assert [c.effect for c in report.changes] == ["changed", "allowed"]


@pytest.mark.parametrize(
    ("sql", "shape"),
    [
        ("select  1,\n 'a'", "select $1, $2"),
        ("select from where 'secret'", "select from where '…'"),
        ("selec $x$secret$x$ 'sec''ret", "selec '…' '…'"),
        ("alter role me password 'secret'", "alter role me password $1"),
        ("select 'a\0b'", "select '…'"),
    ],
)
def test_shapes_hold_no_constants(sql: str, shape: str) -> None:
    assert shape_of(sql) == shape
