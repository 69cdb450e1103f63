"""Reviews: after a grant is over and its removal is proven, somebody else looks at what was done, and signs it off.

Knows the summary only as the JSON that was signed. Invariants: nobody signs for his own grant; a grant is signed off
once, in one transaction with its record; what is overdue is alerted once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.grants import GrantError, Grants, grant_columns, grant_of, one_line
from proxy.access.model import Grant, check_step, clock_time, person_key
from proxy.access.requests import refuse_disabled
from proxy.access.store import Emit, Store
from proxy.clock import Clock

Verdict = Literal["fine", "concern"]
_LONGEST_NOTE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Review:
    """One sign-off. `summary` is what the reviewer saw."""

    grant: str
    by: str
    at: datetime
    verdict: str
    note: str
    summary: dict[str, Any]


class Reviews:
    """The reviews in a store. `asked`: the groups whose people may sign; none: anybody but the grant's person."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        emit: Emit,
        groups: Mapping[str, Sequence[str]] | None = None,
        asked: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit
        self._groups = groups or {}
        self._asked = asked
        self._grants = Grants(store, clock, emit)

    async def sign(self, id: str, *, by: str, verdict: Verdict, note: str, summary: Mapping[str, Any]) -> Review:
        """Signs a grant's review off. Raises GrantError where it cannot be, or `by` may not."""
        by, now = one_line("by", by), self._clock.now()
        note = note.strip()[:_LONGEST_NOTE]
        if not note:
            raise GrantError("a review says something: give a note")
        async with self._store.write() as connection:
            grant = await self._grants.get(id, connection=connection)
            await refuse_disabled(connection, by)
            self._refuse_reviewer(grant, by)
            if grant.stage == "reviewed":
                before = await self.of(id)
                said = f" by {before.by} at {clock_time(before.at)}: {before.verdict}" if before else ""
                raise GrantError(f"{id} was reviewed{said}")
            if grant.stage != "removed":
                over = grant.state(now) in {"expired", "revoked"}
                why = "is over, and its removal is not proven yet" if over else "is not over"
                raise GrantError(f"{id} {why}; a review comes after that")
            check_step(grant.stage, "reviewed")
            review = Review(id, by, now, verdict, note, dict(summary))
            values = {name: getattr(review, name) for name in Review.__slots__}
            values["summary"] = json.dumps(review.summary, ensure_ascii=False, default=str)
            await connection.execute(tables.reviews.insert().values(values))
            columns = tables.grants.c
            mine = sa.update(tables.grants).where(columns.id == id, columns.version == grant.version)
            moved = await connection.execute(mine.values(stage="reviewed", reviewed_at=now, version=grant.version + 1))
            if not moved.rowcount:
                raise GrantError(f"{id} was changed by somebody else at this moment; look again")
            told = {"grant": id, "by": by, "person": grant.person}
            more = {"verdict": verdict, "note": note, "vendor": grant.vendor}
            await steps.take(connection, self._emit, now, "review.signed", told | more)
            await steps.take(connection, self._emit, now, "reviewed", told | {"before": "removed"})
        return review

    async def of(self, id: str) -> Review | None:
        """The review of a grant."""
        query = sa.select(tables.reviews).where(tables.reviews.c.grant == id)
        async with self._store.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _review(row) if row is not None else None

    async def overdue(self) -> list[Grant]:
        """The grants that are over and should have been reviewed by now, the longest overdue first."""
        columns = tables.grants.c
        query = sa.select(*grant_columns()).where(columns.review_due <= self._clock.now(), columns.stage != "reviewed")
        async with self._store.read() as connection:
            rows = (await connection.execute(query.order_by(columns.review_due, columns.id))).mappings()
            return [grant_of(row) for row in rows]

    async def last_of_vendor(self, vendor: str) -> tuple[Grant, Review] | None:
        """The newest review of a grant of this vendor, however the vendor's name is written."""
        reviews, grants = tables.reviews, tables.grants
        query = (
            sa.select(reviews.c.grant, grants.c.vendor)
            .join(grants, grants.c.id == reviews.c.grant)
            .order_by(reviews.c.at.desc(), reviews.c.grant)
        )
        async with self._store.read() as connection:
            rows = await connection.execute(query)
            found = next((row.grant for row in rows if person_key(row.vendor) == person_key(vendor)), None)
        if found is None:
            return None
        review = await self.of(found)
        return (await self._grants.get(found), review) if review is not None else None

    def _refuse_reviewer(self, grant: Grant, by: str) -> None:
        if person_key(by) == person_key(grant.person):
            raise GrantError(f"{by} cannot review {grant.id}: it was their own")
        members = {person_key(name) for group in self._asked for name in self._groups.get(group, ())}
        if self._asked and person_key(by) not in members:
            raise GrantError(f"{by} cannot review {grant.id}: reviews.from asks {' or '.join(self._asked)}")


def due_at(ended: datetime, *, within: float, break_glass: float | None) -> datetime:
    """When a grant that ended at `ended` is to be reviewed; `break_glass`: the seconds that an emergency has."""
    return ended + timedelta(seconds=min(within, break_glass) if break_glass is not None else within)


def _review(row: sa.RowMapping) -> Review:
    values = {name: row[name] for name in Review.__slots__}
    return Review(**values | {"summary": json.loads(values["summary"])})
