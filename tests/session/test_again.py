"""An Execute that did not run, and one of the same portal that does: it is the first, with all that a first one needs.

Covers proxy/session/extended.py, proxy/session/results.py and proxy/session/gate.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.access.store import Store
from proxy.policy.judge import Judge
from proxy.wire import build
from tests.session.conftest import READER
from tests.session.playbook import BOUND, FAILED, IDLE, IN_BLOCK, PARSED, Playbook, complete, error
from tests.session.test_holding import HELD, SQL, Desk, make_desk, store

__all__ = ["store"]

OPEN = READER.replace(": {deny: [ssn]}", ": {}")
HELD_TEXT = b"prepare p as " + SQL


@pytest.fixture
def desk(make_play: Callable[..., Playbook], store: Store) -> Desk:
    return make_desk(make_play, store, HELD)


def portal(play: Playbook, name: bytes, sql: bytes) -> None:
    """A portal that stands, inside of a transaction, and was not run."""
    play.client(build.parse(name, sql), build.bind(name, name), build.SYNC)
    play.upstream(PARSED, BOUND, IN_BLOCK)


async def prepare(desk: Desk, sql: bytes) -> None:
    """`sql` by SQL, inside of a transaction."""
    desk.play.client(build.query(sql))
    await desk.turn()
    desk.play.upstream(complete("PREPARE"), IN_BLOCK)


def begin(play: Playbook) -> None:
    play.client(build.query(b"begin"))
    play.upstream(complete("BEGIN"), IN_BLOCK)


async def test_what_was_refused_for_its_name_asks_when_it_runs(desk: Desk) -> None:
    play = desk.play
    begin(play)
    portal(play, b"a", b"execute p")
    play.client(build.execute(b"a"), build.SYNC)
    assert play.client_heard()[-1] == "ERROR 26000"
    play.upstream(IN_BLOCK)
    await prepare(desk, HELD_TEXT)
    play.upstream_heard()
    play.client(build.execute(b"a"), build.SYNC)
    assert len(await desk.waiting()) == 1
    assert play.upstream_heard() == []
    await desk.decide()
    assert play.upstream_heard() == ["Execute a", "Sync"]


async def test_what_the_server_skipped_asks_when_it_runs(desk: Desk) -> None:
    play = desk.play
    begin(play)
    await prepare(desk, b"prepare p as select 1")
    portal(play, b"a", b"execute p")
    portal(play, b"fails", b"select 1/0 from orders")
    play.client(build.execute(b"fails"), build.execute(b"a"), build.SYNC)
    play.upstream(error(), FAILED)
    play.client(build.query(b"rollback to s"))
    play.upstream(complete("ROLLBACK"), IN_BLOCK)
    await prepare(desk, b"deallocate p")
    await prepare(desk, HELD_TEXT)
    play.upstream_heard()
    play.client(build.execute(b"a"), build.SYNC)
    assert len(await desk.waiting()) == 1
    assert play.upstream_heard() == []


def test_what_the_server_skipped_changes_names_when_it_runs(play: Playbook) -> None:
    begin(play)
    play.client(build.query(b"prepare p as select 1"))
    play.upstream(complete("PREPARE"), IN_BLOCK)
    portal(play, b"drop", b"deallocate p")
    portal(play, b"make", b"prepare p as select 2")
    portal(play, b"fails", b"select 1/0")
    play.client(*map(build.execute, (b"fails", b"drop", b"make")), build.SYNC)
    play.upstream(error(), FAILED)
    play.client(build.query(b"rollback to s"))
    play.upstream(complete("ROLLBACK"), IN_BLOCK)
    play.client(build.execute(b"drop"), build.execute(b"make"), build.SYNC)
    play.upstream(complete("DEALLOCATE"), complete("PREPARE"), IDLE)
    play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
    last = play.recorded("statement")[-1]
    assert (last["sql"], last["name"], last["kind"]) == ("prepare p as select 2", "p", "prepare")


async def test_an_approval_of_what_was_skipped_is_for_nothing_else(desk: Desk) -> None:
    play = desk.play
    play.client(build.parse(b"s", b"select 1"), build.bind(b"s", b"s"), build.execute(b"s"))
    play.client(build.parse(b"", SQL), build.bind(b"", b""), build.execute(), build.FLUSH)
    await desk.waiting()
    play.upstream(error())
    await desk.decide()
    play.client(build.SYNC)
    play.upstream(IDLE)
    play.upstream_heard()
    play.client(build.parse(b"", b"select email from customers"), build.bind(b"", b""), build.execute(), build.SYNC)
    (hold,) = await desk.waiting()
    assert "email" in hold.sql
    assert "Execute " not in play.upstream_heard()


def test_a_query_executes_no_name_whose_fate_is_open(
    make_play: Callable[..., Playbook], make_judge: Callable[[str], Judge]
) -> None:
    """The Parse fails, because the name is taken: the old text would run, which is denied by now."""
    play = make_play(OPEN)
    play.client(build.parse(b"p", b"select id from orders"), build.SYNC)
    play.upstream(PARSED, IDLE)
    play.relay.rejudge(make_judge(OPEN.replace("app.orders: {}, ", "")))
    play.upstream_heard()
    play.client(build.parse(b"p", b"select 1"), build.SYNC, build.query(b"execute p"))
    assert play.upstream_heard() == ["Parse p|select 1", "Sync"]
    play.upstream(error("42P05"), IDLE)
    assert play.client_heard()[-2:] == ["ERROR 42501", "Ready I"]
    assert play.upstream_heard() == []
