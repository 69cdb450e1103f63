"""Rounds of telling, against real servers: a sink away for ten minutes loses nothing and hears nothing twice by id."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
import structlog.testing

from proxy.access import steps, tables
from proxy.access.outbox import Outbox
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.config_notify import Notify
from proxy.server.metrics import NoticeCounts
from proxy.server.notify import Notifier
from tests.server.sinks import Hook


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path}/state.db")
    yield opened
    await opened.close()


class Telling:
    """A notifier and what it counted."""

    def __init__(self, store: Store, clock: FakeClock, **sinks: dict[str, Any]) -> None:
        self.store, self.clock, self.counts = store, clock, NoticeCounts()
        shapes = {name: Notify.model_validate({"timeout": "3s", **values}) for name, values in sinks.items()}
        self.outbox = Outbox(store, clock)
        self.notifier = Notifier(shapes, self.outbox, clock, "0a1b2c3d", self.counts)

    async def round(self) -> None:
        for name in self.notifier.sinks:
            await self.notifier.round(name)

    async def happen(self, *actions: str) -> None:
        for action in actions:
            async with self.store.write() as connection:
                detail = {"by": "ann", "grant": "g-7k3m9x2q"}
                await steps.take(connection, lambda _a, _d: None, self.clock.now(), action, detail)


def heard(hook: Hook) -> list[str]:
    return [got.data["action"] for got in hook.got]


async def test_each_hears_what_it_wants_in_order(store: Store, clock: FakeClock) -> None:
    with Hook() as chat, Hook() as alarm:
        telling = Telling(
            store, clock, chat={"webhook": chat.url}, alarm={"webhook": alarm.url, "events": ["alert.*", "revoked"]}
        )
        await telling.round()
        await telling.happen("request.created", "created", "alert.sharing", "revoked")
        await telling.round()
        await telling.round()
    assert heard(chat) == ["request.created", "grant.created", "alert.sharing", "grant.revoked"]
    assert heard(alarm) == ["alert.sharing", "grant.revoked"]
    assert (telling.counts.delivered, telling.counts.backlog) == ({"chat": 4, "alarm": 2}, {"chat": 0, "alarm": 0})


async def test_away_for_ten_minutes(store: Store, clock: FakeClock) -> None:
    with Hook() as hook:
        telling = Telling(store, clock, chat={"webhook": hook.url})
        await telling.round()
        await telling.happen("request.created")
        await telling.round()
    for second in range(0, 600, 4):
        clock.advance(4)
        if second % 60 == 0:
            await telling.happen(f"request.n{second}")
        await telling.round()
    tries = telling.counts.failed["chat"]
    assert tries <= 12, "it is left alone for longer and longer"
    assert 1 <= telling.counts.backlog["chat"] <= 10
    with Hook(port=hook.port) as again:
        for _ in range(60):
            clock.advance(5)
            await telling.round()
    assert heard(again) == [f"request.n{second}" for second in range(0, 600, 60)]
    ids = [got.data["id"] for got in [*hook.got, *again.got]]
    assert len(set(ids)) == len(ids) == 11
    assert telling.counts.given_up == {}


async def test_what_was_heard_and_not_noted_is_told_again_under_the_same_id(store: Store, clock: FakeClock) -> None:
    """The leader dies between the answer and its note of it."""
    with Hook() as hook:
        telling = Telling(store, clock, chat={"webhook": hook.url})
        await telling.round()
        await telling.happen("revoked")
        await telling.round()
        async with store.write() as connection:
            await connection.execute(sa.update(tables.deliveries).values(done_at=None))
        await telling.round()
    first, second = hook.got
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == first.data["id"]
    assert first.body == second.body


async def test_one_that_is_not_wanted_does_not_hold_up_the_others(store: Store, clock: FakeClock) -> None:
    with Hook(answer=400) as hook:
        telling = Telling(store, clock, chat={"webhook": hook.url})
        await telling.round()
        await telling.happen("request.created", "revoked")
        await telling.round()
        assert heard(hook) == ["request.created", "grant.revoked"]
        hook.answer = 200
        await telling.happen("created")
        await telling.round()
        assert heard(hook)[2:] == ["grant.created"]
        clock.advance(1)
        await telling.round()
        assert heard(hook)[3:] == ["request.created", "grant.revoked"]


async def test_given_up_after_a_day_and_loudly(store: Store, clock: FakeClock) -> None:
    telling = Telling(store, clock, chat={"command": ["/no/such/program"]})
    await telling.round()
    await telling.happen("request.created", "revoked")
    for _ in range(24):
        await telling.round()
        assert telling.counts.given_up == {}
        clock.advance(3600)
    with structlog.testing.capture_logs() as logged:
        await telling.round()
    assert telling.counts.given_up == {"chat": 2}
    assert telling.counts.backlog == {"chat": 0}
    assert "notice_given_up" in {line["event"] for line in logged}


async def test_a_slow_sink_is_no_other_sinks_trouble_and_nobodys_access(store: Store, clock: FakeClock) -> None:
    with Hook(delay=threading.Event()) as slow:
        telling = Telling(store, clock, slow={"webhook": slow.url, "timeout": "200ms"})
        await telling.round()
        await telling.happen("revoked")
        await telling.round()
        async with store.write() as connection:  # nothing is held while a sink is waited for
            await connection.execute(sa.select(tables.steps))
        assert telling.counts.failed == {"slow": 1}


async def test_old_steps_are_forgotten_once_an_hour(store: Store, clock: FakeClock) -> None:
    telling = Telling(store, clock)
    await telling.happen("request.created", "revoked")
    clock.advance(31 * 86_400)
    await telling.notifier.prune()
    async with store.read() as connection:
        (left,) = (await connection.execute(sa.select(tables.steps.c.detail))).scalars()
    assert json.loads(left)["by"] == "ann"


def test_numbers_for_whoever_watches() -> None:
    counts = NoticeCounts(delivered={"chat": 3}, failed={"chat": 1}, given_up={}, backlog={"chat": 2})
    values = {family.name: family.values for family in counts.families()}
    assert values["daypass_notices_delivered"] == {"chat": 3}
    assert values["daypass_notices_waiting"] == {"chat": 2.0}
