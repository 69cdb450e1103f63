"""Covers proxy/access/quiet.py, and the rounds that it leaves out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.access import steps
from proxy.access.alerts import Alerts
from proxy.access.grants import Grants
from proxy.access.model import Grant
from proxy.access.outbox import Outbox
from proxy.access.quiet import Quiet
from proxy.access.removals import Finding, Removals
from proxy.access.stages import Stages
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.config import Config
from proxy.config_notify import Notify
from proxy.server.metrics import NoticeCounts
from proxy.server.notify import Notifier
from proxy.session.removal import Removal
from proxy.session.steward import Steward
from tests.access.test_grants import WISH
from tests.session.test_removal import CONFIG


def told(_action: str, _detail: dict[str, Any]) -> None:
    pass


class Counted(Store):
    """A store that counts how often it was asked."""

    asked = 0

    def read(self) -> Any:
        self.asked += 1
        return super().read()

    def since(self) -> int:
        """How often since the last call."""
        asked, self.asked = self.asked, 0
        return asked


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Counted]:
    opened = await Counted.open(f"sqlite:///{tmp_path}/state.db")
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> FakeClock:
    """Hours after the file was written, as far as its time tells."""
    return FakeClock(datetime.now(UTC) + timedelta(hours=1))


async def test_it_holds_until_somebody_writes(store: Counted, clock: FakeClock) -> None:
    quiet = Quiet(store, clock)
    assert not quiet.holds(), "nobody has said yet that there is nothing to do"
    quiet.rest()
    assert quiet.holds()
    await Grants(store, clock).create(**WISH)
    assert not quiet.holds()
    assert not quiet.holds(), "asked, but not told that all was done"
    quiet.rest()
    assert quiet.holds()


async def test_what_is_written_during_a_round_is_seen_by_the_next(store: Counted, clock: FakeClock) -> None:
    quiet = Quiet(store, clock)
    assert not quiet.holds()
    await Grants(store, clock).create(**WISH)
    quiet.rest()
    assert not quiet.holds()


async def test_a_file_that_was_written_this_very_moment_is_asked(store: Counted) -> None:
    clock = FakeClock(datetime.now(UTC) - timedelta(hours=1))
    quiet = Quiet(store, clock)
    assert not quiet.holds()
    quiet.rest()
    assert not quiet.holds()


async def test_the_steward_asks_nothing_of_an_idle_state_but_follows_open_grants(
    store: Counted, clock: FakeClock
) -> None:
    steward = Steward(Config.model_validate(CONFIG), store, clock, told)
    await steward.round()
    await steward.round()
    store.since()
    await steward.round()
    assert store.since() == 0
    clock.advance(10)
    await steward.round()
    assert store.since() > 0, "requests may have lapsed, reviews be due"
    grant, _ = await Grants(store, clock).create(**WISH)
    await steward.round()
    assert (await Grants(store, clock).get(grant.id)).stage == "active"
    clock.advance((grant.expires_at - clock.now()).total_seconds() + 1)
    await steward.round()
    assert (await Grants(store, clock).get(grant.id)).stage == "ended", "nobody wrote, but time has passed"


class Nothing:
    async def look(self, grant: Grant, wanted: tuple[str, ...]) -> dict[str, Finding]:
        return {proof: Finding(False, "not yet") for proof in wanted}


async def test_removal_goes_on_while_something_is_to_be_proven(store: Counted, clock: FakeClock) -> None:
    stages, removals, alerts = Stages(store, clock, told), Removals(store, clock, told), Alerts(store, clock, told)
    removal = Removal(stages, removals, alerts, Nothing(), clock)
    await removal.round()
    store.since()
    await removal.round()
    assert store.since() == 0
    grants = Grants(store, clock)
    grant, _ = await grants.create(**WISH)
    await grants.revoke(grant.id, reason="done", by="root")
    await Steward(Config.model_validate(CONFIG), store, clock, told).round()
    for _ in range(3):
        clock.advance(1)
        store.since()
        await removal.round()
        assert removal.pending == 1
        assert store.since() > 0


async def test_a_sink_is_not_asked_for_while_nothing_happens(store: Counted, clock: FakeClock) -> None:
    sink = Notify.model_validate({"command": ["false"]})
    counts = NoticeCounts()
    notifier = Notifier({"ops": sink}, Outbox(store, clock), clock, "0a1b2c3d", counts)
    await notifier.round("ops")
    await notifier.round("ops")
    store.since()
    await notifier.round("ops")
    assert store.since() == 0
    async with store.write() as connection:
        await steps.take(connection, told, clock.now(), "request.created", {"by": "ann"})
    await notifier.round("ops")
    assert counts.backlog == {"ops": 1}
    clock.advance(400)
    store.since()
    await notifier.round("ops")
    assert store.since() > 0, "the sink failed: what waits is tried again"
