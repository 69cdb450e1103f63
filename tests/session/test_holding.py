"""A held statement on its way: parked, decided, recorded, and only then forwarded, in every protocol and order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.access.holds import Hold, Holds
from proxy.access.model import Grant
from proxy.access.store import Store, StoreError
from proxy.session.holding import OVERTIME, Holding
from proxy.session.talk import Aids
from proxy.wire import build
from tests.session.conftest import READER
from tests.session.playbook import IDLE, PARSED, Playbook, complete
from tests.session.test_registry import a_grant

HELD = READER + "hold: {tables: [app.customers], from: [owners], timeout: 60s}\n"
SQL = b"select name from customers"


class Desk:
    """A session whose statements somebody else decides about."""

    def __init__(self, play: Playbook, holding: Holding) -> None:
        self.play = play
        self.holding = holding

    async def turn(self) -> None:
        """Let the session's tasks run, and the round look once."""
        for _ in range(3):
            await asyncio.sleep(0.02)
            await self.holding.round()
        await asyncio.sleep(0.02)

    async def waiting(self) -> list[Hold]:
        await self.turn()
        return await self.holding.holds.all()

    async def decide(self, *, approved: bool = True) -> None:
        (hold,) = await self.waiting()
        await self.holding.holds.decide(hold.id, approved=approved, by="olga", reason="because")
        await self.turn()

    def states(self) -> list[str]:
        return [line["state"] for line in self.play.recorded("hold")]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path}/state.db")
    yield opened
    await opened.close()


@pytest.fixture
def desk(make_play: Callable[..., Playbook], store: Store) -> Desk:
    return make_desk(make_play, store, HELD)


def make_desk(make_play: Callable[..., Playbook], store: Store, policy: str) -> Desk:
    held: list[Holding] = []
    play: Playbook = make_play(
        policy, aids=Aids(hold=lambda statement, values: held[0].approval(play.relay, grant, statement, values))
    )
    grant: Grant = a_grant(play)
    held.append(Holding(Holds(store, play.clock, None, {"owners": ["olga"]}), play.clock))
    return Desk(play, held[0])


async def test_it_waits_is_approved_and_runs(desk: Desk) -> None:
    play = desk.play
    play.client(build.query(SQL))
    (hold,) = await desk.waiting()
    assert hold.sql.startswith(SQL.decode())
    (heard,) = play.client_heard()
    assert f"waits for an approval, {hold.id}, at most 1m" in heard
    assert play.upstream_heard() == []
    await desk.decide()
    assert len(play.upstream_heard()) == 1
    assert desk.states() == ["waiting", "approved"]
    order = [line["event"] for line in play.recorded("hold", "statement")]
    assert order == ["hold", "hold", "statement"]
    (statement,) = play.recorded("statement")
    assert (statement["verdict"], statement["sql"]) == ("hold", SQL.decode())
    assert play.recorded("hold")[1]["by"] == "olga"
    play.upstream(complete("SELECT 0"), IDLE)
    assert play.outcomes() == [(1, 0, None, "SELECT 0")]


async def test_each_run_is_asked_for(desk: Desk) -> None:
    for _ in range(2):
        desk.play.client(build.query(SQL))
        await desk.decide()
        desk.play.upstream(complete("SELECT 0"), IDLE)
    assert desk.states() == ["waiting", "approved"] * 2


async def test_a_no_is_told_without_a_name(desk: Desk) -> None:
    play = desk.play
    play.client(build.query(SQL), build.query(b"select 1"))
    await desk.decide(approved=False)
    assert play.client_heard()[1:] == ["ERROR 42501", "Ready I"]
    assert play.upstream_heard() == ["Query select 1"]
    assert b"olga" not in play.to_client.data
    assert [(s["verdict"], s["rule"]) for s in play.recorded("statement")] == [("deny", "hold"), ("allow", "allow")]


async def test_a_no_in_a_pipeline_skips_to_the_sync(desk: Desk) -> None:
    play = desk.play
    play.client(
        build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute(),
        build.parse(b"", SQL), build.bind(b"", b""), build.execute(), build.SYNC,
    )  # fmt: skip
    await desk.decide(approved=False)
    heard = play.upstream_heard()
    assert [word.split()[0] for word in heard].count("Execute") == 1
    assert heard[-1] == "Sync"


async def test_a_prepared_statement_waits_each_time_and_preparing_does_not(desk: Desk) -> None:
    play = desk.play
    play.client(build.parse(b"p", SQL), build.SYNC)
    await desk.turn()
    assert desk.states() == []
    play.upstream(PARSED, IDLE)
    for _ in range(2):
        play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
        await desk.decide()
        assert "Execute" in " ".join(play.upstream_heard())
        play.upstream(b"2\x00\x00\x00\x04", complete("SELECT 0"), IDLE)
    assert desk.states() == ["waiting", "approved"] * 2


