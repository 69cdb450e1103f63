"""Covers proxy/session/renewing.py: who ends when an agreement has a new text, and what others cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from proxy.access.agreements import Agreements, Text
from proxy.access.model import Grant
from proxy.access.store import StoreError
from proxy.session.commons import Commons
from proxy.session.judging import Bench
from proxy.session.refusals import LoginRefused, refusal
from proxy.session.registry import Registry
from proxy.session.renewing import Renewing
from tests.session.playbook import Playbook
from tests.session.test_registry import a_session


class Policies:
    """A bench that only knows which agreements a grant needs, and counts who asks."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.loads = 1
        self.asked = 0

    def agreements(self, grant: Grant) -> tuple[str, ...]:
        self.asked += 1
        if not self.loads:
            raise LoginRefused(refusal("policy gone", policy=grant.policy, grant=grant.id))
        return self.names


@dataclass
class Signed:
    """What was accepted; `new` is what has a new text since."""

    new: frozenset[str] = frozenset()
    away: bool = False
    asked: int = 0

    async def renewed(self, needed: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Text]:
        self.asked += 1
        if self.away:
            raise StoreError("gone")
        text = Text(name="nda", version="4", sha256="4" * 64, text="You tell nobody.")
        return {(person, name): text for person, name in needed if name in self.new}


@pytest.fixture
def registry(play: Playbook, tmp_path: Path) -> Registry:
    registry = Registry(play.clock, Commons(tmp_path / "run"))
    a_session(play, registry)
    return registry


def renewing(registry: Registry, bench: Policies, signed: Signed) -> Renewing:
    return Renewing(registry, cast(Bench, bench), cast(Agreements, signed))


async def test_a_new_text_ends_the_session(play: Playbook, registry: Registry) -> None:
    signed = Signed()
    rounds = renewing(registry, Policies("nda"), signed)
    await rounds.round()
    assert not play.relay.ended
    signed.new = frozenset({"nda"})
    await rounds.round()
    assert play.recorded("session.end")[0]["detail"] == "not accepted: nda (version 4)"
    asked = signed.asked
    await rounds.round()
    assert signed.asked == asked, "it is asked about a session that is over"


async def test_what_needs_none_is_looked_at_once(registry: Registry) -> None:
    bench, signed = Policies(), Signed()
    rounds = renewing(registry, bench, signed)
    for _ in range(5):
        await rounds.round()
    assert (bench.asked, signed.asked) == (1, 0)


async def test_policies_that_are_read_again_may_need_one(play: Playbook, registry: Registry) -> None:
    bench, signed = Policies(), Signed(new=frozenset({"nda"}))
    rounds = renewing(registry, bench, signed)
    await rounds.round()
    bench.names, bench.loads = ("nda",), 2
    await rounds.round()
    assert play.relay.ended


async def test_a_session_that_comes_later_is_looked_at(play: Playbook, registry: Registry) -> None:
    bench, signed = Policies("nda"), Signed()
    rounds = renewing(registry, bench, signed)
    await rounds.round()
    registry.sessions.clear()
    a_session(play, registry)
    signed.new = frozenset({"nda"})
    await rounds.round()
    assert (bench.asked, play.relay.ended) == (2, True)


async def test_nobody_ends_for_a_state_that_is_away_or_a_policy_that_is_gone(
    play: Playbook, registry: Registry
) -> None:
    bench, signed = Policies("nda"), Signed(new=frozenset({"nda"}), away=True)
    rounds = renewing(registry, bench, signed)
    await rounds.round()
    bench.loads, signed.away = 0, False
    await rounds.round()
    assert not play.relay.ended
    bench.loads = 2
    await rounds.round()
    assert play.relay.ended
