"""Fixtures for every test: real Postgres servers (see tests/support/postgres.py), and more time for the slow ones."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.support.postgres"]

LONG = 1200
"""Seconds that a slow test may take."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        long = item.get_closest_marker("slow") or item.get_closest_marker("thorough")
        if long and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG))
