"""What each grant has taken of its rows and bytes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("rows_spent", "bytes_spent"):
        op.add_column("grants", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
