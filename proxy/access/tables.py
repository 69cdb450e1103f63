"""The tables of the state, for queries. `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Dialect, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator


class Utc(TypeDecorator[datetime]):
    """An aware time, kept in UTC: timestamptz in Postgres, ISO text in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a timezone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


metadata = MetaData()

installation = Table(
    "installation",
    metadata,
    Column("one", Integer, primary_key=True),  # always 1: there is one row
    Column("id", Text, nullable=False),  # names the roles and views that this installation makes in a database
    Column("mock_key", LargeBinary, nullable=False),  # makes the salts of names that nobody has
    Column("created_at", Utc, nullable=False),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("policy_revision", Text, nullable=False),
    Column("policy_text", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("bind_ip", Text),
    Column("created_at", Utc, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("starts_at", Utc, nullable=False),
    Column("expires_at", Utc, nullable=False, index=True),
    Column("revoked_at", Utc),
    Column("revoked_by", Text),
    Column("revoke_reason", Text),
    Column("verifier", Text, nullable=False),  # SCRAM; the token itself is nowhere
    Column("token_at", Utc, nullable=False),  # when the live token was minted
    Column("rows_spent", BigInteger, nullable=False, server_default="0"),  # of limits.rows_per_grant
    Column("bytes_spent", BigInteger, nullable=False, server_default="0"),
)

kills = Table(
    "kills",
    metadata,
    Column("id", Text, primary_key=True),
    Column("session", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", Utc, nullable=False),
    Column("taken_at", Utc),  # when the process that has the session ended it
)
