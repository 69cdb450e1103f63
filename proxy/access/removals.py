"""What proves that a grant's access is gone, kept with its time: one row for each proof, tried until it is true.

Knows nothing of how something is proven. Invariants: a proof that held is not tried again; each that holds is a step
once, in the transaction that keeps it; a grant is `removed` when all hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.model import Grant
from proxy.access.store import Emit, Store
from proxy.clock import Clock

PROOFS: Final = ("token", "backends", "role", "views")
BY: Final = "daypass"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look has found: whether it proves the removal, and why or why not, in one line for people."""

    ok: bool
    why: str
    unreachable: bool = False
    """Whether nothing could be looked at."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof as it stands. `at` is when it was looked at last."""

    proof: str
    ok: bool
    at: datetime
    tries: int
    why: str


class Removals:
    """The proofs in a store."""

    def __init__(self, store: Store, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit

    async def of(self, grant: str) -> list[Proof]:
        """The proofs of a grant so far, in their order."""
        columns = tables.removals.c
        query = sa.select(columns.proof, columns.ok, columns.at, columns.tries, columns.why)
        async with self._store.read() as connection:
            rows = await connection.execute(query.where(columns.grant == grant))
            found = [Proof(row.proof, bool(row.ok), row.at, row.tries, row.why) for row in rows]
        return sorted(found, key=lambda proof: PROOFS.index(proof.proof))

    async def note(self, grant: Grant, findings: Mapping[str, Finding]) -> None:
        """Keeps what was found, all in one transaction; proofs that held before stay as they are."""
        now, columns = self._clock.now(), tables.removals.c
        async with self._store.write() as connection:
            known = sa.select(columns.proof, columns.ok).where(columns.grant == grant.id)
            before = {row.proof: bool(row.ok) for row in await connection.execute(known)}
            for proof, found in findings.items():
                if before.get(proof):
                    continue
                values = {"ok": found.ok, "at": now, "why": found.why[:500]}
                if proof in before:
                    mine = sa.update(tables.removals).where(columns.grant == grant.id, columns.proof == proof)
                    await connection.execute(mine.values(tries=columns.tries + 1, **values))
                else:
                    first = {"grant": grant.id, "proof": proof, "tries": 1, **values}
                    await connection.execute(tables.removals.insert().values(first))
                if found.ok:
                    detail = {"grant": grant.id, "by": BY, "person": grant.person, "found": found.why[:500]}
                    await steps.take(connection, self._emit, now, f"removal.{proof}", detail)
