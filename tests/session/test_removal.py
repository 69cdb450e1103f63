"""The steward ends what must end, and removal is proven until it is: on a clock that a test moves.

Covers proxy/session/removal.py, proxy/session/proofs.py and the endings of proxy/session/steward.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.access.alerts import Alerts
from proxy.access.grants import Grants
from proxy.access.model import Grant
from proxy.access.removals import PROOFS, Finding, Removals
from proxy.access.stages import Stages
from proxy.access.store import Store, StoreError
from proxy.access.tokens import Tokens
from proxy.clock import FakeClock
from proxy.config import Config
from proxy.policy.load import Policies
from proxy.session.judging import EMPTY_AFTER, WITHDRAWN_AFTER, Bench
from proxy.session.proofs import judged
from proxy.session.removal import ALERT_AFTER, ALERT_UNREACHABLE, Removal
from proxy.session.steward import Steward
from tests.access.test_grants import WISH, Told, opens

POLICY = "name: reader\ndatabases: [app]\nsearch_path: [app]\ntables: {app.orders: {}}\n"
CONFIG: dict[str, Any] = {
    "databases": {"app": {"host": "h", "dbname": "app", "credential": {"mode": "shared", "user": "u"}}},
    "reviews": {"within": "2h"},
}


class Scripted:
    """Looks that find what a test says; by default everything is gone."""

    def __init__(self) -> None:
        self.left: dict[str, Finding] = {}
        self.asked: list[tuple[str, ...]] = []

    async def look(self, _grant: Grant, wanted: tuple[str, ...]) -> Mapping[str, Finding]:
        self.asked.append(wanted)
        return {proof: self.left.get(proof, Finding(True, "gone")) for proof in wanted}


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path}/state.db")
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


def removal_of(store: Store, clock: FakeClock, told: Told, looks: Scripted) -> Removal:
    return Removal(
        Stages(store, clock, told),
        Removals(store, clock, told),
        Alerts(store, clock, told),
        looks,
        clock,
    )


async def an_ended_grant(store: Store, clock: FakeClock) -> Grant:
    grants = Grants(store, clock)
    grant, _ = await grants.create(**WISH)
    await grants.revoke(grant.id, reason="done", by="root")
    await Steward(Config.model_validate(CONFIG), store, clock, lambda _action, _detail: None).round()
    ended = await grants.get(grant.id)
    assert (ended.stage, ended.ended_at, ended.review_due) == ("ended", clock.now(), clock.now() + timedelta(hours=2))
    return ended


async def test_what_is_gone_is_removed_in_one_round(store: Store, clock: FakeClock, told: Told) -> None:
    grant = await an_ended_grant(store, clock)
    await removal_of(store, clock, told, Scripted()).round()
    assert [action for action, _ in told] == [*(f"removal.{proof}" for proof in PROOFS), "removed"]
    after = await Grants(store, clock).get(grant.id)
    assert (after.stage, after.removed_at) == ("removed", clock.now())
    assert set(told[-1][1]) >= {"grant", "by", *PROOFS}


async def test_it_is_tried_until_it_is_true(store: Store, clock: FakeClock, told: Told) -> None:
    grant, looks = await an_ended_grant(store, clock), Scripted()
    removal = removal_of(store, clock, told, looks)
    looks.left = {"role": Finding(False, "it stands"), "views": Finding(False, "two are left")}
    for _ in range(3):
        await removal.round()
        clock.advance(1)
    assert looks.asked == [PROOFS, ("role", "views"), ("role", "views")]
    assert removal.pending == 1
    assert (await Grants(store, clock).get(grant.id)).stage == "ended"
    looks.left = {}
    await removal_of(store, clock, told, looks).round()  # another process has the lead
    assert (await Grants(store, clock).get(grant.id)).stage == "removed"
    assert [proof.tries for proof in await Removals(store, clock, told).of(grant.id)] == [1, 1, 4, 4]


async def test_an_alert_when_it_takes_too_long_and_once(store: Store, clock: FakeClock, told: Told) -> None:
    grant, looks = await an_ended_grant(store, clock), Scripted()
    removal = removal_of(store, clock, told, looks)
    looks.left = {"role": Finding(False, "it stands")}
    alerts = []
    for second in range(int(ALERT_AFTER) + 20):
        await removal.round()
        alerts = [detail for action, detail in told if action == "alert.removal"]
        assert not alerts or second >= ALERT_AFTER, second
        clock.advance(1)
    (alert,) = alerts
    assert (alert["grant"], alert["missing"]) == (grant.id, {"role": "it stands"})
    assert len(looks.asked) < 90, "after a minute it is tried every ten seconds"


async def test_a_database_that_is_away_is_told_sooner(store: Store, clock: FakeClock, told: Told) -> None:
    _, looks = await an_ended_grant(store, clock), Scripted()
    removal = removal_of(store, clock, told, looks)
    looks.left = {proof: Finding(False, "no answer", unreachable=True) for proof in ("backends", "role", "views")}
    for second in range(int(ALERT_UNREACHABLE) + 2):
        await removal.round()
        assert any(action == "alert.removal" for action, _ in told) == (second >= ALERT_UNREACHABLE), second
        clock.advance(1)
    looks.left = {}
    await removal.round()
    assert told[-1][0] == "removed"


@pytest.mark.parametrize(
    ("refused", "ok"),
    [
        ("28000: daypass: grant g-1 was revoked at 2026-01-05 09:00:00 UTC.", True),
        ("28000: daypass: grant g-1 expired at 2026-01-05 09:00:00 UTC", True),
        ("28000: connection requires a valid client certificate", True),
        ("28000: daypass: grant g-2 was revoked at 2026-01-05 09:00:00 UTC.", False),
        ('28P01: password authentication failed for user "g-1"', False),
        ("57P03: daypass: grants cannot be looked up at the moment", False),
        ("127.0.0.1:1: no answer", False),
    ],
)
def test_what_a_refused_login_proves(clock: FakeClock, refused: str, ok: bool) -> None:
    now = clock.now()
    grant = Grant("g-1", "", "", "app", "", "", "", "", None, now, "", now, now, None, None)
    assert judged(grant, refused).ok is ok


async def test_a_lent_token_is_right_for_an_instant(store: Store, clock: FakeClock, told: Told) -> None:
    grants, tokens = Grants(store, clock), Tokens(store, clock, told)
    live, token = await grants.create(**WISH)
    with pytest.raises(StoreError, match="is not over"):
        async with tokens.lent(live):
            raise AssertionError("lent for a grant that lives")
    assert opens(token, (await grants.login(live.id))[1])
    ended = await an_ended_grant(store, clock)
    before = (await grants.login(ended.id))[1]
    async with tokens.lent(ended) as lent:
        during = (await grants.login(ended.id))[1]
        assert opens(lent, during)
        async with tokens.lent(ended) as again:  # another process, which took over
            assert opens(again, (await grants.login(ended.id))[1])
        assert (await grants.login(ended.id))[1] == before
    assert (await grants.login(ended.id))[1] == before
    assert told == []


def bench_of(folder: Path) -> Bench:
    bench = Bench(Policies(folder), b"secret")
    bench.reload()
    return bench


async def test_a_policy_that_is_gone_ends_its_grants_and_a_broken_one_does_not(
    tmp_path: Path, store: Store, clock: FakeClock, told: Told
) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    file = folder / "reader.yaml"
    file.write_text(POLICY)
    (folder / "other.yaml").write_text(POLICY.replace("reader", "other"))
    bench, grants = bench_of(folder), Grants(store, clock)
    steward = Steward(Config.model_validate(CONFIG), store, clock, told, withdrawn=bench.withdrawn)
    grant, _ = await grants.create(**WISH | {"policy_text": POLICY})

    async def rounds(seconds: int) -> str:
        for _ in range(seconds):
            await steward.round()
            clock.advance(1)
        return (await grants.get(grant.id)).state(clock.now())

    assert await rounds(20) == "active"
    file.write_text("name: reader\ntabels: {}\n")
    assert bench.reload()
    assert await rounds(20) == "active", "the last good revision stays"
    file.write_text(POLICY.replace("[app]\nsearch", "[other]\nsearch"))
    bench.reload()
    assert await rounds(int(WITHDRAWN_AFTER)) == "active", "files get replaced"
    file.write_text(POLICY)
    bench.reload()
    assert await rounds(20) == "active"
    file.unlink()
    (folder / "other.yaml").write_text("nonsense: [")
    assert bench.reload()
    assert await rounds(20) == "active", "while a file cannot be read, it may be the one"
    (folder / "other.yaml").write_text(POLICY.replace("reader", "other"))
    bench.reload()
    assert await rounds(int(WITHDRAWN_AFTER)) == "active"
    assert await rounds(1) == "revoked"
    assert (await grants.get(grant.id)).ended_why == "policy"
    assert told[-1][1]["reason"] == "the policy reader was withdrawn"


async def test_a_folder_with_nothing_in_it_may_not_be_mounted(tmp_path: Path, store: Store, clock: FakeClock) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    bench = bench_of(folder)
    grant, _ = await Grants(store, clock).create(**WISH)
    assert bench.withdrawn(grant) == ("the policy reader was withdrawn", EMPTY_AFTER)
    folder.rmdir()
    bench.reload()
    assert bench.withdrawn(grant) is None


async def test_an_overdue_review_is_told_once(store: Store, clock: FakeClock, told: Told) -> None:
    grant = await an_ended_grant(store, clock)
    for _ in range(3):
        steward = Steward(Config.model_validate(CONFIG), store, clock, told)
        await steward.round()
        await steward.round()
        clock.advance(3600)
    (alert,) = [detail for action, detail in told if action == "alert.review"]
    assert alert["grant"] == grant.id
