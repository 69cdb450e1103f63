"""The roles behind grants, where a database's credential is `ephemeral`: made before they are used, dropped after.

Brings together what the policy says (a plan), what access does (carry it out) and which database it is in. One
administering connection for each database, used by one task at a time. Invariant: no session gets a role whose
effective privileges were not found to be exactly its policy's, at this very login.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import asyncpg
import structlog

from proxy import catalog
from proxy.access import privileges, releases, roles
from proxy.access.model import Grant
from proxy.access.privileges import Connection
from proxy.access.roles import Remains, RoleError
from proxy.config import Config, ConfigError
from proxy.policy.ddl import RolePlan
from proxy.policy.judge import Judges
from proxy.scram import Verifier

log = structlog.get_logger()

TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ConfigError)


def connections(grant: Grant, judge: Judges) -> int | None:
    """How many connections a grant's role may have: its sessions, and those beside them that ask for plans."""
    seats = grant.seats(judge.limits.sessions)
    return seats and seats * (1 + (judge.limits.plan_cost is not None))


class Keeper:
    """All ephemeral roles of one installation. `secret` is the installation's; passwords are derived from it."""

    def __init__(self, config: Config, installation: str, secret: bytes) -> None:
        self._config = config
        self._installation = installation
        self._secret = secret
        self._locks: dict[str, asyncio.Lock] = {}
        self._connections: dict[str, Connection] = {}
        self._made: set[tuple[str, str]] = set()
        self._swept: dict[str, frozenset[str]] = {}
        """The plans' roles in a database when nothing else was left there, by a grant that is over or by a crash."""
        self._trouble: dict[str, str] = {}
        """Why nothing could be done in a database the last time."""
        self._released: dict[str, frozenset[str]] = {}
        self._columns: dict[str, dict[str, str]] = {}

    def is_for(self, database: str) -> bool:
        """Whether this database's sessions use ephemeral roles."""
        entry = self._config.databases.get(database)
        return entry is not None and entry.credential.mode == "ephemeral"

    async def credential(self, grant: Grant, plan: RolePlan, sessions: int | None) -> tuple[str, str]:
        """User and password for a session of `grant`. Raises RoleError when there is no role that may be used.

        It is Released where the owner is changing a table that the plan has a view on.
        """
        name = roles.login_name(self._installation, grant.id)
        password = roles.password(self._secret, grant.id)
        try:
            async with self._connection(grant.database) as connection:
                if (name, plan.role) not in self._made:
                    # A plan may be made for a login that is then refused, and a role may leave another plan.
                    self._swept.pop(grant.database, None)
                await roles.carry_out(connection, plan)  # also after a `database release`
                # Made here, and not moved on since: by another process, or to another catalog's plan and back.
                if (name, plan.role) in self._made and await roles.plans_of(connection, name) == {plan.role}:
                    found = await privileges.beyond(connection, name, plan)
                    if found:
                        raise RoleError(
                            f"the role of this grant could do more than its policy says: {'; '.join(found[:5])}"
                        )
                else:
                    await roles.make_login(
                        connection,
                        name,
                        plan,
                        verifier=Verifier.make(password, salt=bytes.fromhex(password)[:16]),
                        until=grant.expires_at,
                        sessions=sessions,
                    )
                    self._made.add((name, plan.role))
                    self._swept.pop(grant.database, None)
        except TROUBLE as problem:
            self._made.discard((name, plan.role))
            raise RoleError(f"the role of this grant cannot be made: {problem or type(problem).__name__}") from None
        return name, password

    async def suspend(self, grants: Collection[Grant]) -> None:
        """The roles of these grants, which pause, may not log in; `credential` lets them again."""
        for database in filter(self.is_for, self._config.databases):
            names = [roles.login_name(self._installation, g.id) for g in grants if g.database == database]
            if names:

                async def suspend(connection: Connection, names: list[str] = names) -> None:
                    for name in await roles.suspend(connection, names):
                        log.info("role_suspended", role=name)

                await self._try(database, suspend)

    async def reconcile(self, live: Mapping[str, Grant], keep: Mapping[str, Iterable[RolePlan]]) -> list[str]:
        """Drops the roles of grants that are over, and plans that nothing uses. Returns the roles dropped."""
        wanted = {roles.login_name(self._installation, grant) for grant in live}
        databases = [name for name in self._config.databases if self.is_for(name)]
        dropped: list[str] = []

        async def drop(connection: Connection) -> None:
            for name in await roles.logins(connection, self._installation):
                if name not in wanted and await roles.drop_login(connection, name):
                    dropped.append(name)
                    self._made = {made for made in self._made if made[0] != name}

        for database in databases:
            await self._try(database, drop)
        if dropped:
            self._swept.clear()
        for database in databases:
            plans = list(keep.get(database, ()))
            kept = frozenset(plan.role for plan in plans)
            # A grant whose login was refused leaves a plan and no role: that it is over shows only in what is kept.
            if self._swept.get(database) == kept:
                continue

            async def sweep(
                connection: Connection,
                database: str = database,
                plans: list[RolePlan] = plans,
                kept: frozenset[str] = kept,
            ) -> None:
                await roles.drop_unused(connection, self._installation, plans)
                self._swept[database] = kept

            await self._try(database, sweep)
        return dropped

    async def remains(self, grant: Grant, keep: Sequence[RolePlan]) -> Remains:
        """What is left of a grant that is over. Raises what is in TROUBLE."""
        name = roles.login_name(self._installation, grant.id)
        async with self._connection(grant.database) as connection:
            return await roles.remains(connection, self._installation, name, since=grant.created_at, keep=keep)

    async def look_at_releases(self) -> None:
        """Learns which tables are released."""
        for database in filter(self.is_for, self._config.databases):

            async def learn(connection: Connection, database: str = database) -> None:
                marks = await releases.standing(connection, releases.schema_of(self._installation))
                self._say(database, frozenset(marks))

            await self._try(database, learn)

    async def settle(self, database: str) -> None:
        """Ends the releases in `database` whose tables have changed, and not any more since the last call."""
        if self._released.get(database):

            async def settle(connection: Connection) -> None:
                before = self._columns.get(database, {})
                _, self._columns[database] = await releases.settled(connection, self._installation, before)

            await self._try(database, settle)

    def released(self, database: str) -> frozenset[str]:
        """The tables that are released, by what `look_at_releases` has learnt."""
        return self._released.get(database, frozenset())

    def _say(self, database: str, released: frozenset[str]) -> None:
        before = self._released.get(database, frozenset())
        self._released[database] = released
        for table in sorted(released - before):
            log.warning("table_released", database=database, table=table)
        for table in sorted(before - released):
            log.info("table_taken_back", database=database, table=table)

    async def _try(self, database: str, what: Callable[[Connection], Awaitable[None]]) -> bool:
        """Does what is tried again in the next round when it fails, and says so once for each reason. One database that
        is away must not keep the others from it."""
        try:
            async with self._connection(database) as connection:
                await what(connection)
        except TROUBLE as problem:
            reason = str(problem) or type(problem).__name__
            if self._trouble.get(database) != reason:
                log.warning("roles_not_reconciled", database=database, reason=reason)
            self._trouble[database] = reason
            return False
        if self._trouble.pop(database, None) is not None:
            log.info("roles_reconciled_again", database=database)
        return True

    async def close(self) -> None:
        """Closes the administering connections."""
        for connection in self._connections.values():
            with contextlib.suppress(*TROUBLE):
                await connection.close(timeout=2)
        self._connections.clear()

    @contextlib.asynccontextmanager
    async def _connection(self, database: str) -> AsyncIterator[Connection]:
        entry = self._config.databases[database]
        async with self._locks.setdefault(database, asyncio.Lock()):
            connection = self._connections.get(database)
            if connection is None or connection.is_closed():
                connection = await catalog.connect_to(entry)
                self._connections[database] = connection
            yield connection
