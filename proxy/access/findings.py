"""What the prechecks of grants have found, and what follows: a grant is checked, or an approver overrides.

Knows no way to look. Invariants: a grant is checked once, by findings that all hold or by an override with a reason; an
override is by somebody who might approve the request, never by the person or who asked; only changes are recorded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import approvals, requests, steps, tables
from proxy.access.grants import GrantError, Grants, new_id, one_line
from proxy.access.model import Grant, person_key
from proxy.access.prechecks import Finding, encoded
from proxy.access.requests import Requests
from proxy.access.store import Emit, Store
from proxy.access.timekeeping import refuse_wrong_clock
from proxy.clock import Clock


@dataclass(frozen=True, slots=True)
class Kept:
    """The last finding of one precheck of a grant."""

    name: str
    at: datetime
    ok: bool
    why: str
    evidence: dict[str, Any]
    overridden_by: str | None
    override_reason: str | None


class Findings:
    """The findings in a store. `groups` maps a group's name to its people."""

    def __init__(
        self, store: Store, clock: Clock, emit: Emit, groups: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit
        self._groups = groups or {}
        self._grants = Grants(store, clock, emit)
        self._requests = Requests(store, clock, emit, groups)

    async def of(self, grant: str) -> list[Kept]:
        """The last finding of each precheck of a grant, by name."""
        async with self._store.read() as connection:
            return await _of(connection, grant)

    async def note(self, grant: Grant) -> tuple[str | None, str]:
        """The rollback note of the grant's request, and who gave it."""
        if grant.request is None:
            return None, ""
        request = await self._requests.get(grant.request)
        return request.rollback_note, request.created_by

    async def keep(self, grant: Grant, findings: Sequence[Finding], *, final: bool = True, by: str = "daypass") -> bool:
        """Keep what was found; where all holds and it is `final`, the grant is checked. Returns whether it is."""
        now = self._clock.now()
        async with self._store.write() as connection:
            before = {kept.name for kept in await _of(connection, grant.id) if not kept.ok}
            for found in findings:
                await self._put(connection, grant.id, found, now)
            failing = [found for found in findings if not found.ok]
            detail: dict[str, Any] = {"grant": grant.id, "by": by, "person": grant.person}
            if failing:
                if {found.name for found in failing} != before:
                    detail["failed"] = {found.name: found.why for found in failing}
                    await steps.take(connection, self._emit, now, "precheck.failed", detail)
                return False
            missing = set(grant.terms.prechecks) - {found.name for found in findings}
            if missing or not final or not await _check(connection, grant.id, now):
                return False
            detail["held"] = {found.name: found.why for found in findings}
            await steps.take(connection, self._emit, now, "precheck.passed", detail)
        return True

    async def override(self, id: str, *, by: str, reason: str) -> tuple[Grant, dict[str, str]]:
        """The grant starts though prechecks do not hold. Returns it, and what did not hold. Raises GrantError."""
        by, reason = one_line("by", by), one_line("reason", reason)
        now = self._clock.now()
        grant = await self._grants.get(id)
        if grant.state(now) in {"expired", "revoked"}:
            raise GrantError(f"grant {id} is {grant.state(now)}; there is nothing to override")
        if not grant.unchecked:
            raise GrantError(f"grant {id} waits for no precheck")
        await self._may(grant, by, reason, now)
        async with self._store.write() as connection:
            await refuse_wrong_clock(connection, now)
            await requests.refuse_disabled(connection, by)
            kept = {row.name: row for row in await _of(connection, id)}
            failed: dict[str, str] = {}
            for name in grant.terms.prechecks:
                row = kept.get(name)
                if row is None:
                    await self._put(connection, id, Finding(name, False, "not looked at yet"), now)
                if row is None or not row.ok:
                    failed[name] = row.why if row is not None else "not looked at yet"
            columns = tables.prechecks.c
            mine = sa.update(tables.prechecks).where(columns.grant == id, sa.not_(columns.ok))
            await connection.execute(mine.values(overridden_by=by, override_reason=reason))
            if not await _check(connection, id, now):
                raise GrantError(f"grant {id} was changed by somebody else at this moment; look again")
            detail = {"grant": id, "by": by, "person": grant.person, "reason": reason, "failed": failed}
            await steps.take(connection, self._emit, now, "precheck.overridden", detail)
        return dataclasses.replace(grant, checked_at=now), failed

    async def _may(self, grant: Grant, by: str, reason: str, now: datetime) -> None:
        """Raises GrantError where `by` may not override."""
        request = await self._requests.get(grant.request) if grant.request is not None else None
        asked_by = request.created_by if request is not None else grant.created_by
        for other, what in ((grant.person, "the grant is for"), (asked_by, "it was asked for by")):
            if person_key(by) == person_key(other):
                raise GrantError(f"{by} cannot override the prechecks of {grant.id}: {what} {by}")
        if request is not None:
            approvals.voice(request, [], by=by, reason=reason, at=now, groups=self._groups)

    async def _put(self, connection: AsyncConnection, grant: str, found: Finding, now: datetime) -> None:
        columns = tables.prechecks.c
        await connection.execute(sa.delete(tables.prechecks).where(columns.grant == grant, columns.name == found.name))
        values: dict[str, Any] = {"id": new_id("p", self._clock), "grant": grant, "name": found.name, "at": now}
        values |= {"ok": found.ok, "why": found.why, "evidence": encoded(found.evidence)}
        await connection.execute(tables.prechecks.insert().values(values))


async def _of(connection: AsyncConnection, grant: str) -> list[Kept]:
    columns = tables.prechecks.c
    query = sa.select(tables.prechecks).where(columns.grant == grant).order_by(columns.name)
    return [
        Kept(row.name, row.at, row.ok, row.why, json.loads(row.evidence), row.overridden_by, row.override_reason)
        for row in await connection.execute(query)
    ]


async def _check(connection: AsyncConnection, grant: str, now: datetime) -> bool:
    """The grant is checked, if nobody has said so before."""
    columns = tables.grants.c
    mine = sa.update(tables.grants).where(
        columns.id == grant, columns.checked_at.is_(None), columns.revoked_at.is_(None), columns.ended_at.is_(None)
    )
    return bool((await connection.execute(mine.values(checked_at=now, version=columns.version + 1))).rowcount)
