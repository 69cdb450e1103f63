"""What tests of requests share: somebody's wish, and a record that can be read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from proxy.access.model import Terms
from proxy.access.requests import Requests, Wish

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
GROUPS = {"owners": ["ann@shop.example", "bob@shop.example", "Cy@Shop.example"], "legal": ["lea@shop.example"]}


class Told(list[tuple[str, dict[str, Any]]]):
    """What `emit` was told."""

    def __call__(self, action: str, detail: dict[str, Any]) -> None:
        self.append((action, detail))

    def actions(self) -> list[str]:
        return [action for action, _ in self]


def wish(*, approvals: int = 1, approvers: tuple[str, ...] = (), **changes: Any) -> Wish:
    """A vendor's wish for four hours, under a policy that asks for `approvals` of `approvers`."""
    values: dict[str, Any] = {
        "person": "jo@vendor.example",
        "vendor": "Acme",
        "database": "app",
        "policy": "reader",
        "policy_revision": "ab" * 32,
        "policy_text": "name: reader\n",
        "terms": Terms(approvals=approvals, approvers=approvers),
        "purpose": "the monthly report",
        "length": 4 * HOUR,
    }
    return Wish(**values | changes)


async def ask(requests: Requests, **changes: Any) -> str:
    """Asks as the sponsor; the request's id."""
    overlap = changes.pop("overlap", False)
    made = await requests.create(wish(**changes), by="sam@shop.example", lapse=7 * DAY, overlap=overlap)
    return made.id
