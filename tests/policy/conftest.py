"""The shop's catalog, read once from a real Postgres, and judges on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy import catalog
from proxy.catalog import Catalog
from proxy.demo.postgres import PostgresServer
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from tests.support.postgres import Servers, bindirs, load_shop

POLICY = """
name: shop
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn], mask: {email: email, phone: last4}}
  app.orders: {deny: [note]}
  app.order_items: {}
  app.products: {}
  app.events: {rows: "kind = 'kind1'"}
  app.Odd Name: {}
functions: {allow: [app.vat]}
"""
Judging = Callable[..., Judge]


@pytest.fixture(scope="session")
def shop_catalog(pg_servers: Servers) -> Catalog:
    server: PostgresServer = pg_servers.get(bindirs()[0])
    load_shop(server, "policy_shop")
    return asyncio.run(
        catalog.snapshot(
            host=server.host,
            port=server.port,
            dbname="policy_shop",
            user=server.user,
            password=server.password,
            tls="disable",
        )
    )


@pytest.fixture
def judging(shop_catalog: Catalog) -> Judging:
    """Makes a Judge from a policy's text."""

    def make(text: str = POLICY, key: str = "") -> Judge:
        return Judge(parse(text, "test.yaml"), shop_catalog, key=key)

    return make


@pytest.fixture
def judge(judging: Judging) -> Judge:
    return judging()
