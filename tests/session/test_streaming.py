"""Messages that are too long to keep pass in observe mode, piece by piece: `proxy/session/streaming.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from proxy.policy.judge import Judge
from proxy.session.gate import Bounds
from proxy.session.names import MOST_NAMES
from proxy.wire import build
from tests.session.conftest import READER, WATCHER
from tests.session.playbook import BOUND, FAILED, IDLE, NO_DATA, PARSED, ROW, Playbook, complete, error, select

SYNC = build.SYNC
BOUNDS = Bounds(statement=2_000, values=2_000)
LONG = b"x" * 300_000
WAIT = build.message(b"G", b"\0\0\0")
BOTH = build.message(b"W", b"\0\0\0")
RESULT = build.message(b"V", b"\0\0\0\x04\0\0\0\1")


@pytest.fixture
def play(make_play: Callable[..., Playbook]) -> Playbook:
    return make_play(WATCHER, observe=True, bounds=BOUNDS)


def pieces(play: Playbook, data: bytes, step: int) -> bytes:
    """Send in pieces; returns what went upstream. Before the last piece is sent nothing may be owed."""
    heard = b""
    for at in range(0, len(data), step):
        play.client(data[at : at + step])
        heard += play.to_upstream.take()
    return heard


def not_kept(message: bytes) -> str:
    return f"a message of {len(message)} bytes, not kept; its SHA-256 is {hashlib.sha256(message).hexdigest()}"


@pytest.mark.parametrize("step", [1_000_000, 65_536, 9])
def test_a_long_query_passes_and_is_recorded_by_its_hash(play: Playbook, step: int) -> None:
    message = build.query(b"select '" + LONG[: 300_000 if step > 9 else 3_000] + b"'")
    assert pieces(play, message + build.query(b"select 1"), step) == message + build.query(b"select 1")
    play.upstream(select(1), select(1))
    assert play.client_heard()[-1] == "Ready I"
    first, second = play.recorded("statement")
    assert (first["sql"], first["rule"], first["reason"]) == ("", "observe.limit.statement", not_kept(message))
    assert second["sql"] == "select 1"
    assert play.outcomes() == [(1, 1, None, "SELECT 1"), (2, 1, None, "SELECT 1")]


def test_the_last_piece_is_recorded_before_it_passes(play: Playbook) -> None:
    message = build.query(b"select '" + LONG + b"'")
    play.client(message[:-1])
    assert play.to_upstream.take() == message[:-1]
    assert play.recorded("statement") == []
    lines: list[int] = []
    play.relay._gate._forward = lambda data: lines.append(play.recording.path.read_text().count('"statement"'))
    play.client(message[-1:])
    assert lines == [1]


@pytest.mark.parametrize("missing", [1, 2, 5])
def test_a_goodbye_does_not_end_a_message_of_which_the_last_bytes_never_came(play: Playbook, missing: int) -> None:
    message = build.query(b"delete from orders -- " + LONG)
    play.client(message[:-missing])
    play.relay.client_lost()
    assert play.to_upstream.data == message[:-missing]
    assert play.recorded("statement") == []


@pytest.mark.parametrize("step", [1_000_000, 7_000, 11])
def test_a_long_bind_passes_and_its_execute_has_its_hash(play: Playbook, step: int) -> None:
    play.client(build.parse(b"s", b"select $1"), SYNC)
    play.upstream(PARSED, IDLE)
    bind = build.bind(b"p", b"s", [LONG[: 300_000 if step > 11 else 4_000]])
    play.to_upstream.take()
    all_of_it = bind + build.describe(ord("P"), b"p") + build.execute(b"p") + SYNC
    assert pieces(play, all_of_it, step) == all_of_it
    play.upstream(BOUND, NO_DATA, ROW, complete("SELECT 1"), IDLE)
    parse, *rest = play.recorded("statement")
    assert parse["protocol"] == "parse"
    executed = rest[-1]
    assert (executed["sql"], executed["params"], executed["protocol"]) == ("select $1", None, "extended")
    assert executed["reason"].endswith(not_kept(bind))
    assert (executed["name"], executed["portal"]) == ("s", "p")
    assert play.outcomes()[-1] == (executed["n"], 1, None, "SELECT 1")


@pytest.mark.parametrize("step", [1_000_000, 100])
def test_a_long_bind_waits_until_it_is_known_what_its_statement_is(play: Playbook, step: int) -> None:
    play.client(build.parse(b"s", b"select $1 as old"), SYNC)
    play.upstream(PARSED, IDLE)
    play.client(build.parse(b"s", b"select $1 as new"), SYNC)
    play.to_upstream.take()
    long = build.bind(b"", b"s", [LONG[:5_000]])
    assert pieces(play, long + build.execute() + SYNC, step) == b""
    play.upstream(error("42P05"), IDLE)
    assert play.to_upstream.take() == long + build.execute() + SYNC
    assert play.recorded("statement")[-1]["sql"] == "select $1 as old"


def test_a_long_parse_passes_and_what_runs_it_says_so(play: Playbook) -> None:
    parse = build.parse(b"s", b"select '" + LONG + b"'")
    play.client(parse, build.bind(b"", b"s"), build.execute(), SYNC)
    play.upstream(PARSED, BOUND, ROW, complete("SELECT 1"), IDLE)
    (statement,) = play.recorded("statement")
    assert (statement["sql"], statement["name"], statement["reason"]) == ("", "s", not_kept(parse))
    assert play.client_heard()[-1] == "Ready I"


def test_a_long_function_call_passes(play: Playbook) -> None:
    call = build.message(b"F", b"\0\0\3\xbb" + LONG)
    assert pieces(play, call, 50_000) == call
    play.upstream(RESULT, IDLE)
    (statement,) = play.recorded("statement")
    assert (statement["sql"], statement["protocol"]) == ("function oid 955", "function")
    assert statement["reason"] == not_kept(call)
    assert play.client_heard() == ["FunctionResult", "Ready I"]


def test_what_the_server_skips_is_not_recorded(play: Playbook) -> None:
    bind = build.bind(b"", b"s", [LONG])
    play.client(build.parse(b"s", b"selec"), build.message(b"H", b""), bind[:10_000])
    play.upstream(error("42601"))
    play.client(bind[10_000:], build.execute())
    play.client(SYNC)
    play.upstream(IDLE)
    assert play.client_heard() == ["ERROR 42601", "Ready I"]
    assert [s["protocol"] for s in play.recorded("statement")] == ["parse"]
    play.client(build.query(b"select 1"))
    play.upstream(select(1))
    assert play.client_heard()[-1] == "Ready I"


def test_a_long_query_may_have_changed_any_name(play: Playbook) -> None:
    play.client(build.parse(b"s", b"select 1"), SYNC)
    play.upstream(PARSED, IDLE)
    play.client(build.query(b"deallocate s; prepare s as delete from t; select '" + LONG + b"'"))
    play.upstream(complete("DEALLOCATE"), complete("PREPARE"), select(1))
    play.client(build.bind(b"", b"s"), build.execute(), SYNC)
    play.upstream(BOUND, complete("DELETE 3"), IDLE)
    last = play.recorded("statement")[-1]
    assert (last["sql"], last["rule"], last["name"]) == ("", "observe.name", "s")


def test_a_long_query_that_fails_has_changed_none(play: Playbook) -> None:
    play.client(build.parse(b"s", b"select 1"), SYNC)
    play.upstream(PARSED, IDLE)
    play.client(build.query(b"select '" + LONG))
    play.upstream(error("42601"), IDLE)
    play.client(build.bind(b"", b"s"), build.execute(), SYNC)
    assert play.recorded("statement")[-1]["sql"] == "select 1"


def test_names_that_do_not_end_are_refused_after_all(play: Playbook) -> None:
    play.client(build.bind(b"p" * 20_000, b"s", [LONG]))
    assert play.client_heard() == ["ERROR 54000"]
    assert play.to_upstream.take() == b""


def test_under_a_policy_nothing_of_it_passes(make_play: Callable[..., Playbook]) -> None:
    play = make_play(READER, bounds=BOUNDS)
    play.client(build.query(b"select '" + LONG + b"'"))
    assert play.client_heard() == ["ERROR 54000", "Ready I"]
    assert play.to_upstream.take() == b""


def test_what_was_prepared_unread_does_not_run_when_the_policy_begins_to_refuse(
    play: Playbook, make_judge: Callable[[str], Judge]
) -> None:
    play.client(build.parse(b"s", b"select '" + LONG + b"'"), SYNC)
    play.upstream(PARSED, IDLE)
    play.to_upstream.take()
    play.relay.rejudge(make_judge(READER))
    play.client(build.bind(b"", b"s"), build.execute(), SYNC)
    assert play.upstream_heard() == ["Sync"]
    play.upstream(IDLE)
    assert play.client_heard()[-2:] == ["ERROR 26000", "Ready I"]


def test_the_oldest_names_are_forgotten_where_none_may_be_refused(play: Playbook) -> None:
    for n in range(MOST_NAMES + 10):
        play.client(build.parse(b"s%d" % n, b"select %d" % n), SYNC)
        play.upstream(PARSED, IDLE)
    assert "ERROR 53400" not in play.client_heard()
    assert len(play.relay.talk.names.statements) == MOST_NAMES
    for name in (b"s0", b"s%d" % (MOST_NAMES + 9)):
        play.client(build.bind(b"", name), build.execute(), SYNC)
        play.upstream(BOUND, ROW, complete("SELECT 1"), IDLE)
    forgotten, known = play.recorded("statement")[-2:]
    assert (forgotten["sql"], forgotten["name"], forgotten["rule"]) == ("", "s0", "observe.name")
    assert known["sql"] == f"select {MOST_NAMES + 9}"


def test_copy_data_flows_both_ways_in_a_replication_stream(play: Playbook) -> None:
    play.client(build.query(b"START_REPLICATION 0/0"))
    play.upstream(BOTH, build.message(b"d", b"k"))
    play.to_upstream.take()
    play.client(build.message(b"d", b"r"))
    assert play.upstream_heard() == ["CopyData"]
    play.client(build.message(b"c", b""))
    assert play.upstream_heard() == ["CopyDone"]
    play.upstream(build.message(b"c", b""), complete("COPY 0"), IDLE)
    play.client(build.query(b"IDENTIFY_SYSTEM"))
    play.upstream(select(1))
    assert play.client_heard()[-1] == "Ready I"


def test_after_a_copy_that_failed_in_the_simple_protocol_a_sync_is_answered(play: Playbook) -> None:
    play.client(build.query(b"copy t from stdin"))
    play.upstream(WAIT)
    play.client(build.message(b"d", b"not a number\n"))
    play.upstream(error("22P02"), FAILED)
    play.client(build.parse(b"", b"rollback"), build.bind(b"", b""), build.execute(), SYNC)
    play.upstream(PARSED, BOUND, complete("ROLLBACK"), IDLE)
    assert play.client_heard()[-1] == "Ready I"
    assert not play.relay.ended


DATA, DONE = build.message(b"d", b"1\n"), build.message(b"c", b"")


@pytest.mark.parametrize("size", [2, 20_000])
def test_copy_data_may_come_before_the_server_has_asked_for_it(play: Playbook, size: int) -> None:
    play.client(build.query(b"copy t from stdin"), build.message(b"d", b"1" * size), DONE)
    assert play.upstream_heard() == ["Query copy t from stdin", "CopyData", "CopyDone"]
    play.upstream(WAIT, complete("COPY 1"), IDLE)
    play.client(build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute(), SYNC)
    play.upstream(PARSED, BOUND, ROW, complete("SELECT 1"), IDLE)
    assert play.client_heard()[-1] == "Ready I"
    assert play.outcomes()[0] == (1, 0, None, "COPY 1")


def test_of_the_syncs_only_those_before_the_end_of_copy_data_earn_nothing(play: Playbook) -> None:
    copy = (build.parse(b"", b"copy t from stdin"), build.bind(b"", b""), build.execute())
    play.client(*copy, SYNC, DATA, SYNC, DONE, SYNC, build.query(b"select 1"))
    play.upstream(PARSED, BOUND, WAIT, complete("COPY 1"), IDLE, select(1))
    assert play.client_heard()[-1] == "Ready I"
    assert not play.relay.busy
    assert not play.relay.ended


def test_two_copies_in_one_query_have_an_end_each(play: Playbook) -> None:
    play.client(build.query(b"copy t from stdin; copy t from stdin"), DATA, DONE, DATA)
    play.upstream(WAIT, complete("COPY 1"), WAIT)
    play.client(SYNC, DONE, SYNC)
    play.upstream(complete("COPY 1"), IDLE, IDLE)
    assert play.client_heard()[-2:] == ["Ready I", "Ready I"]
    assert not play.relay.busy


def test_copy_data_for_a_copy_that_never_began_is_forgotten(play: Playbook) -> None:
    play.client(build.query(b"copy nothing from stdin"), DATA, DONE, build.query(b"copy t from stdin"))
    play.upstream(error("42P01"), IDLE, WAIT)
    play.client(SYNC, DATA, DONE, SYNC)
    play.upstream(complete("COPY 1"), IDLE, IDLE)
    assert not play.relay.busy
    assert not play.relay.ended


def test_ends_of_copy_data_are_bounded(play: Playbook) -> None:
    play.client(build.query(b"select 1"), *[DONE] * 1000)
    assert play.relay.reason == "protocol"
