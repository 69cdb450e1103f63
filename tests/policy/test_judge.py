"""The verdicts, statement kind by statement kind, on a real catalog."""

from __future__ import annotations

import pytest

from proxy.policy import uses
from proxy.policy.judge import Judge, both, startup_settings
from tests.policy.conftest import POLICY, Judging


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select 1", "select"),
        ("select * from orders", "select"),
        ("table app.products", "select"),
        ("values (1)", "select"),
        ("explain analyze select count(*) from order_items", "explain"),
        ("begin", "begin"),
        ("begin isolation level repeatable read read only", "begin"),
        ("start transaction", "begin"),
        ("commit", "commit"),
        ("end", "commit"),
        ("abort", "rollback"),
        ("savepoint a", "savepoint"),
        ("rollback to a", "rollback"),
        ("release a", "release"),
        ("set timezone = 'UTC'", "set"),
        ("set session characteristics as transaction read only", "set"),
        ("reset all", "reset"),
        ("show server_version", "show"),
        ("prepare p as select id from products where id = $1", "prepare"),
        ("execute p(1)", "execute"),
        ("deallocate all", "deallocate"),
        ("declare c cursor for select id from products", "declare"),
        ("fetch 5 from c", "fetch"),
        ("move 5 in c", "move"),
        ("close all", "close"),
        ("copy (select id from products) to stdout", "copy"),
        ("copy products (id, name) to stdout with (format csv, header)", "copy"),
        ("discard all", "discard"),
        ("unlisten *", "unlisten"),
    ],
)
def test_allowed(judge: Judge, sql: str, kind: str) -> None:
    judgement = judge.judge(sql.encode())
    assert judgement.refusal is None
    assert judgement.allowed
    assert judgement.statements[0].kind == kind


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("select * from hr.salaries", "table"),
        ("select * from nowhere", "table"),
        ("select * from customer_names", "table"),
        ("select pg_sleep(1)", "function"),
        ("select app.touch(1)", "function"),
        ("select (1).pg_sleep", "function"),
        ("select x.pg_sleep from unnest(array[1]) x", "function"),
        ("select * from pg_stats", "catalog"),
        ("select * from pg_proc", "catalog"),
        ("insert into orders default values", "write"),
        ("with x as (delete from orders returning 1) select 1", "write"),
        ("select 1 into t", "write"),
        ("select 1 from orders for update", "write"),
        ("create table t()", "write"),
        ("begin read write", "write"),
        ("set transaction read write", "write"),
        ("set search_path = hr", "setting"),
        ("reset transaction_read_only", "setting"),
        ("set statement_timeout = 0", "setting"),
        ("select set_config('search_path', 'hr', false)", "setting"),
        ("show data_directory", "setting"),
        ("copy orders to '/tmp/x'", "copy"),
        ("copy orders from stdin", "write"),
        ("copy customers to stdout", "substitute"),
        ("table customers", "substitute"),
        ("select * from only customers", "substitute"),
        ("select * from customers tablesample system (10)", "substitute"),
        ("explain select * from events", "explain"),
        ("explain execute p", "explain"),
        ("listen x", "statement"),
        ("do $$begin end$$", "statement"),
        ("prepare transaction 'x'", "statement"),
        ("selec 1", "syntax"),
        ('select u&"\\0073sn" from customers', "parser"),
        ("select repeat('x', 1000000000)", "limit.size"),
        ("select 'x'::hr.nothing", "type"),
        ("select null::app.customers", "type"),
        ("select 'hr.salaries'::regclass", "table"),
        (f"select {'(' * 200}1{')' * 200}", "limit.nesting"),
    ],
)
def test_denied(judge: Judge, sql: str, rule: str) -> None:
    judgement = judge.judge(sql.encode())
    assert not judgement.allowed
    assert judgement.forward == sql.encode()
    refusal = judgement.refusal
    assert refusal is not None
    assert (refusal.rule, bool(refusal.reason)) == (rule, True)


def test_one_denial_denies_the_text(judge: Judge) -> None:
    judgement = judge.judge(b"select 1; delete from orders; select * from customers")
    assert [s.verdict for s in judgement.statements] == ["allow", "deny", "mask"]
    assert not judgement.allowed
    assert judgement.forward == b"select 1; delete from orders; select * from customers"


@pytest.mark.parametrize("sql", [b"", b" ", b";", b"-- nothing\n", b";;"])
def test_an_empty_query_is_allowed(judge: Judge, sql: bytes) -> None:
    judgement = judge.judge(sql)
    assert (judgement.allowed, judgement.statements, judgement.forward) == (True, (), sql)


@pytest.mark.parametrize("sql", [b"select 1\0; drop table x", b"select '\xff'", b"x" * (2 << 20)])
def test_texts_no_parser_may_see(judge: Judge, sql: bytes) -> None:
    assert not judge.judge(sql).allowed


