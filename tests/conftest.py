"""Fixtures for every test: real Postgres servers (see tests/support/postgres.py)."""

pytest_plugins = ["tests.support.postgres"]
