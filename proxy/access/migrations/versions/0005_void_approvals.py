"""Approvals that no longer count; those that disabled people gave before are the first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.access.model import person_key

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("approvals", sa.Column("void_at", sa.DateTime(timezone=True)))
    op.add_column("approvals", sa.Column("void_why", sa.Text))
    connection = op.get_bind()
    disabled = connection.execute(
        sa.text("select key, person, disable_reason from people where disabled_at is not null")
    )
    whys = {row.key: f"{row.person} was disabled: {row.disable_reason}"[:500] for row in disabled}
    waiting = sa.text(
        "select a.request, a.by_key, a.for_whom from approvals a join requests r on r.id = a.request "
        "where r.state = 'requested'"
    )
    mark = sa.text(
        "update approvals set void_at = current_timestamp, void_why = :why where request = :request and by_key = :by"
    )
    for row in connection.execute(waiting).all():
        why = whys.get(row.by_key) or whys.get(person_key(row.for_whom or ""))
        if why is not None:
            connection.execute(mark, {"why": why, "request": row.request, "by": row.by_key})