def test_substitution_keeps_the_rest_of_the_text(judge: Judge) -> None:
    sql = "select /* ü */ c.name from app.customers c where c.email like 'a%' -- end"
    forward = judge.judge(sql.encode()).forward.decode()
    assert forward.startswith("select /* ü */ c.name from (SELECT id, name, ")
    assert forward.endswith(" c where c.email like 'a%' -- end")
    assert "ssn" not in forward


def test_a_missing_alias_is_added_and_schemas_go(judge: Judge) -> None:
    forward = judge.judge(b"select app.customers.id, customers.name from app.customers").forward.decode()
    assert forward.startswith("select customers.id, customers.name from (SELECT")
    assert forward.endswith(") AS customers")


@pytest.mark.parametrize("grouping", ["c.id", "id", "1"])
def test_group_by_on_the_key_keeps_its_meaning(judge: Judge, grouping: str) -> None:
    sql = f"select c.id, c.name, count(*) from customers c group by {grouping}"
    assert f"group by c.name, {grouping}" in judge.judge(sql.encode()).forward.decode()


def test_a_filter_is_fenced(judge: Judge) -> None:
    forward = judge.judge(b"select * from events").forward.decode()
    assert "WHERE (kind = 'kind1') OFFSET 0) AS events" in forward


def test_positions_are_mapped_back(judge: Judge) -> None:
    sql = "select 'é', * from customers c where c.nothing = 1"
    judgement = judge.judge(sql.encode())
    there = judgement.forward.decode().index("c.nothing") + 1
    assert judgement.client_position(there) == sql.index("c.nothing") + 1
    assert judgement.client_position(3) == 3
    inside = judgement.forward.decode().index("pg_catalog") + 1
    assert judgement.client_position(inside) == sql.index("customers") + 1


def test_a_refusal_says_where(judge: Judge) -> None:
    refusal = judge.judge("select 'é' from hr.salaries".encode()).refusal
    assert refusal is not None
    assert refusal.position == len("select 'é' from ") + 1


def test_the_key_is_blanked(judging: Judging) -> None:
    judge = judging(POLICY.replace("email: email", "email: hash"), key="5ec7e7")
    judgement = judge.judge(b"select email from customers")
    assert b"5ec7e7" in judgement.forward
    assert "5ec7e7" not in (judgement.statements[0].rewritten or "")
    assert judge.judge(b"explain select email from customers").refusal is not None


def test_a_rival_overload_needs_certain_types(judging: Judging) -> None:
    judge = judging(POLICY)
    assert judge.judge(b"select vat(1.0)").allowed
    assert not judge.judge(b"select leak()").allowed


def test_observe_refuses_nothing_and_says_what_it_would(judging: Judging) -> None:
    judge = judging(POLICY.replace("name: shop\n", "name: shop\nmode: observe\n"))
    judgement = judge.judge(b"delete from app.orders")
    assert judgement.allowed
    assert judgement.forward == b"delete from app.orders"
    assert (judgement.statements[0].verdict, judgement.statements[0].rule) == ("allow", "observe.write")
    assert startup_settings(judge.policy, 150000) == {}


def test_both_must_allow(judging: Judging) -> None:
    pinned, current = judging(POLICY), judging(POLICY.replace("  app.products: {}\n", ""))
    one = both(pinned, current)
    assert one.judge(b"select * from orders").allowed
    assert not one.judge(b"select * from products").allowed
    stricter = both(pinned, judging(POLICY.replace("email: email", "email: redact")))
    refusal = stricter.judge(b"select * from customers").refusal
    assert refusal is not None
    assert refusal.rule == "policy.changed"
    assert both(pinned, pinned) is pinned


def test_a_search_path_that_has_changed_lets_nothing_pass_that_it_could_decide(judging: Judging) -> None:
    """The session keeps the pinned path: the file's judge would judge another table than the one that is read."""
    grant = judging("name: p\ndatabases: [shop]\nsearch_path: [app]\ntables: {app.orders: {}}\n")
    found = both(grant, judging("name: p\ndatabases: [shop]\nsearch_path: [hr, app]\ntables: {app.orders: {}}\n"))
    for sql in (b"select * from orders", b"select * from app.orders", b"select now()", b"execute p"):
        refusal = found.judge(sql).refusal
        assert refusal is not None
        assert refusal.rule == "policy.changed"
    for sql in (b"begin", b"rollback", b"show search_path"):
        assert found.judge(sql).allowed


def test_startup_settings_pin_the_session(judge: Judge) -> None:
    settings = startup_settings(judge.policy, 150000)
    assert settings["default_transaction_read_only"] == "on"
    assert settings["search_path"] == '"app"'


