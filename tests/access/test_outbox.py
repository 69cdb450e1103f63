"""The outbox: what is due for whom, in order, once; back-off, the end of patience, and what is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.outbox import Outbox, Standing, full_name, wait_after, wanted
from proxy.access.store import Store
from proxy.clock import FakeClock

DAY = 86_400


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def outbox(store: Store, clock: FakeClock) -> Outbox:
    return Outbox(store, clock)


async def happen(store: Store, clock: FakeClock, *actions: str, **detail: Any) -> None:
    for action in actions:
        async with store.write() as connection:
            await steps.take(connection, lambda _a, _d: None, clock.now(), action, {"by": "ann"} | detail)


async def actions(outbox: Outbox, sink: str, *globs: str) -> list[str]:
    return [step.action for step in await outbox.due(sink, globs or ("*",))]


@pytest.mark.parametrize(
    ("glob", "action", "told"),
    [
        ("*", "created", True),
        ("grant.*", "revoked", True),
        ("revoked", "revoked", True),
        ("grant.revoked", "revoked", True),
        ("grant.*", "request.created", False),
        ("request.*", "request.created", True),
        ("created", "request.created", False),
        ("alert.*", "alert.sharing", True),
        ("Grant.*", "revoked", False),
    ],
)
def test_globs_of_names(glob: str, action: str, told: bool) -> None:
    assert wanted([glob], action) is told
    assert full_name("revoked") == "grant.revoked"


async def test_a_new_sink_hears_what_happens_from_then_on(outbox: Outbox, store: Store, clock: FakeClock) -> None:
    await happen(store, clock, "request.created")
    assert await actions(outbox, "chat") == []
    await happen(store, clock, "request.approved", "created")
    assert await actions(outbox, "chat") == ["request.approved", "grant.created"]
    assert await actions(outbox, "chat") == ["request.approved", "grant.created"], "until it is delivered"


async def test_each_sink_its_own(outbox: Outbox, store: Store, clock: FakeClock) -> None:
    for sink in ("chat", "mail"):
        await actions(outbox, sink)
    await happen(store, clock, "request.created", "alert.sharing", "revoked")
    assert await actions(outbox, "mail", "alert.*") == ["alert.sharing"]
    for step in await outbox.due("chat", ["*"]):
        await outbox.delivered(step, "chat")
    assert await actions(outbox, "chat") == []
    assert await actions(outbox, "mail", "alert.*") == ["alert.sharing"]
    assert await outbox.standing("chat") == Standing(clock.now(), 0, 0, None)
    assert await outbox.standing("mail") == Standing(None, 1, 0, None)
    assert await outbox.standing("new") == Standing(None, 0, 0, None)


async def test_more_than_at_once_come_in_order(outbox: Outbox, store: Store, clock: FakeClock) -> None:
    await actions(outbox, "chat")
    async with store.write() as connection:
        rows = [{"at": clock.now(), "action": f"x.{n}", "detail": '{"by": "ann"}'} for n in range(1203)]
        await connection.execute(tables.steps.insert(), rows)
    seen: list[str] = []
    while due := await outbox.due("chat", ["*"], limit=400):
        for step in due:
            seen.append(step.action)
        async with store.write() as connection:
            done = tables.deliveries.c.step.in_([step.id for step in due])
            await connection.execute(sa.update(tables.deliveries).where(done).values(done_at=clock.now()))
    assert seen == [f"x.{n}" for n in range(1203)]


@pytest.mark.thorough
async def test_back_off_second_by_second_until_a_day_is_over(outbox: Outbox, store: Store, clock: FakeClock) -> None:
    await actions(outbox, "chat")
    await happen(store, clock, "revoked")
    tries, last = 0, clock.now()
    while due := await outbox.due("chat", ["*"]):
        tries += 1
        given_up = await outbox.failed(due[0], "chat", f"refused {tries}" + "x" * 1000)
        standing = await outbox.standing("chat")
        if given_up:
            assert (standing.backlog, standing.given_up, standing.error) == (0, 1, None)
            break
        assert standing.error is not None
        assert standing.error.startswith(f"refused {tries}")
        wait = wait_after(tries)
        clock.advance(wait - 1)
        assert await outbox.due("chat", ["*"]) == []
        clock.advance(1)
    assert [wait_after(n) for n in (1, 2, 3, 8, 9, 10, 5000)] == [1, 2, 4, 128, 256, 300, 300]
    assert DAY <= (clock.now() - last).total_seconds() <= DAY + 300
    assert await outbox.due("chat", ["*"]) == []


async def test_of_a_dead_sink_only_what_is_a_day_old_is_given_up(
    outbox: Outbox, store: Store, clock: FakeClock
) -> None:
    await actions(outbox, "chat")
    await happen(store, clock, "request.created", "request.denied")
    await actions(outbox, "chat")
    clock.advance(DAY)
    await happen(store, clock, "revoked")
    assert len(await actions(outbox, "chat")) == 3
    assert await outbox.give_up("chat", "gone") == 2
    assert await outbox.give_up("chat", "gone") == 0
    assert await actions(outbox, "chat") == ["grant.revoked"]
    assert (await outbox.standing("chat")).given_up == 2


async def test_old_steps_are_forgotten_once_they_were_told(outbox: Outbox, store: Store, clock: FakeClock) -> None:
    await actions(outbox, "chat")
    await happen(store, clock, "request.created", "revoked")
    told, _waits = await outbox.due("chat", ["*"])
    await outbox.delivered(told, "chat")
    clock.advance(30 * DAY - 1)
    assert await outbox.prune(["chat"]) == 0
    clock.advance(1)
    assert await outbox.prune(["chat"]) == 1
    assert await actions(outbox, "chat") == ["grant.revoked"], "what waits stays"
    assert await outbox.prune(["chat", "never seen"]) == 0
    async with store.read() as connection:
        assert len((await connection.execute(sa.select(tables.deliveries))).all()) == 1


async def test_a_number_is_never_given_twice(outbox: Outbox, store: Store, clock: FakeClock) -> None:
    await actions(outbox, "chat")
    await happen(store, clock, "request.created", "revoked")
    clock.advance(31 * DAY)
    await outbox.due("chat", ["x"])
    assert await outbox.prune([]) == 1
    await happen(store, clock, "created")
    async with store.read() as connection:
        assert list((await connection.execute(sa.select(tables.steps.c.id))).scalars()) == [2, 3]


async def test_what_happened_and_was_not_entered_yet_is_not_forgotten(
    outbox: Outbox, store: Store, clock: FakeClock
) -> None:
    await actions(outbox, "chat")
    await happen(store, clock, "request.created", "revoked")
    clock.advance(31 * DAY)
    assert await outbox.prune(["chat"]) == 0
    assert await actions(outbox, "chat") == ["request.created", "grant.revoked"]
