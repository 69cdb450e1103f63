"""The newest checkpoint of each recordings folder, kept in the state: whoever puts one of the two back does not fit.

Knows nothing of what a checkpoint says. Invariant: what is kept for one folder is never that of another; `place` names
the folder's node log for ever.
"""

from __future__ import annotations

import sqlalchemy as sa

from proxy.access import tables
from proxy.access.store import Store


class Witnesses:
    """The checkpoints in a state."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def last(self, place: str) -> bytes | None:
        """The newest one. Raises StoreError."""
        query = sa.select(tables.facts.c.value).where(tables.facts.c.name == _fact(place))
        async with self._store.read() as connection:
            value = (await connection.execute(query)).scalar()
        return None if value is None else str(value).encode()

    async def keep(self, place: str, note: bytes) -> None:
        """In the place of the one before. Raises StoreError."""
        name, text = _fact(place), note.decode()
        async with self._store.write() as connection:
            mine = sa.update(tables.facts).where(tables.facts.c.name == name)
            if not (await connection.execute(mine.values(value=text))).rowcount:
                await connection.execute(tables.facts.insert().values(name=name, value=text))


def _fact(place: str) -> str:
    return f"witness.{place}"
