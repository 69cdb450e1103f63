"""Ends the sessions whose agreement has a new text: no acceptance, no statement; the next login signs it.

Which sessions need an agreement is only looked for when sessions have begun or policies were read, so that a crowd
that needs none costs nothing. Invariant: a text that cannot be read now ends nobody.
"""

from __future__ import annotations

import contextlib

import structlog

from proxy.access.agreements import Agreements
from proxy.access.store import StoreError
from proxy.session.judging import Bench
from proxy.session.refusals import LoginRefused, refusal
from proxy.session.registry import Registry, Session

log = structlog.get_logger()


class Renewing:
    """The rounds over the open sessions of one process."""

    def __init__(self, registry: Registry, bench: Bench, agreements: Agreements) -> None:
        self._registry = registry
        self._bench = bench
        self._agreements = agreements
        self._needy: list[tuple[Session, tuple[str, ...]]] = []
        """The sessions that need agreements, and the names of these."""
        self._as_of = (-1, -1)
        """How many sessions and how many readings of the policies there had been then."""

    async def round(self) -> None:
        """Look at everything once; without the state it is left for the next round."""
        as_of = (self._registry.added, self._bench.loads)
        if as_of != self._as_of:
            self._needy, self._as_of = self._look(), as_of
        needy = self._needy = [(session, names) for session, names in self._needy if not session.relay.ended]
        if not needy:
            return
        try:
            new = await self._agreements.renewed(
                (session.grant.person, name) for session, names in needy for name in names
            )
        except StoreError as problem:
            log.error("agreements_unavailable", reason=str(problem))
            return
        for session, names in needy:
            texts = [new[key] for name in names if (key := (session.grant.person, name)) in new]
            if texts:
                titles = ", ".join(text.title for text in texts)
                log.warning("agreement_renewed", session=session.id, grant=session.grant.id, agreements=titles)
                session.finish(refusal("agreement", grant=session.grant.id, names=titles), f"not accepted: {titles}")

    def _look(self) -> list[tuple[Session, tuple[str, ...]]]:
        found = []
        for session in self._registry:
            with contextlib.suppress(LoginRefused):
                names = self._bench.agreements(session.grant)
                if names and not session.signing:
                    found.append((session, names))
        return found
