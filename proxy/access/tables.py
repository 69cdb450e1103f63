"""The tables of the state, for queries. `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Dialect, Integer, LargeBinary, MetaData, Table, Text
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
    Column("kept_verifier", Text),  # while a proof of removal tries another token
    Column("token_used_at", Utc),  # of a token for one session: when that got ready
    Column("rows_spent", BigInteger, nullable=False, server_default="0"),  # of limits.rows_per_grant
    Column("bytes_spent", BigInteger, nullable=False, server_default="0"),
    Column("request", Text, index=True),  # the access request that it came from
    Column("terms", Text, nullable=False, server_default="{}"),  # `model.Terms` as JSON
    Column("stage", Text, nullable=False, server_default="active", index=True),  # the last state that is on the record
    Column("version", Integer, nullable=False, server_default="0"),  # one more with each change of the row
    Column("checked_at", Utc),  # when its prechecks held, or were overridden
    Column("ended_at", Utc),
    Column("ended_why", Text),  # expired | revoked | policy | person | agreement
    Column("removed_at", Utc),  # when the removal was proven
    Column("review_due", Utc),
    Column("reviewed_at", Utc),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person", Text, nullable=False),
    Column("person_key", Text, nullable=False, index=True),  # `model.person_key`: two spellings are one person
    Column("vendor", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("policy_revision", Text, nullable=False),
    Column("policy_text", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("ticket", Text),
    Column("expected_use", Text),
    Column("rollback_note", Text),
    Column("template", Text),
    Column("starts_at", Utc),  # null: when it is approved
    Column("seconds", Integer, nullable=False),  # how long the grant is to be
    Column("bind_ip", Text),
    Column("break_glass", Boolean, nullable=False, server_default="0"),
    Column("created_at", Utc, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("lapses_at", Utc, nullable=False),
    Column("state", Text, nullable=False, index=True),  # requested | approved | denied | withdrawn | lapsed
    Column("decided_at", Utc),
    Column("decided_by", Text),
    Column("decided_why", Text),
    Column("version", Integer, nullable=False, server_default="0"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("request", Text, primary_key=True),
    Column("by_key", Text, primary_key=True),  # `model.person_key` of who decided: each approver once
    Column("by", Text, nullable=False),
    Column("for_whom", Text),  # whose voice it is, where it was delegated
    Column("groups", Text, nullable=False),  # JSON list: those of the asked groups that the approver is in
    Column("reason", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Column("void_at", Utc),  # it no longer counts: whose voice it was, or who gave it, was disabled before the decision
    Column("void_why", Text),
)

delegations = Table(
    "delegations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("from_whom", Text, nullable=False),
    Column("to_whom", Text, nullable=False),
    Column("starts_at", Utc, nullable=False),
    Column("ends_at", Utc, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_at", Utc),  # taken back before its time
)

agreement_texts = Table(
    "agreement_texts",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("first_seen", Utc, nullable=False),
)

acceptances = Table(
    "acceptances",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person_key", Text, nullable=False, index=True),
    Column("person", Text, nullable=False),
    Column("agreement", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("signed_as", Text, nullable=False),  # the name that was typed
    Column("how", Text, nullable=False),  # psql | paper | cli | link
    Column("address", Text, nullable=False),
    Column("grant", Text),
    Column("file_name", Text),  # of a paper signature
    Column("file_sha256", Text),
    Column("file", LargeBinary),
    Column("at", Utc, nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("revoked_at", Utc),
    Column("revoked_by", Text),
    Column("revoke_reason", Text),
)

agreement_links = Table(
    "agreement_links",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret_sha256", Text, nullable=False, unique=True),
    Column("person", Text, nullable=False),
    Column("person_key", Text, nullable=False, index=True),
    Column("agreement", Text, nullable=False),
    Column("sha256", Text, nullable=False),  # of the text that it was made for
    Column("made_at", Utc, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("expires_at", Utc, nullable=False),
    Column("used_at", Utc),
    Column("acceptance", Text),
)

prechecks = Table(
    "prechecks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("grant", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("why", Text, nullable=False),  # one line for people
    Column("evidence", Text, nullable=False),  # JSON
    Column("overridden_by", Text),
    Column("override_reason", Text),
)

people = Table(
    "people",
    metadata,
    Column("key", Text, primary_key=True),  # `model.person_key`
    Column("person", Text, nullable=False),
    Column("disabled_at", Utc),
    Column("disabled_by", Text),
    Column("disable_reason", Text),
)

reviews = Table(
    "reviews",
    metadata,
    Column("grant", Text, primary_key=True),
    Column("by", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Column("verdict", Text, nullable=False),  # fine | concern
    Column("note", Text, nullable=False),
    Column("summary", Text, nullable=False),  # JSON, as it was signed off
)

removals = Table(
    "removals",
    metadata,
    Column("grant", Text, primary_key=True),
    Column("proof", Text, primary_key=True),  # token | backends | role | views
    Column("ok", Boolean, nullable=False),
    Column("at", Utc, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("why", Text, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("session", Text, nullable=False, index=True),
    Column("grant", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("sql", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("approvers", Text, nullable=False),  # JSON list of groups; empty: anybody but the person
    Column("asked_at", Utc, nullable=False),
    Column("ends_at", Utc, nullable=False),
    Column("state", Text, nullable=False, index=True),  # waiting | approved | denied | timeout | cancelled
    Column("decided_at", Utc),
    Column("decided_by", Text),
    Column("decided_why", Text),
)

steps = Table(
    "steps",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Utc, nullable=False),
    Column("action", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON, as it was recorded
)
"""What happened, for those who are notified of it; written in the transaction of what happened."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("step", Integer, primary_key=True),
    Column("sink", Text, primary_key=True),
    Column("tries", Integer, nullable=False),
    Column("next_at", Utc, nullable=False),
    Column("error", Text),
    Column("done_at", Utc),
)

facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single facts of the installation: the highest time that was accepted (`clock`), how far notifications have come."""

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

hosts = Table(
    "hosts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("beat", BigInteger, nullable=False),  # how often it has spoken
    Column("at", Utc, nullable=False),  # by the clock of the state's server
    Column("grants", Text, nullable=False),  # JSON list: those that have sessions there
)
