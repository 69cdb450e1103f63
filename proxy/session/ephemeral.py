"""The roles behind grants, where a database's credential is `ephemeral`: made before they are used, dropped after.

Brings together what the policy says (a plan), what access does (carry it out) and which database it is in. One
administering connection for each database, used by one task at a time. Invariant: no session gets a role whose
effective privileges were not found to be exactly its policy's, at this very login.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping

import asyncpg
import structlog

from proxy import catalog
from proxy.access import privileges, roles
from proxy.access.model import Grant
from proxy.access.privileges import Connection
from proxy.access.roles import RoleError
from proxy.config import Config, ConfigError
from proxy.policy.ddl import RolePlan
from proxy.scram import Verifier

log = structlog.get_logger()

TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ConfigError)


class Keeper:
    """All ephemeral roles of one installation. `secret` is the installation's; passwords are derived from it."""

    def __init__(self, config: Config, installation: str, secret: bytes) -> None:
        self._config = config
        self._installation = installation
        self._secret = secret
        self._locks: dict[str, asyncio.Lock] = {}
        self._connections: dict[str, Connection] = {}
        self._made: set[tuple[str, str]] = set()
        self._swept: set[str] = set()
        """Databases in which nothing unused is left, neither by a grant that is over nor by a crash."""

    def is_for(self, database: str) -> bool:
        """Whether this database's sessions use ephemeral roles."""
        return self._config.databases[database].credential.mode == "ephemeral"

    async def credential(self, grant: Grant, plan: RolePlan, sessions: int | None) -> tuple[str, str]:
        """User and password for a session of `grant`. Raises RoleError when there is no role that may be used."""
        name = roles.login_name(self._installation, grant.id)
        password = roles.password(self._secret, grant.id)
        try:
            async with self._connection(grant.database) as connection:
                await roles.carry_out(connection, plan)  # also after a `database release`
                if (name, plan.role) in self._made:
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
        except TROUBLE as problem:
            self._made.discard((name, plan.role))
            raise RoleError(f"the role of this grant cannot be made: {problem or type(problem).__name__}") from None
        return name, password

    async def reconcile(self, live: Mapping[str, Grant], keep: Mapping[str, Iterable[RolePlan]]) -> list[str]:
        """Drops the roles of grants that are over, and plans that nothing uses. Returns the roles dropped."""
        wanted = {roles.login_name(self._installation, grant) for grant in live}
        databases = [name for name in self._config.databases if self.is_for(name)]
        dropped: list[str] = []
        for database in databases:
            async with self._trying(database) as connection:
                for name in await roles.logins(connection, self._installation):
                    if name not in wanted and await roles.drop_login(connection, name):
                        dropped.append(name)
                        self._made = {made for made in self._made if made[0] != name}
        if dropped:
            self._swept.clear()
        for database in databases:
            if database not in self._swept:
                async with self._trying(database) as connection:
                    await roles.drop_unused(connection, self._installation, list(keep.get(database, ())))
                    self._swept.add(database)
        return dropped

    @contextlib.asynccontextmanager
    async def _trying(self, database: str) -> AsyncIterator[Connection]:
        """A connection for what is tried again in the next round when it fails."""
        try:
            async with self._connection(database) as connection:
                yield connection
        except TROUBLE as problem:
            log.warning("roles_not_reconciled", database=database, reason=str(problem) or type(problem).__name__)

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
