"""Access requests: asked, approved or denied by others, withdrawn, lapsed; the last approval makes the grant.

Knows policies only as the text and terms that a request pins, and groups as the mapping it is given. Invariants: every
decision is one transaction with its record; nobody approves for himself, and no voice counts twice; a request leaves
`requested` once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import approvals, steps, tables
from proxy.access.approvals import Voice
from proxy.access.grants import GrantError, Grants, network_of, new_id, one_line, row_of
from proxy.access.model import Grant, Request, Terms, check_step, clock_time, person_key
from proxy.access.store import Emit, Store, untold
from proxy.access.timekeeping import refuse_wrong_clock
from proxy.clock import Clock

_COLUMNS: Final = [tables.requests.c[field.name] for field in dataclasses.fields(Request)]
_LONGEST_NOTE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for. `policy_*` and `terms` are pinned as they are at this moment."""

    person: str
    vendor: str
    database: str
    policy: str
    policy_revision: str
    policy_text: str
    terms: Terms
    purpose: str
    length: timedelta
    starts_at: datetime | None = None
    ticket: str | None = None
    expected_use: str | None = None
    rollback_note: str | None = None
    template: str | None = None
    bind_ip: str | None = None
    break_glass: bool = False


class Requests:
    """The requests in a store. `groups` maps a group's name to its people."""

    def __init__(
        self, store: Store, clock: Clock, emit: Emit | None = None, groups: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._emit: Emit = emit if emit is not None else untold
        self._groups = groups or {}
        self._grants = Grants(store, clock, emit)

    async def create(self, wish: Wish, *, by: str, lapse: timedelta, overlap: bool = False) -> Request:
        """A new request. Raises GrantError on input that makes no sense.

        `overlap`: it may be for what the person has a grant for already, at the same time.
        """
        now = self._clock.now()
        if wish.length <= timedelta(0):
            raise GrantError("a grant must last longer than no time at all")
        if wish.starts_at is not None and wish.starts_at + wish.length <= now:
            end = clock_time(wish.starts_at + wish.length)
            raise GrantError(f"that time is over: it would end at {end}; ask for a time to come")
        request = Request(
            id=new_id("r", self._clock),
            person=one_line("person", wish.person),
            vendor=one_line("vendor", wish.vendor),
            database=wish.database,
            policy=wish.policy,
            policy_revision=wish.policy_revision,
            policy_text=wish.policy_text,
            terms=wish.terms,
            purpose=one_line("purpose", wish.purpose),
            ticket=one_line("ticket", wish.ticket) if wish.ticket else None,
            expected_use=one_line("expected use", wish.expected_use) if wish.expected_use else None,
            rollback_note=wish.rollback_note[:_LONGEST_NOTE] if wish.rollback_note else None,
            template=wish.template,
            starts_at=wish.starts_at,
            seconds=int(wish.length.total_seconds()),
            bind_ip=network_of(wish.bind_ip),
            break_glass=wish.break_glass,
            created_at=now,
            created_by=one_line("by", by),
            lapses_at=min(now + lapse, wish.starts_at + wish.length) if wish.starts_at else now + lapse,
            state="requested",
        )
        async with self._store.write() as connection:
            await refuse_wrong_clock(connection, now)
            await refuse_disabled(connection, request.person)
            await refuse_disabled(connection, request.created_by)
            if not overlap and (problem := await _overlap(connection, request, now)):
                raise GrantError(problem)
            values = {name: getattr(request, name) for name in Request.__slots__} | {
                "terms": request.terms.encode(),
                "person_key": person_key(request.person),
            }
            await connection.execute(tables.requests.insert().values(values))
            await self._step(connection, "request.created", request, by=request.created_by, more=_told(request))
        return request

    async def all(self, *, pending: bool = False, limit: int = 1000) -> list[Request]:
        """Requests, the newest first; `pending`: only those that wait for a decision."""
        columns = tables.requests.c
        query = sa.select(*_COLUMNS).where(*self._those(pending)).order_by(columns.created_at.desc(), columns.id)
        async with self._store.read() as connection:
            return [_request(row) for row in (await connection.execute(query.limit(limit))).mappings()]

    async def count(self, *, pending: bool = False) -> int:
        """How many `all` would be without a limit."""
        query = sa.select(sa.func.count()).select_from(tables.requests).where(*self._those(pending))
        async with self._store.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    def _those(self, pending: bool) -> list[sa.ColumnElement[bool]]:
        columns = tables.requests.c
        return [columns.state == "requested", columns.lapses_at > self._clock.now()] if pending else []

    async def get(self, id: str) -> Request:
        """One request. Raises GrantNotFound."""
        async with self._store.read() as connection:
            return await _get(connection, id)

    async def voices(self, id: str) -> list[Voice]:
        """Who has approved so far, in order; with those that no longer count."""
        async with self._store.read() as connection:
            return await _voices(connection, id)

    async def approve(self, id: str, *, by: str, reason: str) -> tuple[Request, Grant | None]:
        """One more voice for it; with the last that is needed, its grant. Raises GrantError where `by` may not."""
        by, reason = one_line("by", by), one_line("reason", reason)
        now = self._clock.now()
        async with self._store.write() as connection:
            request = await self._open(connection, id, now)
            await refuse_disabled(connection, by)
            await refuse_disabled(connection, request.person)
            voices = await _voices(connection, id)
            delegated = await _delegated_to(connection, by, now)
            voice = approvals.voice(request, voices, by=by, reason=reason, at=now, groups=self._groups, for_=delegated)
            values: dict[str, Any] = {"request": id, "by_key": person_key(by), "by": by, "for_whom": voice.for_whom}
            values |= {"groups": json.dumps(voice.groups), "reason": reason, "at": now}
            columns = tables.approvals.c  # who was disabled and is back speaks anew
            void = (columns.request == id, columns.by_key == person_key(by), columns.void_at.is_not(None))
            await connection.execute(sa.delete(tables.approvals).where(*void))
            await connection.execute(tables.approvals.insert().values(values))
            more: dict[str, Any] = {"reason": reason, "groups": list(voice.groups)}
            if voice.for_whom is not None:
                more["for"] = voice.for_whom
            await self._step(connection, "request.voice", request, by=by, more=more)
            if approvals.missing(request, [*voices, voice]):
                return request, None
            if problem := await _overlap(connection, request, now):
                raise GrantError(problem)
            return await self._grant(connection, request, by=by, reason=reason, now=now)

    async def approve_at_once(self, id: str, *, by: str, reason: str) -> tuple[Request, Grant]:
        """The operator's short way, for a request whose policy asks nobody else. Raises GrantError."""
        now = self._clock.now()
        async with self._store.write() as connection:
            request = await self._open(connection, id, now)
            if request.terms.approvals:
                raise GrantError(f"the policy {request.policy} asks for {request.terms.approvals} approval(s)")
            return await self._grant(connection, request, by=by, reason=reason, now=now)

    async def deny(self, id: str, *, by: str, reason: str) -> Request:
        """Somebody who might approve says no: it is over. Raises GrantError."""
        by, reason = one_line("by", by), one_line("reason", reason)
        now = self._clock.now()
        async with self._store.write() as connection:
            request = await self._open(connection, id, now)
            await refuse_disabled(connection, by)
            delegated = await _delegated_to(connection, by, now)
            approvals.voice(request, [], by=by, reason=reason, at=now, groups=self._groups, for_=delegated)
            return await self._close(connection, request, "denied", by=by, why=reason, now=now)

    async def withdraw(self, id: str, *, by: str, reason: str) -> Request:
        """Who asked no longer wants it. Raises GrantError."""
        by, reason = one_line("by", by), one_line("reason", reason)
        now = self._clock.now()
        async with self._store.write() as connection:
            request = await self._open(connection, id, now)
            if person_key(by) not in {person_key(request.created_by), person_key(request.person)}:
                raise GrantError(f"only {request.created_by} or {request.person} can withdraw {id}; others deny it")
            return await self._close(connection, request, "withdrawn", by=by, why=reason, now=now)

    async def lapse(self) -> list[Request]:
        """Closes the requests that nobody answered in time; those that were closed now."""
        now, columns = self._clock.now(), tables.requests.c
        query = sa.select(*_COLUMNS).where(columns.state == "requested", columns.lapses_at <= now).limit(1000)
        async with self._store.read() as connection:
            found = [_request(row) for row in (await connection.execute(query)).mappings()]
        closed = []
        for request in found:
            async with self._store.write() as connection:
                again = await _get(connection, request.id)
                if again.state == "requested":
                    closed.append(
                        await self._close(connection, again, "lapsed", by="daypass", why="nobody answered", now=now)
                    )
        return closed

    async def _open(self, connection: AsyncConnection, id: str, now: datetime) -> Request:
        """The request, where it can still be decided. Raises GrantError."""
        await refuse_wrong_clock(connection, now)
        request = await _get(connection, id)
        when = clock_time(request.decided_at or request.lapses_at)
        if request.standing(now) == "lapsed":
            raise GrantError(f"{id} lapsed at {when}: {request.decided_why or 'nobody answered in time'}; ask again")
        if request.state != "requested":
            raise GrantError(f"{id} was {request.state} by {request.decided_by} at {when}: {request.decided_why}")
        return request

    async def _grant(
        self, connection: AsyncConnection, request: Request, *, by: str, reason: str, now: datetime
    ) -> tuple[Request, Grant]:
        approved = await self._close(connection, request, "approved", by=by, why=reason, now=now)
        length = timedelta(seconds=request.seconds)
        if request.starts_at is not None:
            length -= max(timedelta(0), now - request.starts_at)
        grant, _ = await self._grants.create(
            person=request.person,
            vendor=request.vendor,
            database=request.database,
            policy=request.policy,
            policy_revision=request.policy_revision,
            policy_text=request.policy_text,
            reason=request.purpose,
            length=length,
            starts_at=max(now, request.starts_at) if request.starts_at else now,
            bind_ip=request.bind_ip,
            created_by=by,
            terms=request.terms,
            request=request.id,
            connection=connection,
        )
        return approved, grant

    async def _close(
        self,
        connection: AsyncConnection,
        request: Request,
        state: Literal["approved", "denied", "withdrawn", "lapsed"],
        *,
        by: str,
        why: str,
        now: datetime,
    ) -> Request:
        check_step(request.state, state)
        values: dict[str, Any] = {"state": state, "decided_at": now, "decided_by": by, "decided_why": why}
        values["version"] = request.version + 1
        columns = tables.requests.c
        mine = sa.update(tables.requests).where(columns.id == request.id, columns.version == request.version)
        if not (await connection.execute(mine.values(values))).rowcount:
            raise GrantError(f"{request.id} was decided by somebody else at this moment; look again")
        await self._step(connection, f"request.{state}", request, by=by, more={"reason": why})
        return dataclasses.replace(request, **values)

    async def _step(
        self, connection: AsyncConnection, action: str, request: Request, *, by: str, more: dict[str, Any]
    ) -> None:
        detail = {"request": request.id, "by": by, "person": request.person} | more
        await steps.take(connection, self._emit, self._clock.now(), action, detail)


async def _overlap(connection: AsyncConnection, request: Request, now: datetime) -> str | None:
    """Two grants for one thing at one time: nobody could say under which something was done. None where there is none;
    break-glass may."""
    if request.break_glass:
        return None
    begins = max(now, request.starts_at) if request.starts_at else now
    ends = (request.starts_at or now) + timedelta(seconds=request.seconds)
    columns = tables.grants.c
    query = sa.select(columns.id, columns.person, columns.starts_at, columns.expires_at).where(
        columns.database == request.database,
        columns.policy == request.policy,
        columns.revoked_at.is_(None),
        columns.ended_at.is_(None),
        columns.expires_at > begins,
        columns.starts_at < ends,
    )
    for row in await connection.execute(query):
        if person_key(row.person) == person_key(request.person):
            return (
                f"{row.person} has the grant {row.id} for {request.database} under {request.policy} from "
                f"{clock_time(row.starts_at)} to {clock_time(row.expires_at)}; "
                "ask for a time after it, or have it revoked first"
            )
    return None


async def refuse_disabled(connection: AsyncConnection, person: str) -> None:
    """Raises GrantError where the person was disabled."""
    columns = tables.people.c
    query = sa.select(columns.disabled_at, columns.disable_reason).where(
        columns.key == person_key(person), columns.disabled_at.is_not(None)
    )
    row = (await connection.execute(query)).first()
    if row is not None:
        raise GrantError(f"{person} was disabled at {clock_time(row[0])}: {row[1]}")


async def _get(connection: AsyncConnection, id: str) -> Request:
    return _request(await row_of(connection, tables.requests, _COLUMNS, id, "request"))


def _request(row: sa.RowMapping) -> Request:
    values = {name: row[name] for name in Request.__slots__}
    return Request(**values | {"terms": Terms.decode(values["terms"])})


async def _voices(connection: AsyncConnection, id: str) -> list[Voice]:
    columns = tables.approvals.c
    query = sa.select(tables.approvals).where(columns.request == id).order_by(columns.at, columns.by_key)
    return [
        Voice(row.by, row.for_whom, tuple(json.loads(row.groups)), row.reason, row.at, row.void_at, row.void_why)
        for row in await connection.execute(query)
    ]


async def _delegated_to(connection: AsyncConnection, by: str, now: datetime) -> list[str]:
    """Whose voice `by` may give at this moment, beside his own: people who could give it themselves."""
    columns, people = tables.delegations.c, tables.people.c
    query = sa.select(columns.from_whom, columns.to_whom).where(
        columns.starts_at <= now, columns.ends_at > now, columns.ended_at.is_(None)
    )
    found = [row[0] for row in await connection.execute(query) if person_key(row[1]) == person_key(by)]
    keys = {person_key(name) for name in found}
    gone = sa.select(people.key).where(people.key.in_(keys), people.disabled_at.is_not(None))
    disabled = set((await connection.execute(gone)).scalars()) if keys else set()
    return [name for name in found if person_key(name) not in disabled]


def _told(request: Request) -> dict[str, Any]:
    """What the record says of a new request; the policy's text is in the policy's revision."""
    names = ("vendor", "database", "policy", "policy_revision", "purpose", "ticket", "expected_use", "template",
             "starts_at", "seconds", "bind_ip", "break_glass", "lapses_at")  # fmt: skip
    told = {name: getattr(request, name) for name in names}
    return {name: value for name, value in told.items() if value not in (None, False)}
