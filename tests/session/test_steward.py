"""The steward's rounds: each second of a grant and of a request, and what a round leaves for the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.access.grants import Grants
from proxy.access.model import Grant
from proxy.access.requests import Requests
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.config import load
from proxy.session.steward import Steward
from tests.access.wishes import GROUPS, HOUR, Told, ask

BASE = """listen: {tls: {mode: disable}}
databases: {app: {host: 127.0.0.1, tls: disable, credential: {mode: shared, user: u}}}
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path}/state.db")
    yield opened
    await opened.close()


@pytest.fixture
def steward(tmp_path: Path, store: Store, clock: FakeClock, told: Told) -> Steward:
    (tmp_path / "config.yaml").write_text(BASE)
    return Steward(load(tmp_path / "config.yaml"), store, clock, told)


async def make(store: Store, clock: FakeClock, **changes: Any) -> Grant:
    wish: dict[str, Any] = {
        "person": "jo@vendor.example", "vendor": "Acme", "database": "app", "policy": "reader",
        "policy_revision": "ab" * 32, "policy_text": "", "reason": "r", "length": HOUR, "created_by": "root",
    }  # fmt: skip
    return (await Grants(store, clock).create(**wish | changes))[0]


async def test_second_by_second_over_a_grant(steward: Steward, store: Store, clock: FakeClock, told: Told) -> None:
    grant = await make(store, clock, starts_at=clock.now() + timedelta(seconds=3), length=timedelta(seconds=4))
    seen = []
    for _ in range(10):
        await steward.round()
        await steward.round()  # a second round in the same second has nothing to do
        seen.append((await Grants(store, clock).get(grant.id)).stage)
        clock.advance(1)
    assert seen[:7] == ["waiting"] * 3 + ["active"] * 4
    assert seen[7] in {"ended", "removed"}
    assert told.actions()[:2] == ["active", "ended"]
    assert told[1][1]["why"] == "expired"
    over = await Grants(store, clock).get(grant.id)
    assert over.ended_at == grant.expires_at, "when it ended, and not when somebody looked"


async def test_a_revoked_grant_ends_with_its_reason(
    steward: Steward, store: Store, clock: FakeClock, told: Told
) -> None:
    grant = await make(store, clock)
    clock.advance(5)
    await Grants(store, clock).revoke(grant.id, reason="left the vendor", by="ann", why="person")
    clock.advance(5)
    await steward.round()
    ended = next(detail for action, detail in told if action == "ended")
    assert (ended["why"], ended["reason"], ended["by"]) == ("person", "left the vendor", "daypass")
    assert (await Grants(store, clock).get(grant.id)).ended_at == clock.now() - timedelta(seconds=5)


async def test_after_a_long_silence_all_is_made_up_for(
    steward: Steward, store: Store, clock: FakeClock, told: Told
) -> None:
    """Every step that it missed is taken: a grant that nobody saw begin has begun all the same."""
    requests = Requests(store, clock, told, GROUPS)
    lost = await ask(requests, person="other@vendor.example")
    grant = await make(store, clock, starts_at=clock.now() + HOUR)
    clock.advance(30 * 86_400)
    for _ in range(3):
        await steward.round()
    assert told.actions()[:3] == ["request.created", "request.lapsed", "ended"]
    assert (await requests.get(lost)).state == "lapsed"
    assert (await Grants(store, clock).get(grant.id)).ended_at == grant.expires_at


async def test_a_step_that_cannot_be_recorded_waits_for_the_next_round(
    tmp_path: Path, steward: Steward, store: Store, clock: FakeClock, told: Told
) -> None:
    grant = await make(store, clock)
    clock.advance(3600)

    def full(action: str, detail: dict[str, Any]) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        await Steward(load(tmp_path / "config.yaml"), store, clock, full).round()
    assert (await Grants(store, clock).get(grant.id)).stage == "active"
    await steward.round()
    assert told.actions()[0] == "ended"
