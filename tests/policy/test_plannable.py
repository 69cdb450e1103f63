"""Which queries of a text Postgres would plan, and what a policy shows in words."""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog
from proxy.policy import describe, plannable
from proxy.policy.bind import Bound
from proxy.policy.load import parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("select a from t where b = 'x''y'", [("SELECT a FROM t WHERE b = 'x''y'", 0)]),
        ("select $2::int, $1", [("SELECT $2::int, $1", 2)]),
        ("begin; table t; commit", [("SELECT * FROM t", 0)]),
        ("copy app.t to stdout", [("SELECT * FROM app.t", 0)]),
        ("copy (values (1)) to stdout", [("VALUES (1)", 0)]),
        ("declare c cursor for select 1", [("SELECT 1", 0)]),
        ("prepare p as select $1", [("SELECT $1", 1)]),
        ("explain select 1", []),
        ("explain (analyze, buffers) select 1", [("SELECT 1", 0)]),
        ("explain analyze select 1", [("SELECT 1", 0)]),
        ("execute p; fetch c; show x; set a = 1", []),
    ],
)
def test_queries(text: str, found: list[tuple[str, int]]) -> None:
    assert [(q.sql, q.parameters) for q in plannable.queries(text.encode())] in (
        found,
        [("TABLE t" if sql == "SELECT * FROM t" else sql, n) for sql, n in found],
    )


def test_scope_in_words(shop_catalog: Catalog) -> None:
    text = "name: p\ndatabases: [shop]\ntables:\n"
    text += "  app.customers: {columns: [id, email], mask: {email: email}, rows: 'id > 3'}\n  app.products: {}\n"
    assert describe.scope(Bound(parse(text, "test"), shop_catalog)) == [
        "app.customers (id, email masked); some rows",
        "app.products (id, name, price)",
    ]
