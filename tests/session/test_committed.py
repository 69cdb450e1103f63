"""Group commit at the client's lane: nothing goes up, and no refusal is told, before the disk has its record.

The recorder's threads are real; the test turns the loop, so it sees what was done while the disk was not asked yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from proxy.session.talk import for_record
from proxy.wire import build
from tests.recorder.support import Hand
from tests.session.conftest import WATCHER
from tests.session.playbook import BOUND, IDLE, PARSED, ROW, Playbook, complete, error, select

SYNC = build.message(b"S", b"")
FLUSH = build.message(b"H", b"")


def run(sql: bytes) -> bytes:
    """Parse, Bind and Execute of the unnamed statement."""
    bind = build.message(b"B", b"\0\0\0\0\0\0\0\0")
    return build.message(b"P", b"\0" + sql + b"\0\0\0") + bind + build.message(b"E", b"\0\0\0\0\0")


@pytest.fixture
def play(make_play: Callable[..., Playbook]) -> Playbook:
    return make_play(hand=Hand())


def test_a_statement_goes_up_when_the_disk_has_it(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    assert play.upstream_heard() == []
    assert not play.to_client.held
    play.disk()
    assert play.upstream_heard() == ["Query select 1"]
    play.upstream(select())
    assert play.client_heard() == ["RowDescription", "DataRow", "Complete SELECT 1", "Ready I"]
    assert play.outcomes() == [(1, 1, None, "SELECT 1")]


def test_a_refusal_is_told_when_the_disk_has_it(play: Playbook) -> None:
    play.client(build.query(b"delete from orders"))
    assert play.client_heard() == []
    play.disk()
    assert play.client_heard() == ["ERROR 42501", "Ready I"]
    assert play.upstream_heard() == []


def test_what_comes_meanwhile_waits_and_goes_up_in_order(play: Playbook) -> None:
    first, second, third = (build.query(b"select %d" % n) for n in (1, 2, 3))
    play.client(first + second[:7])
    heard = [play.to_client.held]
    play.client(second[7:] + third[:3])
    assert [*heard, play.to_client.held] == [False, True]  # a client that goes on sending is not read
    play.client(third[3:])
    assert play.upstream_heard() == []
    play.disk()
    play.disk()
    assert play.upstream_heard() == ["Query select 1", "Query select 2", "Query select 3"]
    assert not play.to_client.held


def test_a_refusal_behind_an_answered_statement_waits_for_the_disk(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    play.disk()
    play.client(build.query(b"delete from orders"))
    play.upstream(select())
    assert play.client_heard() == ["RowDescription", "DataRow", "Complete SELECT 1", "Ready I"]
    play.disk()
    assert play.client_heard() == ["ERROR 42501", "Ready I"]


def test_refusals_of_two_batches_keep_their_places(play: Playbook) -> None:
    play.client(run(b"select 1") + FLUSH)
    play.disk()
    play.client(run(b"delete from orders") + SYNC)
    play.disk()  # recorded, and behind what still runs
    play.client(build.query(b"delete from products"))
    assert play.client_heard() == []
    play.upstream(PARSED + BOUND + ROW + complete("SELECT 1"))
    assert play.client_heard() == [
        "ParseComplete", "BindComplete", "DataRow", "Complete SELECT 1", "ERROR 42501",
    ]  # fmt: skip
    play.upstream(IDLE)
    assert play.client_heard() == ["Ready I"]  # the second refusal is not on the disk
    play.disk()
    assert play.client_heard() == ["ERROR 42501", "Ready I"]


def test_an_error_that_comes_while_the_next_batch_waits_skips_it(play: Playbook) -> None:
    play.client(run(b"select 1/0") + FLUSH)
    play.disk()
    play.upstream_heard()
    play.client(run(b"select 2") + SYNC)
    play.upstream(PARSED + BOUND + error())
    play.disk()
    assert play.upstream_heard() == ["Parse |select 2", "Bind |", "Execute ", "Sync"]
    play.upstream(IDLE)
    assert [code for _, _, code, _ in play.outcomes()] == ["22012", "22012"]
    assert not play.relay.ended


def test_what_has_no_statement_does_not_wait(play: Playbook) -> None:
    play.client(SYNC)
    assert play.upstream_heard() == ["Sync"]


def test_answers_that_come_while_the_record_is_written_are_not_waited_for_again(play: Playbook) -> None:
    """The Bind waits for the answer to the Parse's Sync, which comes while the batch before it waits for the disk."""
    play.client(build.message(b"P", b"a\0select 1\0\0\0") + SYNC)
    play.disk()
    bind = build.message(b"B", b"\0a\0\0\0\0\0\0\0") + build.message(b"E", b"\0\0\0\0\0") + SYNC
    play.client(build.query(b"select 7") + bind)
    play.upstream(PARSED + IDLE)
    play.disk()
    play.upstream(select())
    play.disk()
    heard = play.upstream_heard()
    assert heard == ["Parse a|select 1", "Sync", "Query select 7", "Bind |a", "Execute ", "Sync"]


def test_a_goodbye_behind_a_statement_follows_it(play: Playbook) -> None:
    play.client(build.query(b"select 1") + build.message(b"X", b""))
    play.relay.client_lost()
    play.disk()
    assert play.upstream_heard() == ["Query select 1", "Terminate"]


def test_a_client_that_leaves_meanwhile_is_not_forwarded(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    play.relay.client_lost()
    play.disk()
    assert "Query select 1" not in play.upstream_heard()
    assert [code for _, _, code, _ in play.outcomes()] == ["08006"]


def test_the_last_bytes_of_a_long_message_may_come_while_the_disk_writes(make_play: Callable[..., Any]) -> None:
    play = make_play(WATCHER, observe=True, hand=Hand())
    long = build.query(b"select '" + b"x" * (2 << 20) + b"'")
    play.client(build.query(b"select 1") + long[:-3])
    play.client(long[-3:])
    play.disk()
    play.disk()
    data = play.to_upstream.take()
    assert data == build.query(b"select 1") + long
    assert len(play.recorded("statement")) == 2


def test_a_disk_that_refuses_ends_the_session_and_nothing_goes_up(play: Playbook) -> None:
    group = play.recorder._common.group
    assert group is not None
    assert group._segment is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, group._segment._fd)
    os.close(full)
    play.client(build.query(b"select 1"))
    play.client(build.query(b"select 2"))
    play.disk()
    assert play.upstream_heard() == ["Terminate"] or play.upstream_heard() == []
    assert play.client_heard() == ["FATAL 58030"]
    assert not play.recorder.healthy()
    lines = play.recorded()
    assert [line["event"] for line in lines] == ["statement", "outcome", "notice", "session.end"]
    assert lines[-1]["reason"] == "recording"
    play.recorder.probe()
    play.disk()
    assert play.recorder.healthy()  # with a write-ahead file of another name


def test_the_gate_says_what_it_waits_for(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    assert play.relay._gate.waiting is for_record
    play.disk()
