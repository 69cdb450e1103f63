"""Tokens that open one session and no more: used up by the first session that gets ready.

Minting is `grants`' business; a proof that is right is `session.login`'s. Invariants: of all logins that run at one
moment, in whatever process, one uses a token up; it is used up before its client hears that the session is open, so a
crash in between costs a token and never gives a second session. A login that fails gives it back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.grants import mint
from proxy.access.model import Grant
from proxy.access.store import Emit, Store, StoreError
from proxy.clock import Clock
from proxy.scram import Verifier


class TokenUsed(Exception):
    """The token has opened its one session."""


class Tokens:
    """The tokens of the grants in a store."""

    def __init__(self, store: Store, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit

    async def used_at(self, grant: str) -> datetime | None:
        """When the live token of a grant was used up; None where it was not."""
        columns = tables.grants.c
        async with self._store.read() as connection:
            query = sa.select(columns.token_used_at).where(columns.id == grant)
            found: datetime | None = (await connection.execute(query)).scalar()
        return found

    async def refuse_used(self, grant: Grant) -> None:
        """Raises TokenUsed where that is known already. Cheap, and no promise: `using` decides."""
        if grant.terms.single_use and await self.used_at(grant.id) is not None:
            raise TokenUsed

    @contextlib.asynccontextmanager
    async def using(self, grant: Grant, verifier: Verifier, where: str) -> AsyncIterator[None]:
        """Use the token up, where it is for one session, and open the session in the block; whatever goes wrong in it
        gives the token back. Raises TokenUsed, also where another token was minted since the proof.
        """
        if not grant.terms.single_use:
            yield
            return
        mark = self._clock.now()
        try:
            await self._use(grant, verifier, mark, where)
            yield
        except TokenUsed:
            raise
        except BaseException:
            await self._give_back(grant, mark)
            raise

    @contextlib.asynccontextmanager
    async def lent(self, grant: Grant) -> AsyncIterator[str]:
        """A token for a grant that is over, good for the block, in the place of its own, which comes back after it.

        Whoever dies in the block leaves the lent one, which nobody knows, until the next one who lends.
        """
        token, verifier = mint(self._clock)
        columns = tables.grants.c
        mine = sa.update(tables.grants).where(columns.id == grant.id)
        kept = sa.func.coalesce(columns.kept_verifier, columns.verifier)
        async with self._store.write() as connection:
            over = mine.where(columns.ended_at.is_not(None))
            if not (await connection.execute(over.values(kept_verifier=kept, verifier=verifier))).rowcount:
                raise StoreError(f"{grant.id} is not over")
        try:
            yield token
        finally:
            async with self._store.write() as connection:
                back = mine.where(columns.kept_verifier.is_not(None), columns.verifier == verifier)
                await connection.execute(back.values(verifier=columns.kept_verifier, kept_verifier=None))

    async def _use(self, grant: Grant, verifier: Verifier, mark: datetime, where: str) -> None:
        columns = tables.grants.c
        mine = sa.update(tables.grants).where(
            columns.id == grant.id, columns.token_used_at.is_(None), columns.verifier == verifier.encode()
        )
        async with self._store.write() as connection:
            if not (await connection.execute(mine.values(token_used_at=mark))).rowcount:
                raise TokenUsed
            detail = {"grant": grant.id, "by": grant.person, "address": where}
            await steps.take(connection, self._emit, mark, "token.used", detail)

    async def _give_back(self, grant: Grant, mark: datetime) -> None:
        columns = tables.grants.c
        mine = sa.update(tables.grants).where(columns.id == grant.id, columns.token_used_at == mark)
        async with self._store.write() as connection:
            if (await connection.execute(mine.values(token_used_at=None))).rowcount:
                detail = {"grant": grant.id, "by": "daypass", "reason": "the session could not be opened"}
                await steps.take(connection, self._emit, self._clock.now(), "token.returned", detail)