@pytest.mark.parametrize(
    "sql",
    [
        b"prepare p as select name from customers; execute p",
        b"select 1; select name from customers",
        b"declare c cursor with hold for select name from customers",
    ],
)
async def test_ways_around(desk: Desk, sql: bytes) -> None:
    desk.play.client(build.query(sql))
    assert len(await desk.waiting()) == 1
    assert desk.play.upstream_heard() == []


@pytest.mark.parametrize("policy", [HELD, HELD.replace("deny: [ssn]", "")], ids=["parts", "whole"])
async def test_execute_of_what_was_prepared_in_sql(
    make_play: Callable[..., Playbook], store: Store, policy: str
) -> None:
    desk = make_desk(make_play, store, policy)
    play = desk.play
    play.client(build.query(b"prepare p as select name from customers"))
    await desk.turn()
    assert len(play.upstream_heard()) == 1
    play.upstream(complete("PREPARE"), IDLE)
    play.client(build.query(b"execute p"))
    assert len(await desk.waiting()) == 1
    assert play.upstream_heard() == []
    await desk.decide()
    assert play.upstream_heard() == ["Query execute p"]
    play.upstream(complete("SELECT 0"), IDLE)
    play.client(build.parse(b"", b"execute p"), build.bind(b"", b""), build.execute(), build.SYNC)
    assert len(await desk.waiting()) == 1
    assert not any("Execute" in word for word in play.upstream_heard())


async def test_time_out_is_a_denial(desk: Desk) -> None:
    desk.play.client(build.query(SQL))
    await desk.turn()
    desk.play.clock.advance(59.9)
    assert len(await desk.waiting()) == 1
    desk.play.clock.advance(0.1)
    await desk.turn()
    assert desk.play.client_heard()[1:] == ["ERROR 42501", "Ready I"]
    assert desk.states() == ["waiting", "timeout"]
    (hold,) = await desk.holding.holds.all(waiting=False)
    assert hold.state == "timeout"


async def test_cancel_works_while_it_waits(desk: Desk) -> None:
    desk.play.client(build.query(SQL))
    await desk.turn()
    assert desk.holding.cancel("s-play")
    assert not desk.holding.cancel("s-play")
    await desk.turn()
    assert desk.play.client_heard()[1:] == ["ERROR 57014", "Ready I"]
    assert [one.state for one in await desk.holding.holds.all(waiting=False)] == ["cancelled"]
    desk.play.client(build.query(b"select 1"))
    assert desk.play.upstream_heard() == ["Query select 1"]


async def test_a_client_that_leaves_is_noticed_and_nothing_runs(desk: Desk) -> None:
    play = desk.play
    play.client(build.query(SQL))
    (hold,) = await desk.waiting()
    assert not play.to_client.held, "else its end would not be seen"
    play.relay.client_lost()
    desk.holding.cancel("s-play")
    await desk.turn()
    assert "Query" not in " ".join(play.upstream_heard())
    assert (await desk.holding.holds.get(hold.id)).state == "cancelled"


async def test_what_a_waiting_client_sends_is_bounded(desk: Desk) -> None:
    play = desk.play
    play.client(build.query(SQL))
    await desk.turn()
    for _ in range(80):
        if not play.to_client.held:
            play.client(build.query(b"select '" + b"x" * 1000 + b"'"))
    assert play.to_client.held
    await desk.decide()
    assert not play.to_client.held


async def test_a_policy_that_changes_meanwhile_counts(desk: Desk, make_judge: Callable[[str], object]) -> None:
    desk.play.client(build.query(SQL))
    await desk.turn()
    desk.play.relay.rejudge(make_judge(READER.replace("app.customers: {deny: [ssn]}, ", "")))  # type: ignore[arg-type]
    await desk.decide()
    assert desk.play.upstream_heard() == []
    assert desk.play.client_heard()[1:] == ["ERROR 42501 at 18", "Ready I"]
    assert desk.play.recorded("statement")[0]["rule"] == "table"


class Away(Holds):
    """A state that cannot be reached."""

    async def ask(self, **facts: object) -> Hold:
        raise StoreError("away")

    async def decided(self, ids: object) -> dict[str, Hold]:
        raise StoreError("away")


async def test_what_cannot_be_asked_for_does_not_run(desk: Desk, store: Store) -> None:
    desk.holding.holds = Away(store, desk.play.clock)
    desk.play.client(build.query(SQL))
    await desk.turn()
    assert desk.play.client_heard() == ["ERROR 57P03", "Ready I"]
    assert desk.play.upstream_heard() == []
    assert desk.states() == ["unavailable"]


async def test_a_state_that_goes_away_while_it_waits(desk: Desk, store: Store) -> None:
    desk.play.client(build.query(SQL))
    await desk.turn()
    there, desk.holding.holds = desk.holding.holds, Away(store, desk.play.clock)
    desk.play.clock.advance(60 + OVERTIME)
    with pytest.raises(StoreError):
        await desk.holding.round()
    await asyncio.sleep(0.02)
    assert desk.play.client_heard()[1:] == ["ERROR 42501", "Ready I"]
    desk.holding.holds = there
    await desk.turn()
    assert [one.state for one in await there.all(waiting=False)] == ["timeout"]
