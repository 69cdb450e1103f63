"""One process looks after its clock, round by round: what it keeps, says, and believes again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.access.store import Store
from proxy.access.timekeeping import Steady, TimeFacts
from proxy.session.commons import Commons
from proxy.session.registry import Registry
from proxy.session.timekeeper import Timekeeper
from tests.session.playbook import Playbook
from tests.session.test_registry import a_session


class House:
    """A state, a clock and the sessions of one process."""

    def __init__(self, store: Store, play: Playbook, folder: Path) -> None:
        self.play = play
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.steady = Steady(play.clock, boot="b")
        self.registry = Registry(self.steady, Commons(folder / "run"))
        self.facts = TimeFacts(store, play.clock, lambda action, detail: self.told.append((action, detail)))
        self.keeper = Timekeeper(self.steady, self.facts, self.registry, "b")

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.told]

    async def rounds(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.keeper.round()
            self.registry.tick()
            self.play.clock.advance(1)


@pytest_asyncio.fixture
async def house(play: Playbook, tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    yield House(store, play, tmp_path)
    await store.close()


async def test_the_highest_time_is_kept_every_minute(house: House) -> None:
    began = house.play.clock.now()
    await house.rounds(1)
    assert (await house.facts.read()).highest == began
    await house.rounds(59)
    assert (await house.facts.read()).highest == began
    await house.rounds(2)
    assert (await house.facts.read()).highest == began + timedelta(seconds=60)
    assert house.told == []


@pytest.mark.parametrize("step", [7200.0, -7200.0])
async def test_a_step_alerts_once_and_open_sessions_go_on_to_their_end(house: House, step: float) -> None:
    a_session(house.play, house.registry, seconds=1000)
    await house.rounds(10)
    house.play.clock.step_wall(step)
    await house.rounds(200)
    assert house.actions == ["alert.clock"]
    assert house.told[0][1]["seconds"] == step
    assert not house.play.relay.ended
    house.play.clock.step_wall(-step)
    await house.rounds(2)
    assert house.actions == ["alert.clock", "clock.agreed"]
    await house.rounds(787)
    assert not house.play.relay.ended
    await house.rounds(3)
    assert house.play.relay.reason == "expired"


@pytest.mark.parametrize(("step", "ends"), [(7200.0, True), (-7200.0, False)])
async def test_what_an_operator_accepts_is_believed_within_a_round(house: House, step: float, ends: bool) -> None:
    a_session(house.play, house.registry, seconds=3600)
    await house.rounds(10)
    house.play.clock.step_wall(step)
    await house.rounds(2)
    await house.facts.accept(by="olga", reason="that is the time")
    await house.rounds(2)
    assert house.steady.apart() == 0
    assert house.steady.now() == house.play.clock.now()
    assert house.play.relay.ended is ends
    assert house.actions == ["alert.clock", "clock.accepted"]
    house.play.clock.step_wall(step)
    await house.rounds(2)
    assert house.steady.apart() == step, "one acceptance is for one step"


async def test_an_acceptance_of_another_machine_s_clock_is_not_for_this_one(house: House) -> None:
    await house.rounds(2)
    house.play.clock.step_wall(7200)
    await house.rounds(2)
    house.play.clock.step_wall(-7000)  # there
    await house.facts.accept(by="olga", reason="that is the time")
    house.play.clock.step_wall(7000)
    await house.rounds(2)
    assert house.steady.apart() == 7200


async def test_an_acceptance_from_before_a_step_is_not_for_it(house: House) -> None:
    await house.facts.accept(by="olga", reason="all is well")
    await house.rounds(7200)
    house.play.clock.step_wall(-7200)
    await house.rounds(2)
    assert house.steady.apart() == -7200


async def test_a_process_that_does_not_lead_says_nothing_and_learns(house: House, tmp_path: Path) -> None:
    assert house.registry.commons.leads()
    other = Registry(house.steady, Commons(tmp_path / "run"))
    assert not other.commons.leads()
    second = Timekeeper(house.steady, house.facts, other, "b")
    house.play.clock.step_wall(7200)
    await second.round()
    assert house.told == []
    await house.facts.accept(by="olga", reason="right")
    await second.round()
    assert house.steady.apart() == 0


async def test_an_expired_grant_s_session_ends_when_a_later_time_is_accepted(house: House) -> None:
    session = a_session(house.play, house.registry, seconds=3600)
    session.grant = replace(session.grant, expires_at=session.grant.expires_at)
    house.play.clock.step_wall(4000)
    await house.rounds(1)
    assert not house.play.relay.ended
    await house.facts.accept(by="olga", reason="right")
    await house.rounds(2)
    assert house.play.relay.reason == "expired"
