"""A token for one session: one login of many uses it up, a failed one gives it back, another token is another one.

Covers proxy/access/tokens.py and proxy/access/alerts.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from proxy.access.alerts import Alerts
from proxy.access.grants import Grants
from proxy.access.model import Grant, Terms
from proxy.access.store import Store
from proxy.access.tokens import Tokens, TokenUsed
from proxy.clock import FakeClock
from proxy.scram import Verifier
from tests.access.test_grants import WISH, Told


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def once(store: Store, clock: FakeClock, **more: Any) -> tuple[Grant, Verifier]:
    grants = Grants(store, clock)
    grant, _ = await grants.create(**WISH, terms=Terms(single_use=True), **more)
    return grant, (await grants.login(grant.id))[1]


async def test_the_first_session_uses_it_up(store: Store, clock: FakeClock, told: Told) -> None:
    tokens = Tokens(store, clock, told)
    grant, verifier = await once(store, clock)
    await tokens.refuse_used(grant)
    async with tokens.using(grant, verifier, "203.0.113.7"):
        assert await tokens.used_at(grant.id) == clock.now(), "before the client hears of it"
    with pytest.raises(TokenUsed):
        await tokens.refuse_used(grant)
    with pytest.raises(TokenUsed):
        async with tokens.using(grant, verifier, "203.0.113.7"):
            raise AssertionError("a second session")
    assert [action for action, _ in told] == ["token.used"]
    assert told[0][1] == {"grant": grant.id, "by": grant.person, "address": "203.0.113.7"}


async def test_a_session_that_cannot_be_opened_gives_it_back(store: Store, clock: FakeClock, told: Told) -> None:
    tokens = Tokens(store, clock, told)
    grant, verifier = await once(store, clock)
    for problem in (ValueError("no record"), asyncio.CancelledError()):
        with pytest.raises(type(problem)):
            async with tokens.using(grant, verifier, ""):
                raise problem
        assert await tokens.used_at(grant.id) is None
    assert [action for action, _ in told] == ["token.used", "token.returned"] * 2
    async with tokens.using(grant, verifier, ""):
        pass


async def test_of_many_at_once_one_gets_in(store: Store, url: str, clock: FakeClock, told: Told) -> None:
    other = await Store.open(url)
    grant, verifier = await once(store, clock)
    opened = []

    async def log_in(tokens: Tokens) -> None:
        async with tokens.using(grant, verifier, ""):
            opened.append(grant.id)

    crowd = [log_in(Tokens(one, clock, told)) for one in (store, other) for _ in range(5)]
    found = await asyncio.gather(*crowd, return_exceptions=True)
    await other.close()
    assert len(opened) == 1
    assert sum(isinstance(answer, TokenUsed) for answer in found) == 9


async def test_a_new_token_is_good_for_one_more(store: Store, clock: FakeClock, told: Told) -> None:
    tokens, grants = Tokens(store, clock, told), Grants(store, clock)
    grant, verifier = await once(store, clock)
    async with tokens.using(grant, verifier, ""):
        pass
    await grants.rotate(grant.id, by="root")
    with pytest.raises(TokenUsed):  # a proof of the old one that was on its way
        async with tokens.using(grant, verifier, ""):
            raise AssertionError("an old token")
    async with tokens.using(grant, (await grants.login(grant.id))[1], ""):
        pass


async def test_other_tokens_are_not_used_up(store: Store, clock: FakeClock, told: Told) -> None:
    grants = Grants(store, clock)
    grant, _ = await grants.create(**WISH)
    for _ in range(2):
        async with Tokens(store, clock, told).using(grant, (await grants.login(grant.id))[1], ""):
            pass
    assert told == []


def test_seats_are_the_smaller_of_policy_and_terms(clock: FakeClock) -> None:
    grant = Grant("g", "", "", "", "", "", "", "", None, clock.now(), "", clock.now(), clock.now(), None, None)
    assert grant.seats(None) is None
    assert grant.seats(3) == 3
    narrow = dataclasses.replace(grant, terms=Terms(max_sessions=2))
    assert (narrow.seats(None), narrow.seats(1), narrow.seats(3)) == (2, 1, 2)


async def test_a_token_is_minted_until_the_grant_is_over(store: Store, clock: FakeClock) -> None:
    grants = Grants(store, clock)
    waiting, _ = await grants.create(**WISH, starts_at=clock.now() + timedelta(hours=1))
    await grants.rotate(waiting.id, by="root")
    clock.advance(5 * 3600 - 1)
    await grants.rotate(waiting.id, by="root")
    clock.advance(1)
    with pytest.raises(Exception, match="is expired; a token for it would open nothing"):
        await grants.rotate(waiting.id, by="root")


async def test_an_alert_is_told_once(store: Store, url: str, clock: FakeClock, told: Told) -> None:
    other = await Store.open(url)
    both = Alerts(store, clock, told), Alerts(other, clock, told)
    found = await asyncio.gather(*(one.once("removal", "g-1", {"grant": "g-1"}) for one in both for _ in range(4)))
    assert sum(found) == 1
    assert told == [("alert.removal", {"by": "daypass", "grant": "g-1"})]
    assert await both[0].once("removal", "g-2", {"grant": "g-2"})
    await both[0].over("removal", "g-1")
    assert await both[1].once("removal", "g-1", {"grant": "g-1"})
    await other.close()
