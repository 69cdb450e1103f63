"""Grants: created, listed, revoked, and looked up at login.

Each step is told to `emit` before it is committed: what cannot be recorded does not happen. It knows nothing of policy
beyond the text and revision that it pins. The invariants: a token is returned once and stored nowhere, only its SCRAM
verifier is; one token is live per grant; a login costs the same for a name that exists and for one that does not.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import steps, tables
from proxy.access.model import Grant, Refusal, Terms, admission, clock_time, normal_network
from proxy.access.quiet import Quiet
from proxy.access.store import Emit, Store, StoreError, untold
from proxy.clock import Clock
from proxy.scram import Verifier

__all__ = ["GrantError", "GrantNotFound", "Grants", "Refusal", "admission"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: an id is read aloud and typed
_ID = re.compile(rf"g-[{_ALPHABET}]{{8}}")
_LONGEST_TEXT = 500
_COLUMNS = [tables.grants.c[field.name] for field in dataclasses.fields(Grant)]


class GrantError(Exception):
    """What was asked cannot be done; the text says why."""


class GrantNotFound(GrantError):
    """There is no such grant."""


class Grants:
    """The grants in a store."""

    def __init__(self, store: Store, clock: Clock, emit: Emit | None = None) -> None:
        self._store = store
        self._clock = clock
        self._emit: Emit = emit if emit is not None else untold

    async def create(
        self,
        *,
        person: str,
        vendor: str,
        database: str,
        policy: str,
        policy_revision: str,
        policy_text: str,
        reason: str,
        length: timedelta,
        starts_at: datetime | None = None,
        bind_ip: str | None = None,
        created_by: str,
        terms: Terms | None = None,
        request: str | None = None,
        connection: AsyncConnection | None = None,
    ) -> tuple[Grant, str]:
        """A new grant and its token. Raises GrantError on input that makes no sense.

        With a `connection` it is part of that transaction, and has no token until `rotate` mints one.
        """
        now = self._clock.now()
        begins = starts_at or now
        terms = terms or Terms()
        grant = Grant(
            id=new_id("g", self._clock),
            person=one_line("person", person),
            vendor=one_line("vendor", vendor),
            database=database,
            policy=policy,
            policy_revision=policy_revision,
            policy_text=policy_text,
            reason=one_line("reason", reason),
            bind_ip=network_of(bind_ip),
            created_at=now,
            created_by=one_line("created by", created_by),
            starts_at=begins,
            expires_at=_end(now, begins, length),
            revoked_at=None,
            revoke_reason=None,
            request=request,
            terms=terms,
            stage="active" if begins <= now and not terms.prechecks else "waiting",
        )
        if connection is not None:
            await self._insert(connection, grant, "")
            return grant, ""
        token, verifier = self._mint()
        async with self._store.write() as own:
            await self._insert(own, grant, verifier)
        return grant, token

    async def _insert(self, connection: AsyncConnection, grant: Grant, verifier: str) -> None:
        values = {field.name: getattr(grant, field.name) for field in dataclasses.fields(Grant)}
        values |= {"terms": grant.terms.encode(), "verifier": verifier, "token_at": grant.created_at}
        await connection.execute(tables.grants.insert().values(values))
        detail = _told(grant, grant.created_by) | {"bind_ip": grant.bind_ip}
        if grant.request is not None:
            detail["request"] = grant.request
        await self._step(connection, "created", detail)

    async def _step(self, connection: AsyncConnection, action: str, detail: dict[str, Any]) -> None:
        await steps.take(connection, self._emit, self._clock.now(), action, detail)

    async def list(self) -> list[Grant]:
        """Every grant, the newest first."""
        query = sa.select(*_COLUMNS).order_by(tables.grants.c.created_at.desc(), tables.grants.c.id)
        async with self._store.read() as connection:
            return [grant_of(row) for row in (await connection.execute(query)).mappings()]

    async def get(self, id: str, *, connection: AsyncConnection | None = None) -> Grant:
        """One grant, as it stands in the transaction of `connection` or by itself. Raises GrantNotFound."""
        if connection is not None:
            return await _get(connection, id)
        async with self._store.read() as own:
            return await _get(own, id)

    async def of_request(self, request: str) -> Grant | None:
        """The grant that a request has become."""
        query = sa.select(*_COLUMNS).where(tables.grants.c.request == request)
        async with self._store.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return grant_of(row) if row is not None else None

    async def revoke(
        self, id: str, *, reason: str, by: str, why: str = "revoked", connection: AsyncConnection | None = None
    ) -> Grant:
        """Ends a grant for good. Revoking again changes nothing and returns the grant as it is.

        `why`: revoked, policy, person or agreement. A grant that is over by its time is only marked.
        With a `connection` it is part of that transaction.
        """
        reason, by = one_line("reason", reason), one_line("by", by)
        if connection is not None:
            return await self._revoke(connection, id, reason, by, why)
        async with self._store.write() as own:
            return await self._revoke(own, id, reason, by, why)

    async def _revoke(self, connection: AsyncConnection, id: str, reason: str, by: str, why: str) -> Grant:
        grant = await _get(connection, id)
        if grant.revoked_at is not None:
            return grant
        now = self._clock.now()
        values: dict[str, Any] = {"revoked_at": now, "revoke_reason": reason, "revoked_by": by}
        if grant.ended_at is None:
            values["ended_why"] = why
        revoked = dataclasses.replace(grant, **values, version=grant.version + 1)
        values["version"] = revoked.version
        await connection.execute(sa.update(tables.grants).where(tables.grants.c.id == id).values(values))
        detail = {"grant": id, "by": by, "reason": reason, "person": grant.person}
        await self._step(connection, "revoked", detail | ({"why": why} if why != "revoked" else {}))
        return revoked

    async def rotate(self, id: str, *, by: str = "") -> str:
        """A new token; the old one opens nothing from now on. Raises GrantError when the grant is over."""
        token, verifier = self._mint()
        async with self._store.write() as connection:
            grant = await _get(connection, id)
            state = grant.state(self._clock.now())
            if state in {"expired", "revoked"}:
                raise GrantError(f"grant {id} is {state}; a token for it would open nothing")
            values = {"verifier": verifier, "token_at": self._clock.now(), "token_used_at": None}
            await connection.execute(sa.update(tables.grants).where(tables.grants.c.id == id).values(values))
            await self._step(connection, "token", {"grant": id, "by": by, "person": grant.person})
        return token

    async def login(self, user: str) -> tuple[Grant | None, Verifier]:
        """The grant of a login name and the verifier to check a token against.

        A name that nobody has gets a mock verifier, stable for the name. One query and the same work either way;
        whether the grant is still good is asked after the proof (`admission`).
        """
        known = user if _ID.fullmatch(user) else ""  # a name may hold what a database refuses to look up
        both = tables.installation.outerjoin(tables.grants, tables.grants.c.id == known)
        query = sa.select(tables.installation.c.mock_key, tables.grants.c.verifier, *_COLUMNS).select_from(both)
        async with self._store.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise StoreError("the state has lost its installation row")
        mock = Verifier.mock(user, row["mock_key"]).encode()
        grant = grant_of(row) if row["id"] is not None else None
        return grant, Verifier.parse(row["verifier"] or mock)

    def quiet(self) -> Quiet:
        """For a round over these that is left out while nobody writes."""
        return Quiet(self._store, self._clock)

    async def live(self) -> dict[str, Grant]:
        """Grants that are neither over nor revoked, by id; what is not here ends."""
        now, columns = self._clock.now(), tables.grants.c
        query = sa.select(*_COLUMNS).where(columns.expires_at > now, columns.revoked_at.is_(None))
        async with self._store.read() as connection:
            return {row["id"]: grant_of(row) for row in (await connection.execute(query)).mappings()}

    async def these(self, ids: Iterable[str]) -> dict[str, Grant]:
        """The grants of these ids, over or not; one that nobody has is not among them."""
        query = sa.select(*_COLUMNS).where(tables.grants.c.id.in_(sorted(ids)))
        async with self._store.read() as connection:
            return {row["id"]: grant_of(row) for row in (await connection.execute(query)).mappings()}

    async def failing(self, id: str) -> str:
        """Which prechecks of a grant did not hold when they were looked at last, and why; one line for its client.

        What programs and databases themselves said (after the colon) may hold addresses: it is for the owner.
        """
        columns = tables.prechecks.c
        query = sa.select(columns.name, columns.why).where(columns.grant == id, sa.not_(columns.ok))
        async with self._store.read() as connection:
            rows = await connection.execute(query.order_by(columns.name))
            return "; ".join(f"{row.name}: {row.why.partition(': ')[0]}" for row in rows)

    async def spent(self, id: str) -> tuple[int, int]:
        """Rows and bytes that a grant has taken so far."""
        table = tables.grants
        async with self._store.read() as connection:
            query = sa.select(table.c.rows_spent, table.c.bytes_spent).where(table.c.id == id)
            row = (await connection.execute(query)).one_or_none()
            return (row[0], row[1]) if row is not None else (0, 0)

    async def spend(self, id: str, rows: int, octets: int) -> None:
        """Add to what a grant has taken."""
        table = tables.grants
        async with self._store.write() as connection:
            await connection.execute(
                sa.update(table)
                .where(table.c.id == id)
                .values(rows_spent=table.c.rows_spent + rows, bytes_spent=table.c.bytes_spent + octets)
            )

    def _mint(self) -> tuple[str, str]:
        return mint(self._clock)


async def _get(connection: AsyncConnection, id: str) -> Grant:
    query = sa.select(*_COLUMNS).where(tables.grants.c.id == (id if _ID.fullmatch(id) else ""))
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise GrantNotFound(f"there is no grant {id!r}")
    return grant_of(row)


async def row_of(
    connection: AsyncConnection, table: sa.Table, columns: Iterable[sa.Column[Any]], id: str, what: str
) -> sa.RowMapping:
    """The row with this id, as a person typed it: one that no id can be is asked of no server. Raises GrantNotFound."""
    query = sa.select(*columns).where(table.c.id == (id if id.isascii() and id.isprintable() else ""))
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise GrantNotFound(f"there is no {what} {id!r}")
    return row


def grant_columns() -> list[sa.Column[Any]]:
    """The columns of which `grant_of` makes a grant."""
    return list(_COLUMNS)


def grant_of(row: Mapping[str, Any] | sa.RowMapping) -> Grant:
    """The grant of a row."""
    values = {field.name: row[field.name] for field in dataclasses.fields(Grant)}
    return Grant(**values | {"terms": Terms.decode(values["terms"])})


def _told(grant: Grant, by: str) -> dict[str, Any]:
    """What the record says of a new grant; the policy's text is in the policy's revision."""
    detail: dict[str, Any] = {"grant": grant.id, "by": by}
    names = ("person", "vendor", "database", "policy", "policy_revision", "reason", "starts_at", "expires_at")
    return detail | {name: getattr(grant, name) for name in names}


def mint(clock: Clock) -> tuple[str, str]:
    """A token of 160 random bits, and its verifier as text."""
    token = "dp_" + base64.b32encode(clock.random(20)).decode("ascii").lower()
    return token, Verifier.make(token, salt=clock.random(16)).encode()


def new_id(letter: str, clock: Clock) -> str:
    """`g-7k3m9x2q`: an id that is read aloud and typed."""
    return f"{letter}-{_letters(clock.random(8))}"


def _letters(random: bytes) -> str:
    return "".join(_ALPHABET[byte % 32] for byte in random)  # 256 is a multiple of 32: no letter is likelier


def _end(now: datetime, starts_at: datetime, length: timedelta) -> datetime:
    if length <= timedelta(0):
        raise GrantError("a grant must last longer than no time at all")
    try:
        end = starts_at + length
    except OverflowError:
        raise GrantError("a grant cannot last that long") from None
    if end <= now:
        raise GrantError(f"the grant would be over before it begins: it would end at {clock_time(end)}")
    return end


def network_of(text: str | None) -> str | None:
    """An address or network in its usual form. Raises GrantError."""
    try:
        return normal_network(text) if text else None
    except ValueError as error:
        raise GrantError(str(error)) from None


def one_line(what: str, value: str) -> str:
    """A text that people read again in tables and records: not empty, printable, not a book."""
    value = value.strip()
    if not value:
        raise GrantError(f"{what} must not be empty")
    if len(value) > _LONGEST_TEXT or not value.isprintable():
        raise GrantError(f"{what} must be one line of at most {_LONGEST_TEXT} printable characters")
    return value
