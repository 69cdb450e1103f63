"""The upstream's lane: pieces, long messages, hostile servers, endings.

Covers proxy/session/relay.py and proxy/session/talk.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.session.refusals import refusal
from proxy.session.talk import milliseconds
from proxy.wire import build
from tests.session.playbook import COLUMNS, IDLE, ROW, Playbook, complete, error, select


@given(cuts=st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_replies_may_arrive_in_any_pieces(make_play: Callable[..., Playbook], cuts: list[int]) -> None:
    play = make_play()
    play.client(build.query(b"select 1"), build.query(b"delete from orders"), build.query(b"select 2"))
    answer = select(20) + select(2)
    last = 0
    for cut in [*sorted(cuts), len(answer)]:
        play.relay.upstream_data(answer[last:cut])
        last = max(last, cut)
    rows = ["RowDescription", *["DataRow"] * 20, "Complete SELECT 20", "Ready I"]
    more = ["RowDescription", *["DataRow"] * 2, "Complete SELECT 2", "Ready I"]
    assert play.client_heard() == [*rows, "ERROR 42501", "Ready I", *more]
    assert [o for o in play.outcomes() if o[2] is None] == [(1, 20, None, "SELECT 20"), (3, 2, None, "SELECT 2")]


@pytest.mark.parametrize("before", [b"", select(1)], ids=["idle", "after an answer"])
def test_a_refusal_waits_for_the_end_of_a_long_notice(play: Playbook, before: bytes) -> None:
    if before:
        play.client(build.query(b"select 1"))
    notice = build.notice(text="x" * 200_000)
    play.upstream(before + notice[:100_000])
    play.client(build.query(b"delete from orders"), build.query(b"select 1"))
    play.upstream(notice[100_000:150_000])
    assert b"42501" not in play.to_client.data
    play.upstream(notice[150_000:] + select(1))
    heard = play.client_heard()
    found = next(number for number, word in enumerate(heard) if word.startswith("Notice"))
    assert heard[found + 1 : found + 4] == ["ERROR 42501", "Ready I", "RowDescription"]
    assert play.upstream_heard()[-1:] == ["Query select 1"]


def test_a_long_notice_of_which_only_the_header_has_come_is_recorded_with_its_text(play: Playbook) -> None:
    notice = build.notice(text="x" * 100_000)
    play.client(build.query(b"select 1"))
    play.upstream(notice[:5])
    play.upstream(notice[5:])
    (noted,) = play.recorded("notice")
    assert (noted["severity"], noted["text"][:3]) == ("NOTICE", "xxx")


def test_refusals_do_not_pile_up_behind_a_notice_that_never_ends(play: Playbook) -> None:
    play.upstream(build.notice(text="x" * 200_000)[:100_000])
    for _ in range(100):
        play.client(*[build.query(b"delete from orders")] * 100)
    assert play.relay.ended
    assert play.recorded("session.end")[0]["detail"] == "the upstream stopped in the middle of a message"


@given(st.floats(0, 1e6, allow_nan=False))
def test_milliseconds_are_those_of_round(seconds: float) -> None:
    found = milliseconds(seconds)
    assert abs(found - round(seconds * 1000, 3)) <= 0.001 + 1e-9
    assert found == round(found, 3), "three digits"


def test_a_whole_chunk_is_passed_on_without_a_copy(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    chunk = select(1000)
    play.upstream(chunk)
    assert play.to_client.data is chunk
    assert play.to_client.writes == 1


def test_a_row_longer_than_the_hold_streams_and_is_counted(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    row = build.message(b"D", b"\0\1" + (300_000).to_bytes(4, "big") + b"x" * 300_000)
    answer = COLUMNS + row + ROW + complete("SELECT 2") + IDLE
    passed = 0
    for start in range(0, len(answer), 65_536):
        play.upstream(answer[start : start + 65_536])
        assert len(play.relay._results._tail) <= 65_541
        passed += len(play.to_client.data)
        if start + 65_536 < len(row):
            assert not play.relay._results.between
        play.to_client.take()
    assert passed == len(answer)
    assert play.outcomes() == [(1, 2, None, "SELECT 2")]
    assert play.recorded("outcome")[0]["bytes"] == len(row) + len(ROW)


def test_an_error_longer_than_the_hold_streams_and_its_sqlstate_is_read(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    report = build.error(severity="ERROR", code="22P02", text="bad: " + "x" * 200_000) + IDLE
    for start in range(0, len(report), 50_000):
        play.upstream(report[start : start + 50_000])
    assert play.client_heard() == ["ERROR 22P02", "Ready I"]
    assert play.outcomes() == [(1, 0, "22P02", None)]
    (outcome,) = play.recorded("outcome")
    assert outcome["error"].startswith("bad: xxx")
    assert outcome["error"].endswith("x…")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"D\0\0\0\1",
        b"Z\0\0\0\x05X",
        b"Z\0\0\0\x04",
        b"1\0\0\0\x04",
        b"R\0\0\0\x08\0\0\0\0",
        b"C\x7f\xff\xff\xff" + b"x" * 70_000,
        build.message(b"S", b"no end"),
        IDLE + IDLE,
        bytes(5),
    ],
)
def test_a_server_that_makes_no_sense_ends_the_session(make_play: Callable[..., Playbook], nonsense: bytes) -> None:
    play = make_play()
    play.client(build.query(b"select 1"))
    play.upstream(nonsense)
    assert play.client_heard()[-1] == "FATAL 08P01"
    assert play.recorded("session.end")[0]["reason"] == "upstream broken"


def test_rows_that_nobody_asked_for_end_the_session(play: Playbook) -> None:
    play.upstream(ROW)
    assert play.client_heard() == ["FATAL 08P01"]


def test_an_error_without_sqlstate_is_survived(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    play.upstream(build.message(b"E", b"SERROR\0Mwhat\0\0"), IDLE)
    assert play.client_heard() == ["ERROR XX000", "Ready I"]


def test_asynchronous_messages_pass_at_any_time(play: Playbook) -> None:
    notice = build.notice(text="by the way")
    play.upstream(notice, build.parameter_status("TimeZone", "UTC"))
    play.client(build.query(b"select 1"))
    play.upstream(COLUMNS, notice, ROW, build.message(b"A", b"\0\0\0\1ch\0x\0"), complete("SELECT 1"), IDLE)
    heard = play.client_heard()
    assert heard[:2] == ["Notice by the way", "Parameter TimeZone=UTC"]
    assert heard[3:] == ["Notice by the way", "DataRow", "Notification", "Complete SELECT 1", "Ready I"]


def test_a_setting_that_changes_how_sql_is_read_ends_the_session(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    play.upstream(build.parameter_status("standard_conforming_strings", "off"))
    assert "FATAL 42501" in play.client_heard()
    assert play.relay.ended


def test_the_servers_own_fatal_is_passed_on_and_recorded(play: Playbook) -> None:
    play.upstream(error("57P01", severity="FATAL"))
    play.relay.upstream_lost()
    assert play.client_heard() == ["FATAL 57P01"]
    assert play.recorded("notice")[0]["sqlstate"] == "57P01"
    end = play.recorded("session.end")[0]
    assert (end["reason"], end["detail"]) == ("upstream", "57P01: no")


def test_an_upstream_that_dies_in_a_result_is_told_after_a_whole_message(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    play.upstream(COLUMNS, ROW, ROW[:-3])
    play.relay.upstream_lost()
    assert play.client_heard() == ["RowDescription", "DataRow", "FATAL 08006"]
    assert play.outcomes() == [(1, 1, "08006", None)]
    assert play.recorded("session.end")[0]["reason"] == "upstream lost"


def test_a_client_that_vanishes_leaves_a_busy_upstream_to_be_cancelled(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    play.relay.client_lost()
    assert play.ended == [True]
    assert play.to_upstream.closed
    assert play.outcomes() == [(1, 0, "08006", None)]


def test_only_the_first_end_counts(play: Playbook) -> None:
    play.relay.end(refusal("shutdown"), "a")
    play.relay.end(refusal("bug"), "b")
    play.relay.client_lost()
    play.relay.upstream_lost()
    assert play.ended == [False]
    assert [line["reason"] for line in play.recorded("session.end")] == ["shutdown"]


def test_the_slower_peer_sets_the_pace(play: Playbook) -> None:
    play.relay.client_blocked(True)
    assert (play.to_client.held, play.to_upstream.held) == (True, True)
    play.relay.client_blocked(False)
    assert (play.to_client.held, play.to_upstream.held) == (False, False)
    play.relay.upstream_blocked(True)
    assert (play.to_client.held, play.to_upstream.held) == (True, False)


def test_who_left_after_a_goodbye_holds_nothing_up(play: Playbook) -> None:
    play.client(build.query(b"select 1"), build.TERMINATE)
    play.upstream(COLUMNS + ROW * 100)
    play.relay.client_blocked(True)
    play.relay.client_lost()
    assert not play.to_upstream.held
    play.upstream(complete("SELECT 100"), IDLE)
    play.relay.upstream_lost()
    assert play.outcomes() == [(1, 100, None, "SELECT 100")]
    assert play.ended == [False]


def test_a_client_that_is_far_ahead_is_not_read_until_the_server_catches_up(play: Playbook) -> None:
    play.client(*[build.SYNC] * 50_001)
    assert play.to_client.held
    play.upstream(IDLE * 45_000)
    assert not play.to_client.held


def test_nothing_grows_while_a_large_result_passes(play: Playbook) -> None:
    play.client(build.query(b"select 1"))
    chunk = ROW * 5_000
    cut = len(chunk) - 7
    play.upstream(COLUMNS)
    for _ in range(50):
        play.relay.upstream_data(chunk[:cut])
        play.relay.upstream_data(chunk[cut:])
        assert len(play.relay._results._tail) < 100
        assert len(play.relay.talk.ledger.entries) == 1
        play.to_client.take()
    play.upstream(complete("SELECT 250000"), IDLE)
    assert play.outcomes() == [(1, 250_000, None, "SELECT 250000")]
