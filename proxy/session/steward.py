"""What time and facts have made of requests and grants, carried out and recorded: one round after another.

Only the leading process of an installation does it. Each step is one transaction, so a round that is cut off anywhere
is gone on with by the next one, in whatever process. Sessions do not wait for it: `Grant.state` counts at the door.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from proxy.access.grants import Grants
from proxy.access.model import Grant, Terms
from proxy.access.requests import Requests
from proxy.access.stages import BY, Stages, due
from proxy.access.store import Emit, Store
from proxy.clock import Clock
from proxy.config import Config, format_duration

log = structlog.get_logger()


class Steward:
    """The rounds over all requests and grants."""

    def __init__(
        self,
        config: Config,
        store: Store,
        clock: Clock,
        emit: Emit,
        terms: Callable[[Grant], Terms | None] = lambda grant: None,
    ) -> None:
        self._config = config
        self._terms = terms
        """What a grant's policy file says now."""
        self._grants = Grants(store, clock, emit)
        self._clock = clock
        self._requests = Requests(store, clock, emit, config.people.groups)
        self._stages = Stages(store, clock, emit)

    async def round(self) -> None:
        """Look at everything once. Raises StoreError, RecordError: the next round tries again."""
        for request in await self._requests.lapse():
            log.info("request_lapsed", request=request.id)
        for grant in await self._stages.unfinished():
            await self._look_at(grant)

    async def _look_at(self, grant: Grant) -> None:
        now, file = self._clock.now(), self._terms(grant)
        after = due(grant, now, file)
        if after is None:
            return
        if after == "ended" and grant.revoked_at is None and now < grant.expires_at and file is not None:
            longest = format_duration(file.max_seconds or 0)
            reason = f"the policy {grant.policy} lets a grant last {longest} at most by now"
            await self._grants.revoke(grant.id, reason=reason, by=BY, why="policy")
            log.info("grant_revoked", grant=grant.id, reason=reason)
            return
        values: dict[str, Any] = {}
        detail: dict[str, Any] = {}
        if after == "paused":
            detail = {"opens": grant.turns(now, file)}
        if after == "ended":
            why = grant.ended_why or ("revoked" if grant.revoked_at is not None else "expired")
            values = {"ended_at": grant.revoked_at or grant.expires_at, "ended_why": why}
            detail = {"why": why, "reason": grant.revoke_reason} if grant.revoke_reason else {"why": why}
        if await self._stages.move(grant, after, detail=detail, **values):
            log.info("grant_" + after, grant=grant.id, **{key: str(value) for key, value in detail.items()})
