"""The stages of grants: along the table, once, with their record; and what time makes of each second.

Covers proxy/access/steps.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from datetime import datetime, timedelta
from typing import Any, get_args

import pytest
import sqlalchemy as sa

from proxy.access import steps, tables
from proxy.access.grants import Grants
from proxy.access.model import STEPS, Grant, IllegalStep, Stage, check_step
from proxy.access.stages import Stages, due
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.wishes import HOUR, Told

ALL: tuple[Stage, ...] = get_args(Stage)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def stages(store: Store, clock: FakeClock, told: Told) -> Stages:
    return Stages(store, clock, told)


async def make(store: Store, clock: FakeClock, **changes: Any) -> Grant:
    wish: dict[str, Any] = {
        "person": "jo@vendor.example", "vendor": "Acme", "database": "app", "policy": "reader",
        "policy_revision": "ab" * 32, "policy_text": "", "reason": "r", "length": HOUR, "created_by": "root",
    }  # fmt: skip
    return (await Grants(store, clock).create(**wish | changes))[0]


async def test_a_step_is_recorded_and_kept(store: Store, clock: FakeClock, told: Told) -> None:
    detail = {"by": "ann", "until": clock.now() + HOUR, "person": "Zoë"}
    async with store.write() as connection:
        await steps.take(connection, told, clock.now(), "hold.asked", detail)
    plain = {"by": "ann", "until": "2026-01-05T10:00:00.000000Z", "person": "Zoë"}
    assert told == [("hold.asked", plain)]
    async with store.read() as connection:
        row = (await connection.execute(sa.select(tables.steps))).one()
    assert (row.at, row.action, json.loads(row.detail)) == (clock.now(), "hold.asked", plain)


async def test_a_step_that_is_undone_is_not_kept(store: Store, clock: FakeClock, told: Told) -> None:
    async def stumble() -> None:
        async with store.write() as connection:
            await steps.take(connection, told, clock.now(), "hold.asked", {"by": "ann"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stumble()
    async with store.read() as connection:
        assert (await connection.execute(sa.select(tables.steps))).all() == []


def test_the_table_is_closed_and_ends() -> None:
    assert set(STEPS) == set(ALL)
    for before, after in itertools.product(ALL, ALL):
        if after in STEPS[before]:
            check_step(before, after)
        else:
            with pytest.raises(IllegalStep, match=f"{before} does not lead to {after}"):
                check_step(before, after)
    ends = {stage for stage in ALL if not STEPS[stage]}
    assert ends == {"denied", "withdrawn", "lapsed", "reviewed"}


async def test_one_step_after_the_other(store: Store, clock: FakeClock, stages: Stages, told: Told) -> None:
    grant = await make(store, clock)
    for after in ("paused", "active", "ended", "removed", "reviewed"):
        (grant,) = await stages.at("active", "paused", "ended", "removed")
        with pytest.raises(IllegalStep):
            await stages.move(grant, "requested")
        assert await stages.move(grant, after, detail={"why": "test"})
    assert [one.id for one in await stages.at("reviewed")] == [grant.id]
    assert told.actions() == ["paused", "active", "ended", "removed", "reviewed"]
    assert told[0][1] == {"grant": grant.id, "by": "daypass", "person": grant.person, "before": "active", "why": "test"}


async def test_who_looked_before_somebody_else_moved_it_moves_nothing(
    store: Store, clock: FakeClock, stages: Stages, told: Told
) -> None:
    seen = await make(store, clock)
    await Grants(store, clock).revoke(seen.id, reason="x", by="ann")
    assert not await stages.move(seen, "paused")
    assert told == []


async def test_of_many_at_the_same_moment_one_moves_it(url: str, store: Store, clock: FakeClock, told: Told) -> None:
    grant = await make(store, clock)
    stores = [await Store.open(url) for _ in range(4)]
    moved = await asyncio.gather(*(Stages(each, clock, told).move(grant, "ended") for each in stores))
    for each in stores:
        await each.close()
    assert sorted(moved) == [False, False, False, True]
    assert told.actions() == ["ended"]


async def test_what_cannot_be_recorded_is_no_step(store: Store, clock: FakeClock) -> None:
    grant = await make(store, clock)

    def full(action: str, detail: dict[str, Any]) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        await Stages(store, clock, full).move(grant, "ended")
    assert await Grants(store, clock).get(grant.id) == grant


def moment(grant: Grant, seconds: float) -> datetime:
    return grant.starts_at + timedelta(seconds=seconds)


async def test_second_by_second(store: Store, clock: FakeClock) -> None:
    grant = await make(store, clock, starts_at=clock.now() + HOUR)
    assert grant.stage == "waiting"
    assert [due(grant, moment(grant, s)) for s in (-1, 0, 1, 3599, 3600)] == [
        None, "active", "active", "active", "ended",
    ]  # fmt: skip
    active = dataclasses.replace(grant, stage="active")
    assert [due(active, moment(grant, s)) for s in (0, 3599, 3600, 10_000)] == [None, None, "ended", "ended"]
    revoked = dataclasses.replace(active, revoked_at=moment(grant, 5))
    assert due(revoked, moment(grant, 5)) == "ended"
    for stage in ("ended", "removed", "reviewed"):
        over = dataclasses.replace(revoked, stage=stage)
        assert due(over, moment(grant, 10_000)) is None
