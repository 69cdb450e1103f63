"""The least policy: it keeps every statement, with the same rows, and nothing that was not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.catalog import Catalog
from proxy.demo.postgres import PostgresServer
from proxy.policy.judge import Judge, startup_settings
from proxy.policy.load import parse
from proxy.policy.model import Policy
from proxy.policy.suggest import suggest
from tests.policy.conftest import POLICY

HONEST: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("honest.jsonl").read_text().splitlines()
]
OBSERVE = "name: watch\nmode: observe\ndatabases: [shop]\n"


def least(catalog: Catalog, *statements: str, policy: str = POLICY) -> Policy:
    """The suggestion, which must load, fit the catalog, and allow again what was allowed."""
    old = parse(policy, "p")
    found = suggest(old, catalog, [s.encode() for s in statements])
    new = parse(found.text, "suggestion")
    before, after = Judge(old, catalog), Judge(new, catalog)
    assert [p for p in after.problems if p.severity == "error"] == []
    out = {u.sql for u in found.uncovered}
    for sql in map(str.encode, statements):
        if before.judge(sql).allowed and sql not in out:
            assert after.judge(sql).allowed, (sql, found.text)
    return new


def shown(policy: Policy) -> dict[str, Any]:
    return {name: entry.model_dump(exclude_defaults=True) for name, entry in policy.model.tables.items()}


CASES: list[tuple[str, dict[str, Any]]] = [
    ("select name from customers", {"app.customers": {"columns": ["name"]}}),
    ("select email from customers", {"app.customers": {"columns": ["email"], "mask": {"email": "email"}}}),
    ("select * from customers", {"app.customers": {"deny": ["ssn"], "mask": {"email": "email", "phone": "last4"}}}),
    ("select count(*) from order_items", {"app.order_items": {"columns": []}}),
    ("select id from events where at > now()", {"app.events": {"columns": ["id", "at"], "rows": "kind = 'kind1'"}}),
    ("select ctid, line from order_items", {"app.order_items": {}}),
    ("copy products to stdout", {"app.products": {}}),
    ("copy products (id) to stdout", {"app.products": {"columns": ["id"]}}),
    ("select * from products tablesample bernoulli (10) where id > 0", {"app.products": {}}),
    ("select id from products tablesample bernoulli (10)", {"app.products": {}}),
    ("select id from only products", {"app.products": {}}),
    ("select 'app.products'::regclass::text, count(*) from order_items",
     {"app.order_items": {"columns": []}, "app.products": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "wanted"), CASES, ids=[c[0] for c in CASES])
def test_only_what_was_used_stays(shop_catalog: Catalog, sql: str, wanted: dict[str, Any]) -> None:
    assert shown(least(shop_catalog, sql)) == wanted


def test_functions_that_were_not_used_go(shop_catalog: Catalog) -> None:
    assert least(shop_catalog, "select vat(price) from products").model.functions.allow == ["app.vat"]
    assert least(shop_catalog, "select price from products").model.functions.allow == []


def test_a_view_keeps_what_it_reads(shop_catalog: Catalog) -> None:
    policy = "name: a\ndatabases: [shop]\nsearch_path: [app]\ntables: {'app.*': {}}\n"
    found = least(shop_catalog, "select name from customer_names", policy=policy)
    assert shown(found) == {"app.customer_names": {"columns": ["name"]}, "app.customers": {}}


def test_what_the_policy_refuses_is_not_covered(shop_catalog: Catalog) -> None:
    found = suggest(parse(POLICY, "p"), shop_catalog, [b"select name from customers", b"select 1 from hr.salaries"])
    assert [(u.sql, u.rule) for u in found.uncovered] == [(b"select 1 from hr.salaries", "table")]


def test_no_table_read_leaves_them_all(shop_catalog: Catalog) -> None:
    assert len(least(shop_catalog, "select 1").model.tables) == 6


def test_tests_that_expect_more_are_left_out(shop_catalog: Catalog) -> None:
    policy = POLICY + (
        "tests:\n"
        "  - {sql: select name from customers, verdict: mask}\n"
        "  - {sql: select phone from customers, verdict: mask}  # named, and gone\n"
        "  - {sql: select * from products, verdict: allow}\n"
        "  - {sql: select 1 from hr.salaries, verdict: deny}\n"
    )
    tests = least(shop_catalog, "select name from customers", policy=policy).model.tests
    assert [t.sql for t in tests] == ["select name from customers", "select 1 from hr.salaries"]


def test_an_observed_session(shop_catalog: Catalog) -> None:
    used = [
        "select id, email from app.customers",
        "set search_path = app",
        "select name from customers where country = 'DE'",
        "select person from hr.salaries",
        "select * from customer_names",
        "select vat(1)",
        "select touch(1)",
        "insert into products (name, price) values ('a', 1)",
    ]
    found = suggest(parse(OBSERVE, "p"), shop_catalog, [u.encode() for u in used])
    new = least(shop_catalog, *used, policy=OBSERVE)
    assert new.mode == "enforce"
    assert new.search_path == ("app",)
    assert new.model.functions.allow == ["app.vat"]
    assert shown(new) == {
        "app.customer_names": {"trusted": True},
        "app.customers": {"columns": ["id", "name", "email", "country"]},
        "hr.salaries": {"columns": ["person"]},
    }
    assert [u.rule for u in found.uncovered] == ["function", "write"]
    assert any("trusted" in text for text in found.notes)


def test_names_without_a_schema_are_looked_for(shop_catalog: Catalog) -> None:
    assert shown(least(shop_catalog, "select price from products", policy=OBSERVE)) == {
        "app.products": {"columns": ["price"]}
    }


def test_the_diff_is_one(shop_catalog: Catalog) -> None:
    policy = parse(POLICY, "p")
    found = suggest(policy, shop_catalog, [b"select name from customers"])
    diff = found.diff(policy, "policies/shop.yaml")
    assert diff.startswith("--- a/policies/shop.yaml\n+++ b/policies/shop.yaml\n@@")
    assert "+  app.customers: {columns: [name]}\n" in diff


# -- honest statements keep their rows -----------------------------------------------------------------------------


def _alone(pg: PostgresServer, catalog: Catalog, entries: list[dict[str, Any]]) -> None:
    """Each statement under the least policy for it alone, on a real server, with the rows it had."""
    policy = parse(POLICY, "p")
    before = Judge(policy, catalog)
    told = startup_settings(policy, pg.version * 10000).items()
    options = " ".join(f"-c {k}={v}".replace("\\", "\\\\").replace(" ", "\\ ").replace("-c\\ ", "-c ") for k, v in told)

    def client() -> psycopg.Connection[Any]:
        return psycopg.connect(pg.dsn("policy_shop"), options=options, autocommit=True)

    with client() as one, client() as other:
        for entry in entries:
            if not entry.get("since", 0) <= pg.version <= entry.get("until", 99):
                continue
            sql = entry["sql"].encode()
            after = Judge(least(catalog, entry["sql"]), catalog)
            mine = _rows(one, before.judge(sql).forward, prepare="prepare" in entry)
            theirs = _rows(other, after.judge(sql).forward, prepare="prepare" in entry)
            if "differs" in entry:
                assert isinstance(mine, str) == isinstance(theirs, str), entry["sql"]
            else:
                assert mine == theirs, entry["sql"]


def _rows(client: psycopg.Connection[Any], sql: bytes, *, prepare: bool) -> list[str] | str:
    """The rows, or the server's complaint."""
    pgconn = client.pgconn
    done = pgconn.prepare(b"", sql) if prepare else pgconn.exec_(sql)
    if done.error_message:
        return done.error_message.decode().splitlines()[0]
    rows = [str([done.get_value(r, c) for c in range(done.nfields)]) for r in range(done.ntuples)]
    if done.status == psycopg.pq.ExecStatus.COPY_OUT:
        while (piece := pgconn.get_copy_data(0))[0] > 0:
            rows.append(bytes(piece[1]).decode(errors="replace"))
        while pgconn.get_result():
            pass
    return sorted(rows)


@pytest.mark.thorough
def test_some_honest_statements_keep_their_rows(pg: PostgresServer, shop_catalog: Catalog) -> None:
    _alone(pg, shop_catalog, HONEST[::12])


@pytest.mark.slow
def test_all_honest_statements_keep_their_rows(pg: PostgresServer, shop_catalog: Catalog) -> None:
    _alone(pg, shop_catalog, HONEST)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_session_of_honest_statements_is_kept(shop_catalog: Catalog, data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(HONEST), min_size=1, max_size=25))
    least(shop_catalog, *(entry["sql"] for entry in some))
    least(shop_catalog, *(entry["sql"] for entry in some), policy=OBSERVE)
