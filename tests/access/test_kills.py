"""Kills: taken once, by who has the session, or taken back; never both."""

from __future__ import annotations

import asyncio

import pytest

from proxy.access.grants import GrantError
from proxy.access.kills import KEPT, Kills
from proxy.access.store import Store
from proxy.clock import FakeClock


async def test_a_kill_is_taken_once_by_who_has_the_session(store: Store) -> None:
    kills = Kills(store, FakeClock())
    asked = await kills.ask("s-1", reason="wrong table", by="olga")
    assert await kills.take({"s-2"}) == []
    assert not await kills.taken(asked)
    both = await asyncio.gather(kills.take({"s-1", "s-2"}), kills.take({"s-1"}))
    (kill,) = [kill for found in both for kill in found]
    assert (kill.session, kill.reason, kill.by) == ("s-1", "wrong table", "olga")
    assert await kills.taken(asked)
    assert not await kills.take_back(asked)
    assert await kills.take({"s-1"}) == []


async def test_a_kill_that_was_taken_back_happens_no_more(store: Store) -> None:
    kills = Kills(store, FakeClock())
    asked = await kills.ask("s-1", reason="r", by="b")
    assert await kills.take_back(asked)
    assert await kills.take({"s-1"}) == []
    assert not await kills.taken(asked)


async def test_old_ones_go(store: Store) -> None:
    clock = FakeClock()
    kills = Kills(store, clock)
    await kills.ask("s-1", reason="r", by="b")
    clock.advance(KEPT.total_seconds() + 1)
    await kills.ask("s-2", reason="r", by="b")
    assert [kill.session for kill in await kills.take({"s-1", "s-2"})] == ["s-2"]


async def test_a_reason_is_a_line_of_text(store: Store) -> None:
    with pytest.raises(GrantError, match="reason must not be empty"):
        await Kills(store, FakeClock()).ask("s-1", reason=" ", by="b")