def test_the_shape_cache_does_not_mix_constants(judge: Judge) -> None:
    """The last pair was found by the two-world test: one shape, and only one of them is read alike by both parsers."""
    for sql in (b"select '1 day'::interval, date '2026-01-01'", b"select '1 day'::interval, date E'2026-01-01'"):
        assert judge.judge(sql).allowed == judge.uncached(sql).allowed
    assert judge.judge(b"select current_setting('server_version')").allowed
    assert not judge.judge(b"select current_setting('data_directory')").allowed
    assert judge.judge(b"select 'app.orders'::regclass").allowed
    assert not judge.judge(b"select 'hr.salaries'::regclass").allowed
    assert judge.judge(b"select repeat('x', 5)").allowed
    assert not judge.judge(b"select repeat('x', 500000000)").allowed
    first = judge.judge(b"select name from products where id = 1")
    second = judge.judge(b"select name from products where id = 22")
    assert second.forward == b"select name from products where id = 22"
    assert second.statements[0].sql == "select name from products where id = 22"
    assert first.statements[0].tables == second.statements[0].tables == ("app.products",)


@pytest.mark.parametrize(
    ("sql", "allowed"),
    [
        ("select (b).pg_sleep from (select 3 as b) x, (select 1 as pg_sleep) b", False),
        ("select x.count from (select 1 as count) x", True),
        ("select x.count from products x", False),
        ("select x.count from (select 1 as count) x where exists (select x.count from products x)", False),
        ("select x.id from (select x.id from products x) x", True),
        ("select (select x.count from (select 2 as count) x) from products x", True),
        ("select x.count from (products x join orders o on true) j, (select 1 as count) x", False),
        ("select f from (select 1 as count) x, lateral (select x.count as f from products x) y", False),
        ("select 'pg_catalog.array_in'::regproc", True),
        ("select 'app.leak'::regproc", False),
        ("select c.tableoid from pg_class c", True),
        ("select name, setting from pg_settings", True),
        ("select * from pg_settings", False),
        ("select c.id as k, c.name from customers c group by k", True),
    ],
)
def test_what_a_dot_can_mean(judge: Judge, sql: str, allowed: bool) -> None:
    assert judge.judge(sql.encode()).allowed is allowed


@pytest.mark.parametrize(
    "sql",
    [
        "select (select app.orders.count from (select 1 as count) orders) from app.orders",
        "select y.count from orders x, lateral (select x.* from ((select 1 as count) x cross join (select 2) k) j) y",
        "select y.count from orders, lateral (select app.orders.* from (select 1 as count) orders) y",
        "explain select d from customers x(a, b, d) group by d",
        "explain select count(*) from customers c join customers d using (email)",
    ],
)
def test_names_that_look_like_others(judge: Judge, sql: str) -> None:
    assert not judge.judge(sql.encode()).allowed


def test_the_recorded_text_keeps_what_only_python_takes_for_space(judge: Judge) -> None:
    (statement,) = judge.judge(" select 1 as a\u00a0\n".encode()).statements
    assert statement.sql == "select 1 as a\u00a0"


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("select 1", ()),
        ("select id, name from customers where email like 'a%'", ("email", "id", "name")),
        ("select c.id from customers c where exists (select * from orders o where o.customer_id = c.id)", None),
        ("select * from products", ("app.products.*",)),
        ("select p.*, p.id from products p", ("app.products.*", "app.products.id")),
        ("copy products (id, name) to stdout", ("app.products.id", "app.products.name")),
        ("copy products to stdout", ("app.products.*",)),
        ("copy customers (id, email) to stdout", ("app.customers.id", "app.customers.email")),
        ("explain select id from products", ("app.products.id",)),
        ("select relname from pg_class", ()),
        ("begin", ()),
    ],
)
def test_the_columns_that_a_statement_touches(judge: Judge, sql: str, columns: tuple[str, ...] | None) -> None:
    (statement,) = judge.judge(sql.encode()).statements
    if columns is None:
        columns = ("app.customers.id", "app.orders.*", "app.orders.customer_id")
    assert statement.columns == tuple(c if "." in c else f"app.customers.{c}" for c in columns)


def test_a_text_of_the_same_shape_touches_the_same_columns(judge: Judge) -> None:
    first, second = (judge.judge(f"select id from products where id = {n}".encode()) for n in (1, 2))
    assert first.statements[0].columns == second.statements[0].columns == ("app.products.id",)


def test_very_many_columns_are_named_by_their_tables(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "MOST_COLUMNS", 2)
    columns = judge.judge(b"select p.id, p.name, o.id, o.status from products p, orders o").statements[0].columns
    assert columns == ("app.orders.*", "app.products.*")


def test_what_is_no_sql_is_not_called_parsed(judge: Judge) -> None:
    assert not judge.judge(b"selec 1").statements[0].parsed
    assert judge.judge(b"select * from hr.salaries").statements[0].parsed
    assert judge.judge(b"drop table products").statements[0].parsed
