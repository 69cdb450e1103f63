"""The installation's own facts, and grants with their verifiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "installation",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("mock_key", sa.LargeBinary, nullable=False),
        sa.Column("created_at", time, nullable=False),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("database", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("policy_revision", sa.Text, nullable=False),
        sa.Column("policy_text", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("bind_ip", sa.Text),
        sa.Column("created_at", time, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("starts_at", time, nullable=False),
        sa.Column("expires_at", time, nullable=False),
        sa.Column("revoked_at", time),
        sa.Column("revoked_by", sa.Text),
        sa.Column("revoke_reason", sa.Text),
        sa.Column("verifier", sa.Text, nullable=False),
        sa.Column("token_at", time, nullable=False),
    )
    op.create_index("ix_grants_expires_at", "grants", ["expires_at"])
