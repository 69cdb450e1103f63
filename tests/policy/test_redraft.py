"""A policy's text edited: what stays is as written."""

from __future__ import annotations

import pytest

from proxy.policy.load import parse
from proxy.policy.model import Table
from proxy.policy.redraft import redraft

TEXT = """\
# what this is for
name: a
databases: [shop]
tables: # what is not named cannot be read
  # people
  app.customers: {deny: [ssn]}   # never there

  # sales
  app.orders:
    deny: [note]
    rows: "id > 1"
  app.products: {}
functions: {allow: [app.vat, app.net]}
# how much
limits: {idle: 5m}
tests:
  - {sql: select 1, verdict: allow}
  # of orders
  - sql: select * from app.orders
    verdict: mask
# the end
"""


def test_entries_change_and_the_rest_stays() -> None:
    policy = parse(TEXT, "p")
    tables = {"app.customers": policy.model.tables["app.customers"], "app.orders": Table(columns=["id"], rows="id > 1")}
    text = redraft(policy, tables=tables, functions=["app.vat"], dropped_tests=[1])
    assert text == TEXT.replace(
        '  app.orders:\n    deny: [note]\n    rows: "id > 1"\n  app.products: {}\n',
        "  app.orders: {columns: [id], rows: id > 1}\n",
    ).replace("app.vat, app.net", "app.vat").replace("  - sql: select * from app.orders\n    verdict: mask\n", "")


def test_nothing_to_change_changes_nothing() -> None:
    policy = parse(TEXT, "p")
    assert redraft(policy, tables=policy.model.tables, functions=policy.model.functions.allow) == TEXT


def test_sections_can_go_and_come() -> None:
    policy = parse(TEXT, "p")
    text = redraft(policy, tables={"hr.Odd Name": Table(mask={"a": "null"})}, functions=[], dropped_tests=[0, 1])
    model = parse(text, "again").model
    assert list(model.tables) == ["hr.Odd Name"]
    assert model.tables["hr.Odd Name"].mask == {"a": "null"}
    assert not model.functions.allow
    assert not model.tests
    assert "# the end" in text


def test_an_observing_policy_gets_tables() -> None:
    policy = parse("name: a\nmode: observe   # at first\ndatabases: [shop]\n# later\nlimits: {idle: 5m}\n", "p")
    text = redraft(policy, tables={"app.orders": Table()}, functions=["app.vat"], search_path=["app"])
    assert text == (
        "name: a\ndatabases: [shop]\nsearch_path: [app]\ntables:\n  app.orders: {}\n"
        "functions: {allow: [app.vat]}\n# later\nlimits: {idle: 5m}\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "{name: a, databases: [shop], tables: {app.orders: {}}, limits: {idle: 5m}}",
        "name: a\ndatabases: [shop]\ntables: {app.orders: {}, app.products: {}}\nlimits: {idle: 5m}\n",
        "name: a\ndatabases: [shop]\ntables:\n  ? app.orders\n  : {}\nlimits: {idle: 5m}\n",
        "name: a\ndatabases: [shop]\ntables: {app.a: &x {deny: [b]}, app.orders: *x}\nlimits: {idle: 5m}\n",
    ],
)
def test_any_form_of_yaml(text: str) -> None:
    tables = {"app.orders": Table(columns=["id"] * 40, mask={"id": "null"})}
    model = parse(redraft(parse(text, "p"), tables=tables, functions=[]), "again").model
    assert model.tables == tables
    assert model.limits.idle == 300
