"""Alembic's entry point: migrates over the connection that the store hands in, inside the store's own transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # One transaction for all steps, also on SQLite: a migration happens whole or not at all.
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
