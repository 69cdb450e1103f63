"""What time and facts have made of requests and grants, carried out and recorded: one round after another.

Only the leading process of an installation does it. Each step is one transaction, so a round that is cut off anywhere
is gone on with by the next one, in whatever process. Sessions do not wait for it: `Grant.state` counts at the door.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import structlog

from proxy.access.alerts import Alerts
from proxy.access.findings import Findings
from proxy.access.grants import Grants
from proxy.access.model import Grant, Terms
from proxy.access.people import People
from proxy.access.requests import Requests
from proxy.access.reviews import Reviews, due_at
from proxy.access.stages import BY, Stages, due
from proxy.access.store import Emit, Store
from proxy.clock import Clock
from proxy.config import Config, format_duration
from proxy.session.checking import Checking

log = structlog.get_logger()


SELDOM: Final = 10.0
"""Seconds between two looks for what only time brings, and not in a hurry: requests that lapse, reviews overdue."""


class Steward:
    """The rounds over all requests and grants."""

    def __init__(
        self,
        config: Config,
        store: Store,
        clock: Clock,
        emit: Emit,
        terms: Callable[[Grant], Terms | None] = lambda grant: None,
        *,
        withdrawn: Callable[[Grant], tuple[str, float] | None] = lambda _: None,
        counted: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`terms`: what a grant's policy file says now; `withdrawn`: why its policy is no more, and for how long
        (seconds) that must last; `counted`: an alert."""
        self._config = config
        self._terms = terms
        self._clock = clock
        self._withdrawn = withdrawn
        self._counted = counted
        self._gone: dict[str, float] = {}
        """Since when the policy of a grant is gone."""
        self._reminded: set[str] = set()
        self._seldom_at = 0.0
        self._open: list[Grant] = []
        """Grants that are not over yet, as they stood when the state was read: each moment may bring one further."""
        self._grants = Grants(store, clock, emit)
        self._people = People(store, clock, emit)
        self._reviews = Reviews(store, clock, emit)
        self._alerts = Alerts(store, clock, emit)
        self._requests = Requests(store, clock, emit, config.people.groups)
        self._stages = Stages(store, clock, emit)
        self._quiet = self._stages.quiet()
        self._checking = Checking(config, clock, Findings(store, clock, emit, config.people.groups))

    async def round(self) -> None:
        """Look at everything once. Raises StoreError, RecordError: the next round tries again."""
        quiet, seldom = self._quiet.holds(), self._clock.monotonic() >= self._seldom_at
        if seldom or not quiet:
            for request in await self._requests.lapse():
                log.info("request_lapsed", request=request.id)
            for id_ in await self._people.sweep():
                log.info("grant_of_disabled_person_ended", grant=id_)
        if not quiet:
            self._open = await self._stages.at("waiting", "active", "paused")
        for grant in self._open:
            await self._look_at(grant)
        await self._look_at_policies(self._open)
        if seldom:
            for grant in await self._reviews.overdue():
                await self._remind(grant)
            self._seldom_at = self._clock.monotonic() + SELDOM
        self._quiet.rest()

    async def _look_at_policies(self, grants: list[Grant]) -> None:
        """Ends the grants whose policy is gone for good."""
        now = self._clock.monotonic()
        found = {}
        for grant in grants:
            over = grant.state(self._clock.now(), self._terms(grant)) in {"expired", "revoked"}
            if not over and (withdrawn := self._withdrawn(grant)) is not None:
                why, seconds = withdrawn
                found[grant.id] = since = self._gone.get(grant.id, now)
                if now - since >= seconds:
                    await self._grants.revoke(grant.id, reason=why, by=BY, why="policy")
                    log.warning("grant_policy_withdrawn", grant=grant.id, reason=why)
        self._gone = found

    async def _remind(self, grant: Grant) -> None:
        if grant.id in self._reminded:
            return
        detail = {"grant": grant.id, "person": grant.person, "vendor": grant.vendor, "due": grant.review_due}
        if await self._alerts.once("review", grant.id, detail):
            self._counted("review")
            log.warning("review_overdue", grant=grant.id, due=str(grant.review_due))
        self._reminded.add(grant.id)

    async def _review_due(self, grant: Grant, ended: datetime) -> datetime:
        emergency = grant.request is not None and (await self._requests.get(grant.request)).break_glass
        glass = self._config.requests.break_glass
        soon = glass.review_within if emergency and glass is not None else None
        return due_at(ended, within=self._config.reviews.within, break_glass=soon)

    async def close(self) -> None:
        """Let go of what is still looked at."""
        await self._checking.close()

    async def _look_at(self, grant: Grant) -> None:
        self._checking.consider(grant)
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
            ended = min(grant.revoked_at or grant.expires_at, grant.expires_at)
            values = {"ended_at": ended, "ended_why": why, "review_due": await self._review_due(grant, ended)}
            detail = {"why": why, "reason": grant.revoke_reason} if grant.revoke_reason else {"why": why}
        if await self._stages.move(grant, after, detail=detail, **values):
            log.info("grant_" + after, grant=grant.id, **{key: str(value) for key, value in detail.items()})
