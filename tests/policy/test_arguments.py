"""Functions that answer for some arguments only: what is narrowed, what passes, what is refused."""

from __future__ import annotations

import pytest

from proxy.policy.judge import Judge
from tests.policy.conftest import Judging


@pytest.mark.parametrize(
    "sql",
    [
        "select pg_table_size('app.products')",
        "select pg_catalog.pg_relation_size('app.products'::regclass, 'main')",
        "select current_setting('TimeZone', true)",
        "select has_table_privilege(current_user, 'app.customers', 'select')",
        "select has_column_privilege('app.customers', 'name', 'select')",
        "select has_table_privilege(c.oid, 'select') from app.orders c(oid)",
    ],
)
def test_what_is_shown_is_answered_as_it_stands(judge: Judge, sql: str) -> None:
    found = judge.judge(sql.encode())
    assert found.allowed, found.refusal
    assert b"CASE" not in found.forward


@pytest.mark.parametrize(
    ("sql", "inside"),
    [
        ("select pg_table_size(c.oid) from pg_class c", "THEN c.oid END"),
        ("select pg_total_relation_size($1)", "THEN $1 END"),
        (
            "select pg_size_pretty(pg_catalog.pg_database_size(d.datname)) from pg_database d",
            "WHEN false THEN d.datname",
        ),
        ("select current_setting($1::text)", "THEN $1 END)::text"),
        ("select current_setting(s . name) from pg_settings s", "THEN s . name END"),
        ("select pg_get_viewdef('4711'::pg_catalog.oid, true)", "WHEN false THEN '4711' END)::pg_catalog.oid"),
        (
            "select pg_get_ruledef(r.oid, true) from pg_rewrite r",
            "select pg_catalog.concat('CREATE RULE (not shown)') from",
        ),
        ("explain select pg_table_size(c.oid) from pg_class c", "THEN c.oid END"),
        ("declare x cursor for select current_setting(name) from pg_settings", "THEN name END"),
    ],
)
def test_a_column_or_parameter_is_narrowed(judge: Judge, sql: str, inside: str) -> None:
    found = judge.judge(sql.encode())
    assert found.allowed, found.refusal
    assert inside in found.forward.decode()
    assert found.shape is None


@pytest.mark.parametrize(
    "sql",
    [
        "select pg_table_size('app.customers')",  # masked: its size tells about what is hidden
        "select pg_table_size('hr.salaries'::regclass)",
        "select pg_table_size('app.products_and_more'::char(12)::regclass)",
        "select pg_table_size('app.' || 'products')",
        "select pg_table_size(1259)",
        "select pg_table_size('pg_class')",
        "select pg_database_size('shop')",
        "select pg_database_size(current_database())",
        "select current_setting('data_directory')",
        "select current_setting('data_' || 'directory')",
        "select current_setting(setting_name => 'data_directory')",
        "select current_setting(variadic array['data_directory'])",
        "select pg_get_viewdef('app.customer_secrets')",
        "select pg_get_viewdef(oid) from pg_class",
        "select pg_get_viewdef('app.orders')",
        "select pg_get_ruledef(4711)",
        "select pg_get_ruledef($1)",
        "select pg_get_ruledef(oid::text::oid) from pg_rewrite",
        "select has_table_privilege('hr.salaries', 'select')",
        "select has_table_privilege('postgres', 'hr.salaries', 'select')",
        "select has_column_privilege('postgres', 'hr.salaries', 'amount', 'select')",
        "select ('app.products'::regclass).pg_table_size",
        "select pg_table_size()",
    ],
)
def test_what_is_not_shown_is_refused_with_a_hint(judge: Judge, sql: str) -> None:
    refusal = judge.judge(sql.encode()).refusal
    assert refusal is not None
    assert refusal.hint


def test_views_that_a_policy_shows_are_defined(judging: Judging) -> None:
    policy = (
        "name: v\ndatabases: [shop]\nsearch_path: [app]\n"
        "tables: {app.products: {}, app.order_items: {}, app.sales: {}, app.customer_secrets: {trusted: true}}"
    )
    judge: Judge = judging(policy)
    oids = {r.name: r.oid for r in judge.catalog.relations}
    assert judge.judge(b"select pg_get_viewdef('app.sales', true)").allowed
    assert b"WHEN true" in judge.judge(b"select pg_get_viewdef('%d'::oid)" % oids["sales"]).forward
    assert not judge.judge(b"select pg_get_viewdef('app.customer_secrets', true)").allowed
    assert b"WHEN false" in judge.judge(b"select pg_get_viewdef('%d'::oid)" % oids["customer_secrets"]).forward


@pytest.mark.parametrize(
    ("sql", "allowed"),
    [
        ("copy customers (id, name) to stdout", True),
        ('copy app.events ( id , "kind" ) to stdout with csv', True),
        ("copy customers (id, ssn) to stdout", False),
        ("copy customers to stdout", False),
        ("copy hr.salaries (amount) to stdout", False),
        ("copy customers (id) from stdin", False),
        ("copy customers (ctid) to stdout", False),
    ],
)
def test_copy_of_columns(judge: Judge, sql: str, allowed: bool) -> None:
    found = judge.judge(sql.encode())
    assert found.allowed == allowed
    if allowed:
        assert b"(SELECT " in found.forward
        assert found.statements[0].verdict == "mask"


@pytest.mark.parametrize(
    ("sql", "allowed"),
    [
        ("set statement_timeout = 5000", True),
        ("set statement_timeout = '10s'", True),
        ("set local statement_timeout to '1min'", False),
        ("set statement_timeout = 0", False),
        ("set statement_timeout = -1", False),
        ("set statement_timeout = '1000000us'", False),
        ("set lock_timeout = '2s'", True),
        ("set lock_timeout = '6s'", False),
        ("set idle_in_transaction_session_timeout = 1000", False),  # the policy has none, a role may
    ],
)
def test_a_time_limit_may_only_be_lowered(judging: Judging, sql: str, allowed: bool) -> None:
    policy = (
        "name: t\ndatabases: [shop]\nsearch_path: [app]\ntables: {app.orders: {}}\nlimits: {statement_timeout: 30s}"
    )
    judge: Judge = judging(policy)
    assert judge.judge(sql.encode()).allowed == allowed


@pytest.mark.parametrize(
    ("sql", "allowed"),
    [
        ("select exists (select * from pg_proc p where p.proname = 'x')", True),
        ("select exists (select * from (select * from pg_proc) x)", False),
        ("select exists (select * from pg_proc), p.* from pg_proc p", False),
        ("select prosrc from pg_proc", False),
        ("select p.prosrc from pg_proc p", False),
        ("select prosrc from pg_proc, (select 'x' as prosrc) y", True),
        ("select viewname from pg_views", True),
        ("select definition from pg_views", False),
        ("select * from pg_matviews", False),
        ("select ev_action from pg_rewrite", False),
    ],
)
def test_code_in_catalogs(judge: Judge, sql: str, allowed: bool) -> None:
    found = judge.judge(sql.encode())
    assert found.allowed == allowed
    assert allowed or (found.refusal and found.refusal.rule == "catalog" and found.refusal.hint)
