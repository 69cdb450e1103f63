"""The Postgres role of a grant that starts now, made while its owner waits: what is wrong shows at once.

The only part of `daypass grant` that plans with the SQL parsers, so it is loaded when it is needed. The invariant: a
grant whose role cannot be made is revoked before anybody hears of its token.
"""

from __future__ import annotations

import asyncio

from proxy import catalog
from proxy.access.model import Grant
from proxy.access.roles import RoleError
from proxy.access.store import Store
from proxy.cli.output import UNREACHABLE, fail
from proxy.cli.state import with_access
from proxy.config import Config
from proxy.policy.load import Policies
from proxy.session.ephemeral import TROUBLE, Keeper, connections
from proxy.session.judging import Bench


def make_role(cfg: Config, grant: Grant) -> None:
    """The grant's role, where it starts now; one that starts later gets its role at the first login."""
    if cfg.databases[grant.database].credential.mode != "ephemeral" or grant.starts_at > grant.created_at:
        return
    database = cfg.databases[grant.database]

    async def make() -> None:
        store = await Store.open(cfg.state)
        try:
            identity, secret = await store.identity()
        finally:
            await store.close()
        keeper = Keeper(cfg, identity, secret)
        bench = Bench(Policies(cfg.policies), secret, identity, keeper.is_for)
        bench.reload()
        snapshot = await catalog.snapshot_of(database)
        bench.know(grant.database, snapshot)
        try:
            await keeper.credential(grant, bench.plan(grant), connections(grant, bench.for_grant(grant)))
        finally:
            await keeper.close()

    try:
        asyncio.run(make())
    except (RoleError, *TROUBLE) as problem:
        reason = str(problem) or type(problem).__name__
        why, by = "its role could not be made", grant.created_by
        with_access(cfg, lambda access: access.grants.revoke(grant.id, reason=why, by=by))
        hint = f"grant {grant.id} is revoked; mend the cause and make another"
        fail(UNREACHABLE, f"the role for {grant.database} cannot be made: {reason}", hint)
