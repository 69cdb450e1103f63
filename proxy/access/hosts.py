"""What the hosts that share a state tell each other: that they live, and which grants have sessions on them.

With SQLite there is one host, and nothing is told. Times are the state's own, so hosts need not agree on the hour.
Knows no sessions: which grants have some is told to it. Invariant: a host counts as free of a grant only where it has
said so since it was asked, or has said nothing for so long that its lease is over.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from proxy.access import tables
from proxy.access.store import Store

LEASE: Final = 30.0
"""Seconds after which a host that says nothing is taken for gone."""
FORGOTTEN: Final = 86_400.0
"""Seconds after which it is no longer known."""
FRESH_BEATS: Final = 2
"""What a host says next may have been looked up before it was asked; what it says after that was not."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host, as it spoke last. `beat`: how often it has spoken. `silent`: seconds since."""

    name: str
    beat: int
    grants: frozenset[str]
    silent: float


def host_name(folder: Path) -> str:
    """A host's name; two installations' folders on one machine are two hosts."""
    return f"{socket.gethostname()}-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:6]}"


class Hosts:
    """The hosts of a state; `name` is this one's."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._shared = store.alone is not None
        self._asked: dict[str, dict[str, int]] = {}
        """For each grant the beat of each host when it was asked about first."""

    async def tell(self, grants: Iterable[str]) -> None:
        """This host lives, and these grants have sessions on it. Raises StoreError."""
        if not self._shared:
            return
        table, now = tables.hosts, sa.func.clock_timestamp()
        silent = sa.func.extract("epoch", now - table.c.at)
        values = {"at": now, "grants": json.dumps(sorted(grants))}
        async with self._store.write() as connection:
            mine = sa.update(table).where(table.c.name == self._name).values(beat=table.c.beat + 1, **values)
            if not (await connection.execute(mine)).rowcount:
                await connection.execute(table.insert().values(name=self._name, beat=1, **values))
                await connection.execute(sa.delete(table).where(silent > FORGOTTEN))

    async def others(self) -> list[Host]:
        """The other hosts, by name. Raises StoreError."""
        if not self._shared:
            return []
        columns = tables.hosts.c
        silent = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp() - columns.at), sa.Float)
        query = sa.select(columns.name, columns.beat, columns.grants, silent).where(columns.name != self._name)
        async with self._store.read() as connection:
            rows = await connection.execute(query.order_by(columns.name))
            return [Host(name, beat, frozenset(json.loads(grants)), silent) for name, beat, grants, silent in rows]

    async def free_of(self, grant: str) -> tuple[bool, str]:
        """Whether no other host has a session of a grant that is over, and what each says. Ask until it is so.

        Raises StoreError.
        """
        others = await self.others()
        first = self._asked.setdefault(grant, {})
        free, said = True, []
        for host in others:
            since = host.beat - first.setdefault(host.name, host.beat)
            if host.silent > LEASE:
                said.append(f"{host.name} has said nothing for {host.silent:.0f} s: its lease is over")
            elif grant in host.grants:
                free = False
                said.append(f"{host.name} has open sessions of it, or had {host.silent:.0f} s ago")
            elif since < FRESH_BEATS:
                free = False
                said.append(f"{host.name} has not said yet")
            else:
                said.append(f"{host.name} says none")
        if free:
            del self._asked[grant]
        return free, "; ".join(said)
