"""The session that an opening gets upstream: as whom, dialled, and whether it is what it must be.

Knows the database's entry in the configuration, and nothing of the client but what it asked for. Invariant: what the
database itself says reaches the client only where it is about what the client asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from proxy import catalog
from proxy.access.model import Grant
from proxy.access.roles import Released, RoleError
from proxy.config import Database
from proxy.session import upstream
from proxy.session.channel import Channel
from proxy.session.cost import Connect
from proxy.session.refusals import LoginRefused, refusal
from proxy.session.results import FIXED_SETTINGS
from proxy.session.upstream import Ready, UpstreamRefused

if TYPE_CHECKING:
    from proxy.session.opening import Desk

log = structlog.get_logger()


async def credential(desk: Desk, grant: Grant, database: Database, sessions: int | None) -> tuple[str, str]:
    """The user and password of the upstream session. Raises LoginRefused."""
    if not desk.keeper.is_for(grant.database):
        return database.credential.user, database.credential.password()
    try:
        return await desk.keeper.credential(grant, desk.judging.plan(grant), sessions)
    except Released as problem:
        raise LoginRefused(refusal("released", grant=grant.id, table=problem.table), str(problem)) from None
    except RoleError as problem:
        log.error("role_refused", grant=grant.id, database=grant.database, reason=str(problem))
        raise LoginRefused(
            refusal("upstream", text="the role of this grant cannot be used", hint=""), str(problem)
        ) from None


async def dial(
    desk: Desk, database: Database, asked: dict[str, str], password: str, *, observe: bool
) -> tuple[Channel, Ready]:
    """An upstream session that is ready. Raises LoginRefused."""
    server: Channel | None = None
    try:
        server = await desk.upstreams.dial(database)
        ready = await upstream.log_in(server, asked, password, desk.clock)
        if not observe:
            _check_settings(ready)
        return server, ready
    except BaseException as problem:
        if server is not None:
            server.close()
        if isinstance(problem, UpstreamRefused):
            raise LoginRefused(refusal("upstream", text=problem.text, hint=""), problem.truth) from None
        if isinstance(problem, ConnectionError):
            raise LoginRefused(
                refusal("upstream", text="it closed the connection", hint="try again in a moment"), str(problem)
            ) from None
        raise


def _check_settings(ready: Ready) -> None:
    for name, value in FIXED_SETTINGS.items():
        if ready.settings.get(name, value).lower() != value.lower():
            raise UpstreamRefused(f"it insists on {name} = {ready.settings[name]}")


def beside(desk: Desk, database: Database, grant: Grant, user: str, password: str) -> Connect:
    """A connection beside a session's own: the same role, the same settings."""

    async def connect() -> Any:
        return await catalog.connect(
            host=database.host,
            port=database.port,
            dbname=database.dbname,
            user=user,
            password=password,
            tls=database.tls,
            ca=database.ca,
            settings=desk.judging.settings(grant),
        )

    return connect
