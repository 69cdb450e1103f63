"""The warnings of `policy check`."""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog
from proxy.policy.bind import Bound
from proxy.policy.lint import problems
from proxy.policy.load import parse


def found(catalog: Catalog, tables: str, more: str = "") -> list[tuple[str, str, str]]:
    text = f"name: a\ndatabases: [shop]\nsearch_path: [app]\ntables: {tables}\n{more}\n"
    return [(p.severity, ".".join(p.path), p.message) for p in problems(Bound(parse(text, "p"), catalog))]


CASES = [
    ("{app.order: {}}", "", "warning", "tables.app.order", "(did you mean app.orders?)"),
    ("{app.orders: {}, 'old.*': {}}", "", "warning", "tables.old.*", "no table of the database matches"),
    ("{app.orders: {}, 'app.order?': {deny: [id]}}", "", "warning", "tables.app.order?", "never used: app.orders goes"),
    ("{'app.events*': {deny: [ssn]}}", "", "warning", "tables.app.events*", "deny: no table that it matches has a"),
    (
        "{'app.events*': {columns: [id], mask: {kind: redact}}}",
        "",
        "warning",
        "tables.app.events*",
        "kind is not among",
    ),
    ("{app.orders: {columns: [id], mask: {note: redact}}}", "", "warning", "tables.app.orders", "note is not among"),
    ("{app.orders: {deny: [nothing]}}", "", "error", "tables.app.orders", "there is no column nothing"),
    (
        "{app.orders: {rows: placed_at > '2026-01-01'}}",
        "",
        "warning",
        "tables.app.orders",
        "rows: '2026-01-01' depends",
    ),
    ("{app.orders: {mask: {note: {sql: 'placed_at::text'}}}}", "", "warning", "tables.app.orders", "mask of note: "),
    ("{app.orders: {rows: 'random() < 0.1'}}", "", "error", "tables.app.orders", "random() gives another value"),
    ("{app.orders: {}}", "functions: {allow: [app.nope]}", "error", "functions.allow", "there is no function app.nope"),
    (
        "{app.orders: {}}",
        "functions: {allow: [pg_catalog.lower]}",
        "warning",
        "functions.allow",
        "built-in list already",
    ),
    ("{app.orders: {}}", "functions: {allow: [pg_catalog.pg_sleep]}", "error", "functions.allow", "stays refused"),
    ("{app.orders: {}}", "functions: {allow: [pg_catalog.nope]}", "error", "functions.allow", "there is no function"),
    ("{app.orders: {}}", "functions: {allow: [app.leak]}", "warning", "functions.allow", "SECURITY DEFINER"),
    ("{app.orders: {}}", "functions: {allow: [app.touch]}", "warning", "functions.allow", "VOLATILE"),
]


@pytest.mark.parametrize(("tables", "more", "severity", "key", "words"), CASES)
def test_each_is_said_once(shop_catalog: Catalog, tables: str, more: str, severity: str, key: str, words: str) -> None:
    (one,) = found(shop_catalog, tables, more)
    assert one[:2] == (severity, key)
    assert words in one[2]


def test_a_good_policy_has_none(shop_catalog: Catalog) -> None:
    tables = "{'app.events*': {rows: \"at > '2026-01-01 00:00+00'\"}, app.events_2026: {}, app.orders: {deny: [note]}}"
    assert found(shop_catalog, tables, "functions: {allow: [app.vat]}") == []
