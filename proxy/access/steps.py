"""A step of access: recorded first, and kept for those who want to be told.

Both happen in the transaction of what the step changes. Knows neither recordings nor notifications. Invariant: what
cannot be recorded does not happen; after a crash between record and commit the step is taken, and recorded, again.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import tables
from proxy.access.model import rfc3339
from proxy.access.store import Emit


async def take(connection: AsyncConnection, emit: Emit, at: datetime, action: str, detail: dict[str, Any]) -> None:
    """Records the step `action` and keeps it in the outbox. Times in `detail` become RFC 3339.

    Raises what `emit` raises (the transaction must then be undone), StoreError.
    """
    plain = {key: rfc3339(value) if isinstance(value, datetime) else value for key, value in detail.items()}
    emit(action, plain)
    values = {"at": at, "action": action, "detail": json.dumps(plain, ensure_ascii=False)}
    await connection.execute(tables.steps.insert().values(values))
