"""Two policies compared: in words, on a catalog and as declared."""

from __future__ import annotations

import pytest

from proxy.catalog import Catalog
from proxy.policy.bind import Bound
from proxy.policy.compare import Change, compare, compare_on
from proxy.policy.load import parse
from proxy.policy.model import Policy


def policy(tables: str = "{app.orders: {}}", more: str = "") -> Policy:
    return parse(f"name: a\ndatabases: [shop]\nsearch_path: [app]\ntables: {tables}\n{more}\n", "p")


def said(changes: list[Change]) -> set[str]:
    return {f"{c.effect} {c.what}: {c.text}" for c in changes}


TABLES = [
    ("{app.orders: {}}", "{app.orders: {}, app.products: {}}", {"allows app.products: readable: all columns"}),
    ("{app.orders: {}, app.products: {}}", "{app.orders: {}}", {"refuses app.products: no longer readable"}),
    ("{app.orders: {}}", "{app.orders: {deny: [note]}}", {"refuses app.orders.note: hidden; it was shown"}),
    ("{app.orders: {deny: [note]}}", "{app.orders: {}}", {"allows app.orders.note: shown; it was hidden"}),
    (
        "{app.orders: {deny: [note]}}",
        "{app.orders: {mask: {note: redact}}}",
        {"allows app.orders.note: shown, masked as redact; it was hidden"},
    ),
    (
        "{app.orders: {}}",
        "{app.orders: {mask: {note: redact}}}",
        {"refuses app.orders.note: masked as redact; it was shown as it is"},
    ),
    (
        "{app.orders: {mask: {note: 'null'}}}",
        "{app.orders: {mask: {note: redact}}}",
        {"changes app.orders.note: masked as redact; it was masked as null"},
    ),
    (
        "{app.orders: {}}",
        "{app.orders: {rows: id > 3}}",
        {"refuses app.orders: only rows where id > 3; it was all of them"},
    ),
    (
        "{app.orders: {rows: id > 2}}",
        "{app.orders: {rows: id > 3}}",
        {"changes app.orders: rows where id > 3; it was those where id > 2"},
    ),
]


@pytest.mark.parametrize(("a", "b", "wanted"), TABLES)
def test_tables(shop_catalog: Catalog, a: str, b: str, wanted: set[str]) -> None:
    assert said(compare(policy(a), policy(b))) == wanted
    assert said(compare_on(Bound(policy(a), shop_catalog), Bound(policy(b), shop_catalog))) == wanted


def test_a_pattern_means_tables_where_there_is_a_catalog(shop_catalog: Catalog) -> None:
    exact, pattern = policy("{app.events: {}, app.events_2026: {}}"), policy("{'app.events*': {}}")
    assert compare_on(Bound(exact, shop_catalog), Bound(pattern, shop_catalog)) == []
    assert said(compare(exact, pattern)) == {"allows app.events*: readable: all columns"}


def test_an_entry_that_does_not_fit_is_no_longer_readable(shop_catalog: Catalog) -> None:
    a, b = policy(), policy("{app.orders: {deny: [nothing]}}")
    (change,) = compare_on(Bound(a, shop_catalog), Bound(b, shop_catalog))
    assert change.text.startswith("no longer readable: there is no column nothing")


def test_listed_columns_against_all_but_some() -> None:
    found = said(compare(policy("{app.orders: {columns: [id, note]}}"), policy("{app.orders: {deny: [note]}}")))
    assert found == {
        "refuses app.orders.note: hidden; it was shown",
        "allows app.orders: all columns but note; it was only those listed",
    }


SETTINGS = [
    ("limits: {rows_per_statement: 10}", "", "allows limits.rows_per_statement: no limit; it was 10"),
    ("", "limits: {bytes_per_grant: 1GiB}", "refuses limits.bytes_per_grant: at most 1GiB; there was no limit"),
    ("limits: {idle: 5m}", "limits: {idle: 1h}", "allows limits.idle: at most 1h; it was 5m"),
    ("window: {max: 1d}", "window: {max: 4h}", "refuses window.max: at most 4h; it was 1d"),
    ("window: {days: mon-fri}", "", "allows window.days: also on sat, sun"),
    ("window: {days: fri-mon}", "window: {days: 'sat,sun'}", "refuses window.days: no longer on mon, fri"),
    ("window: {hours: '09:00-17:00'}", "window: {hours: '08:00-18:00'}",
     "allows window.hours: 08:00-18:00; it was 09:00-17:00"),
    ("window: {hours: '09:00-17:00'}", "window: {hours: '08:00-16:00'}",
     "changes window.hours: 08:00-16:00; it was 09:00-17:00"),
    ("window: {hours: '09:00-17:00'}", "", "allows window.hours: all day; it was 09:00-17:00"),
    ("", "window: {timezone: Europe/Berlin}", "changes window.timezone: Europe/Berlin; it was UTC"),
    ("network: [10.0.0.0/8]", "", "allows network: from everywhere; it was only from 10.0.0.0/8"),
    ("", "network: [10.0.0.0/8]", "refuses network: only from 10.0.0.0/8; it was from everywhere"),
    ("network: [10.0.0.0/8]", "network: [10.0.0.0/8, 192.0.2.0/24]", "allows network: also from 192.0.2.0/24"),
    ("", "functions: {allow: [app.vat]}", "allows functions: app.vat() may run"),
    ("functions: {allow: [app.vat]}", "", "refuses functions: app.vat() may no longer run"),
    ("", "agreements: [nda]", "refuses agreements: a grant needs the agreement nda"),
    ("prechecks: [backup]", "", "allows prechecks: a grant no longer needs the precheck backup"),
    ("", "approvals: {count: 2}", "refuses approvals: 2 needed; it was none"),
    ("approvals: {count: 1, from: [a]}", "approvals: {count: 1, from: [b]}",
     "changes approvals: from b; it was from a"),
    ("", "greeting: false", "changes greeting: off; it was on"),
    ("", "recording: {results: full}", "changes recording.results: full; it was as config.yaml says"),
    ("recording: {literals: drop}", "", "changes recording.literals: as config.yaml says; it was drop"),
    ("", "mode: observe", "allows mode: observe: everything; it is recorded, and nothing is refused"),
    ("mode: observe", "", "refuses mode: enforce: whatever the policy does not name"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "wanted"), SETTINGS)
def test_everything_but_tables(a: str, b: str, wanted: str) -> None:
    assert said(compare(policy(more=a), policy(more=b))) == {wanted}


def test_databases_and_search_path() -> None:
    a = policy()
    b = parse(a.text.replace("[shop]", "[shop, other]").replace("[app]", "[app, public]"), "p")
    assert said(compare(a, b)) == {
        "allows databases: may be used on other",
        "changes search_path: app, public; it was app",
    }


def test_equal_policies_differ_in_nothing(shop_catalog: Catalog) -> None:
    a = policy("{'app.*': {}, app.customers: {deny: [ssn], rows: id > 1}}", "limits: {idle: 5m}")
    assert compare(a, a) == compare_on(Bound(a, shop_catalog), Bound(a, shop_catalog)) == []
