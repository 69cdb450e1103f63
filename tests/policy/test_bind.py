"""A policy against a catalog: what is shown, what does not fit."""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog, load
from proxy.policy.bind import Bound
from proxy.policy.load import parse
from tests.policy.conftest import POLICY


def bound(catalog: Catalog, tables: str) -> Bound:
    return Bound(parse(f"name: a\ndatabases: [shop]\nsearch_path: [app]\ntables:\n{tables}\n", "p"), catalog)


def test_a_snapshot_survives_its_file(shop_catalog: Catalog) -> None:
    again = load(shop_catalog.dump())
    assert again == shop_catalog
    assert again.revision == shop_catalog.revision
    with pytest.raises(ValueError, match="not a catalog"):
        load(b"{}")


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ("  app.customers: {deny: [snn]}", "no column snn"),
        ("  app.orders: {mask: {id: email}}", "use one of null"),
        ("  app.customer_secrets: {}", "trusted: true"),
        ("  app.customer_names: {}", "app.customers"),
        ("  app.orders: {rows: 'app.touch(1)'}", "not a reviewed built-in"),
        ("  app.orders: {rows: 'id in (select 1)'}", "reads no other table"),
        ("  app.orders: {rows: 'nothing = 1'}", "not a column"),
        ("  app.orders: {rows: 'true) or (true'}", "not one SQL expression"),
        ("  app.nothing: {}", "no table of the database matches"),
    ],
)
def test_what_does_not_fit_is_said(shop_catalog: Catalog, tables: str, words: str) -> None:
    problems = bound(shop_catalog, tables).problems
    assert len(problems) == 1
    assert words in problems[0].message


def test_what_does_not_fit_is_not_shown(shop_catalog: Catalog) -> None:
    for tables in ("  app.customers: {deny: [snn]}", "  app.customer_secrets: {}"):
        assert not [k for k in bound(shop_catalog, tables).relations if k[0] == "app"]


def test_trusted_views_and_whole_tables_are_shown(shop_catalog: Catalog) -> None:
    shown = bound(
        shop_catalog, "  app.customer_secrets: {trusted: true}\n  app.customers: {}\n  app.customer_names: {}"
    )
    assert {k[1] for k in shown.relations if k[0] == "app"} == {"customers", "customer_secrets", "customer_names"}
    assert shown.problems == []


def test_the_exact_name_goes_before_a_glob(shop_catalog: Catalog) -> None:
    shown = bound(shop_catalog, '  "app.*": {}\n  app.customers: {columns: [id]}')
    assert shown.relations["app", "customers"].columns == ("id",)
    assert shown.relations["app", "orders"].substitute is None
    assert ("app", "customer_secrets") not in shown.relations
    assert ("hr", "salaries") not in shown.relations


def test_all_names_in_a_substitute_are_qualified(shop_catalog: Catalog) -> None:
    policy = parse(POLICY.replace("kind = 'kind1'", "lower(kind) = 'kind1'"), "p")
    substitute = Bound(policy, shop_catalog).relations["app", "events"].substitute
    assert substitute is not None
    assert "(pg_catalog.lower(kind) = 'kind1') OFFSET 0" in substitute


def test_partitions_under_their_parents_own_pattern_are_shown_like_it(shop_catalog: Catalog) -> None:
    shown = bound(shop_catalog, '  "app.events*": {deny: [payload]}')
    assert shown.problems == []
    assert shown.relations["app", "events_2026"].columns == shown.relations["app", "events"].columns


def test_a_wider_pattern_does_not_open_a_partition(shop_catalog: Catalog) -> None:
    shown = bound(shop_catalog, '  "app.*": {}\n  app.events: {deny: [payload]}')
    assert ("app", "events_2026") in shown.refused
