"""The whole way of access: requests, approvals, agreements, prechecks, people, removals, reviews, holds, notices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    for column in (
        sa.Column("kept_verifier", sa.Text),
        sa.Column("token_used_at", time),
        sa.Column("request", sa.Text),
        sa.Column("terms", sa.Text, nullable=False, server_default="{}"),
        sa.Column("stage", sa.Text, nullable=False, server_default="active"),
        sa.Column("version", sa.Integer, nullable=False, server_default="0"),
        sa.Column("checked_at", time),
        sa.Column("ended_at", time),
        sa.Column("ended_why", sa.Text),
        sa.Column("removed_at", time),
        sa.Column("review_due", time),
        sa.Column("reviewed_at", time),
    ):
        op.add_column("grants", column)
    op.create_index("ix_grants_request", "grants", ["request"])
    op.create_index("ix_grants_stage", "grants", ["stage"])
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("person_key", sa.Text, nullable=False),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("database", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("policy_revision", sa.Text, nullable=False),
        sa.Column("policy_text", sa.Text, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("ticket", sa.Text),
        sa.Column("expected_use", sa.Text),
        sa.Column("rollback_note", sa.Text),
        sa.Column("template", sa.Text),
        sa.Column("starts_at", time),
        sa.Column("seconds", sa.Integer, nullable=False),
        sa.Column("bind_ip", sa.Text),
        sa.Column("break_glass", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("created_at", time, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("lapses_at", time, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decided_at", time),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_why", sa.Text),
        sa.Column("version", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "approvals",
        sa.Column("request", sa.Text, primary_key=True),
        sa.Column("by_key", sa.Text, primary_key=True),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("for_whom", sa.Text),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", time, nullable=False),
    )
    op.create_table(
        "delegations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("from_whom", sa.Text, nullable=False),
        sa.Column("to_whom", sa.Text, nullable=False),
        sa.Column("starts_at", time, nullable=False),
        sa.Column("ends_at", time, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("ended_at", time),
    )
    op.create_table(
        "agreement_texts",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("first_seen", time, nullable=False),
    )
    op.create_table(
        "acceptances",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("person_key", sa.Text, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("agreement", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("signed_as", sa.Text, nullable=False),
        sa.Column("how", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("grant", sa.Text),
        sa.Column("file_name", sa.Text),
        sa.Column("file_sha256", sa.Text),
        sa.Column("file", sa.LargeBinary),
        sa.Column("at", time, nullable=False),
        sa.Column("recorded_by", sa.Text, nullable=False),
        sa.Column("revoked_at", time),
        sa.Column("revoked_by", sa.Text),
        sa.Column("revoke_reason", sa.Text),
    )
    op.create_table(
        "prechecks",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("grant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("overridden_by", sa.Text),
        sa.Column("override_reason", sa.Text),
    )
    op.create_table(
        "people",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("disabled_at", time),
        sa.Column("disabled_by", sa.Text),
        sa.Column("disable_reason", sa.Text),
    )
    op.create_table(
        "reviews",
        sa.Column("grant", sa.Text, primary_key=True),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
    )
    op.create_table(
        "removals",
        sa.Column("grant", sa.Text, primary_key=True),
        sa.Column("proof", sa.Text, primary_key=True),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("grant", sa.Text, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("database", sa.Text, nullable=False),
        sa.Column("sql", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("approvers", sa.Text, nullable=False),
        sa.Column("asked_at", time, nullable=False),
        sa.Column("ends_at", time, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decided_at", time),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_why", sa.Text),
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", time, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_at", time, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("done_at", time),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_index("ix_requests_person_key", "requests", ["person_key"])
    op.create_index("ix_requests_state", "requests", ["state"])
    op.create_index("ix_acceptances_person_key", "acceptances", ["person_key"])
    op.create_index("ix_prechecks_grant", "prechecks", ["grant"])
    op.create_index("ix_holds_session", "holds", ["session"])
    op.create_index("ix_holds_state", "holds", ["state"])
    # What was over before there were stages has nothing left to be done or told; its role is dropped like any other.
    op.execute(
        "update grants set stage = 'removed', ended_at = coalesce(revoked_at, expires_at), "
        "ended_why = case when revoked_at is null then 'expired' else 'revoked' end "
        "where revoked_at is not null or expires_at <= current_timestamp"
    )
    op.execute("update grants set stage = 'waiting' where stage = 'active' and starts_at > current_timestamp")
