"""How the removal of a grant's access is proven: a login through the door, and a look at what is left in the database.

The token: for an instant the grant has a token that daypass knows, and a login with it over the listener must be
refused because the grant is over; the vendor's own token is checked against the same row, and is put back so that its
holder is told why. Invariant: a look changes nothing that outlives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from proxy.access.grants import Grants
from proxy.access.hosts import Hosts
from proxy.access.model import Grant
from proxy.access.removals import Finding
from proxy.access.roles import Remains
from proxy.access.tokens import Tokens
from proxy.clock import Clock
from proxy.config import Config, Credential, Database
from proxy.session import upstream
from proxy.session.channel import Channel
from proxy.session.commons import Commons
from proxy.session.ephemeral import TROUBLE, Keeper
from proxy.session.judging import Bench
from proxy.session.upstream import UpstreamRefused

PATIENCE: Final = 10.0
"""Seconds for one look."""
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}  # noqa: S104
_NO_ROLE: Final = "the sessions of this database share one role; none was made for the grant"


class Doors(Protocol):
    """The way to a listener."""

    async def dial(self, database: Database) -> Channel:
        """A connection. Raises UpstreamRefused."""


class Proofs:
    """See the module's text. `port` is where the listener is, or None while it is not open."""

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        grants: Grants,
        tokens: Tokens,
        keeper: Keeper,
        bench: Bench,
        commons: Commons,
        hosts: Hosts,
        doors: Doors,
        port: Callable[[], int | None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._grants = grants
        self._tokens = tokens
        self._keeper = keeper
        self._bench = bench
        self._commons = commons
        self._hosts = hosts
        self._doors = doors
        self._port = port

    async def look(self, grant: Grant, wanted: tuple[str, ...]) -> Mapping[str, Finding]:
        """See `removal.Looks`."""
        found: dict[str, Finding] = {}
        if "token" in wanted:
            found["token"] = await self._token(grant)
        if set(wanted) - {"token"}:
            found |= {name: what for name, what in (await self._left(grant)).items() if name in wanted}
        if "backends" in found and found["backends"].ok:
            found["backends"] = elsewhere(found["backends"], *await self._hosts.free_of(grant.id))
        return found

    async def _token(self, grant: Grant) -> Finding:
        port = self._port()
        if port is None:
            return Finding(False, "the listener is not open")
        try:
            async with asyncio.timeout(PATIENCE), self._tokens.lent(grant) as token:
                return await self._try(grant, token, self._door(grant, port))
        except TimeoutError:
            return Finding(False, "the listener does not answer")

    def _door(self, grant: Grant, port: int) -> Database:
        listen = self._config.listen
        secured = listen.tls.mode != "disable" and listen.tls.cert is not None
        return Database(
            host=_ANY.get(listen.host, listen.host),
            port=port,
            dbname=grant.database,
            tls="require" if secured else "disable",
            credential=Credential(mode="shared", user=grant.id),
        )

    async def _try(self, grant: Grant, token: str, door: Database) -> Finding:
        channel: Channel | None = None
        asked = {"user": grant.id, "database": grant.database, "application_name": "daypass proof of removal"}
        try:
            channel = await self._doors.dial(door)
            await upstream.log_in(channel, asked, token, self._clock)
        except UpstreamRefused as refused:
            return judged(grant, refused.truth)
        except ConnectionError as broken:
            return Finding(False, f"the listener closed the connection: {broken or type(broken).__name__}")
        finally:
            if channel is not None:
                channel.close()
        return Finding(False, "a login with a right token was LET IN")

    async def _left(self, grant: Grant) -> dict[str, Finding]:
        seats = self._commons.seats(grant.id)
        if grant.database not in self._config.databases:
            gone = Finding(False, f"the database {grant.database} is no longer in config.yaml", unreachable=True)
            return dict.fromkeys(("backends", "role", "views"), gone)
        if not self._keeper.is_for(grant.database):
            nobody = Finding(seats == 0, f"{seats} sessions of the grant are open, over all processes of this host")
            return {"backends": nobody, "role": Finding(True, _NO_ROLE), "views": Finding(True, _NO_ROLE)}
        try:
            plans = self._bench.plans((await self._grants.live()).values())
            async with asyncio.timeout(PATIENCE):
                left = await self._keeper.remains(grant, plans.get(grant.database, []))
        except TROUBLE as problem:
            why = f"{grant.database} cannot be looked at: {str(problem) or type(problem).__name__}"
            return dict.fromkeys(("backends", "role", "views"), Finding(False, why, unreachable=True))
        return _findings(left, seats)


def elsewhere(here: Finding, free: bool, said: str) -> Finding:
    """What was found on this host, with what the others that share the state say."""
    return Finding(free, f"{here.why}; other hosts: {said}") if said else here


def judged(grant: Grant, refused: str) -> Finding:
    """What a refusal (`SQLSTATE: text`) of a login with a right token proves. Only after a right proof of the token
    does the door say in what state a grant is."""
    said = f"a login with a right token was refused: {refused}"
    if refused.startswith(
        (f"28000: daypass: grant {grant.id} was revoked", f"28000: daypass: grant {grant.id} expired")
    ):
        return Finding(True, said)
    if "requires a valid client certificate" in refused:
        return Finding(
            True, f"a login without a client certificate was refused before a token was asked for: {refused}"
        )
    return Finding(False, said)


def _findings(left: Remains, seats: int) -> dict[str, Finding]:
    backends = f"{left.backends} backends of {left.name} in pg_stat_activity, {seats} open sessions"
    role = f"the role {left.name} " + ("stands in pg_roles" if left.role else "is not in pg_roles")
    over = ", ".join(left.unused)
    views = f"roles and views that no grant uses: {over}" if over else "no role or view that no living grant uses"
    return {
        "backends": Finding(left.backends == 0 and seats == 0, backends),
        "role": Finding(not left.role, role),
        "views": Finding(not left.unused, views),
    }
