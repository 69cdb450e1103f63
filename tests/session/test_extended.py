"""The extended protocol: names, values, denials inside pipelines, errors that skip, portals that pause.

Covers proxy/session/names.py, proxy/session/naming.py and proxy/session/answers.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.policy.judge import Judge
from proxy.wire import build
from proxy.wire.client import PORTAL, STATEMENT
from tests.session.conftest import NARROW, OTHER_COLUMNS, WATCHER
from tests.session.playbook import (
    BOUND,
    CLOSED,
    COLUMNS,
    FAILED,
    IDLE,
    IN_BLOCK,
    NO_DATA,
    PARSED,
    ROW,
    SUSPENDED,
    Playbook,
    complete,
    error,
    types,
)

ASK = build.parse(b"", b"select name from orders where id = $1"), build.bind(b"", b"", [b"7"]), build.execute()
ALLOWED = build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute()
DENIED = build.parse(b"", b"delete from orders"), build.bind(b"", b""), build.execute()
COPY_IN = build.message(b"G", b"\0\0\0")
WENT_WELL = PARSED + BOUND + ROW + complete("SELECT 1")


def test_parse_bind_execute_is_one_statement_with_its_values(play: Playbook) -> None:
    play.client(*ASK, build.SYNC)
    assert play.upstream_heard() == ["Parse |select name from orders where id = $1", "Bind |", "Execute ", "Sync"]
    (line,) = play.recorded("statement")
    assert (line["sql"], line["params"], line["protocol"]) == (
        "select name from orders where id = $1",
        ["7"],
        "extended",
    )
    play.upstream(PARSED, BOUND, ROW, ROW, complete("SELECT 2"), IDLE)
    assert play.outcomes() == [(1, 2, None, "SELECT 2")]


def test_a_parse_that_is_not_executed_at_once_is_recorded_before_it_is_sent(play: Playbook) -> None:
    play.client(build.parse(b"p", b"select 1"), build.describe(STATEMENT, b"p"), build.FLUSH)
    assert [line["protocol"] for line in play.recorded("statement")] == ["parse"]
    play.upstream(PARSED, types(), NO_DATA)
    play.client(build.bind(b"", b"p"), build.SYNC)
    play.upstream(BOUND, IDLE)
    play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
    assert [line["protocol"] for line in play.recorded("statement")] == ["parse", "bind", "extended"]


def test_types_that_the_server_tells_decode_later_values(play: Playbook) -> None:
    play.client(
        build.parse(b"p", b"select name from orders where id = $1"), build.describe(STATEMENT, b"p"), build.SYNC
    )
    play.upstream(PARSED, types(20), COLUMNS, IDLE)
    play.client(build.bind(b"", b"p", [(4711).to_bytes(8, "big")], [1]), build.execute(), build.SYNC)
    assert play.recorded("statement")[-1]["params"] == [4711]


def test_a_denied_parse_is_answered_and_everything_up_to_sync_is_skipped(play: Playbook) -> None:
    play.client(*DENIED, *ALLOWED, build.SYNC)
    assert play.upstream_heard() == ["Sync"]
    assert play.client_heard() == ["ERROR 42501"]
    play.upstream(IN_BLOCK)
    assert play.client_heard() == ["Ready T"]
    assert [(line["verdict"], line["protocol"]) for line in play.recorded("statement")] == [("deny", "parse")]


def test_a_denial_in_a_pipeline_waits_its_turn_and_a_flush_fetches_what_is_owed(play: Playbook) -> None:
    play.client(*ALLOWED, *DENIED)
    assert play.upstream_heard() == ["Parse |select 1", "Bind |", "Execute ", "Flush"]
    assert play.client_heard() == []
    play.upstream(PARSED, BOUND)
    assert play.client_heard() == ["ParseComplete", "BindComplete"]
    play.upstream(ROW, complete("SELECT 1"))
    assert play.client_heard() == ["DataRow", "Complete SELECT 1", "ERROR 42501"]
    play.client(build.SYNC)
    play.upstream(IDLE)
    assert play.client_heard() == ["Ready I"]


def test_a_denial_between_two_syncs(play: Playbook) -> None:
    play.client(*ALLOWED, build.SYNC, *DENIED, build.SYNC, *ALLOWED, build.SYNC)
    once = ["Parse |select 1", "Bind |", "Execute ", "Sync"]
    assert play.upstream_heard() == [*once, "Sync", *once]
    play.upstream(WENT_WELL, IDLE, IDLE, WENT_WELL, IDLE)
    well = ["ParseComplete", "BindComplete", "DataRow", "Complete SELECT 1", "Ready I"]
    assert play.client_heard() == [*well, "ERROR 42501", "Ready I", *well]


def test_an_upstream_error_swallows_the_denial_behind_it_as_postgres_would(play: Playbook) -> None:
    play.client(*ALLOWED, *DENIED, build.SYNC)
    assert play.upstream_heard() == ["Parse |select 1", "Bind |", "Execute ", "Flush", "Sync"]
    play.upstream(PARSED, BOUND, error("22012"), IDLE)
    assert play.client_heard() == ["ParseComplete", "BindComplete", "ERROR 22012", "Ready I"]
    assert sorted(play.outcomes()) == [(1, 0, "22012", None), (2, 0, "42501", None)]


def test_after_an_upstream_error_nothing_is_judged_recorded_or_sent_until_sync(play: Playbook) -> None:
    play.client(*ALLOWED, build.FLUSH)
    play.upstream(error("42703"))
    play.upstream_heard()
    play.client(*DENIED, *ALLOWED, build.query(b"select 2"))
    assert play.upstream_heard() == []
    assert len(play.recorded("statement")) == 1
    play.client(build.SYNC)
    assert play.upstream_heard() == ["Sync"]
    play.upstream(IDLE)
    assert play.client_heard() == ["ERROR 42703", "Ready I"]


def test_statements_that_the_upstream_skips_are_recorded_as_failed(play: Playbook) -> None:
    play.client(*ALLOWED, *ALLOWED, build.SYNC)
    play.upstream(error("22012"), IDLE)
    assert play.outcomes() == [(1, 0, "22012", None), (2, 0, "22012", None)]


def test_a_suspended_portal_goes_on_as_a_fetch(play: Playbook) -> None:
    ask = build.parse(b"", b"select name from products"), build.bind(b"c", b""), build.execute(b"c", 2)
    play.client(*ask, build.FLUSH)
    play.upstream(PARSED, BOUND, ROW, ROW, SUSPENDED)
    play.client(build.execute(b"c", 2), build.SYNC)
    play.upstream(ROW, complete("SELECT 1"), IDLE)
    assert [(line["kind"], line["portal"]) for line in play.recorded("statement")] == [("select", "c"), ("fetch", "c")]
    assert play.outcomes() == [(1, 2, None, "SUSPENDED"), (2, 1, None, "SELECT 1")]


def test_what_has_no_name_here_is_not_run(play: Playbook) -> None:
    play.client(build.bind(b"", b"ghost"), build.execute(), build.SYNC)
    assert play.upstream_heard() == ["Sync"]
    assert play.client_heard() == ["ERROR 26000"]
    play.upstream(IDLE)
    play.client(build.execute(b"ghost"), build.SYNC)
    assert play.client_heard() == ["Ready I", "ERROR 34000"]
    assert [line["rule"] for line in play.recorded("statement")] == ["name", "name"]


def prepare(play: Playbook, name: bytes, sql: bytes) -> None:
    play.client(build.parse(name, sql), build.SYNC)
    play.upstream(PARSED, IDLE)
    play.client_heard(), play.upstream_heard()


def run(play: Playbook, name: bytes) -> str:
    """The text that the record says ran under this name."""
    play.client(build.bind(b"", name), build.execute(), build.SYNC)
    return str(play.recorded("statement")[-1]["sql"])


def test_a_name_whose_new_text_fails_upstream_keeps_its_old_one(play: Playbook) -> None:
    prepare(play, b"p", b"select 1")
    play.client(build.parse(b"p", b"select 2"), build.SYNC)
    play.upstream(error("42P05"), IDLE)
    assert run(play, b"p") == "select 1"


def test_a_close_that_the_upstream_skips_did_not_happen(play: Playbook) -> None:
    prepare(play, b"p", b"select 1")
    play.client(build.bind(b"", b"p"), build.execute(), build.close(STATEMENT, b"p"), build.parse(b"p", b"select 2"))
    play.client(build.SYNC)
    play.upstream(BOUND, error("22012"), IDLE)
    assert run(play, b"p") == "select 1"


def test_a_failure_does_not_take_back_what_a_later_message_did(play: Playbook) -> None:
    play.client(build.parse(b"p", b"select 1"), build.SYNC, build.parse(b"p", b"select 2"), build.SYNC)
    play.upstream(error("53200"), IDLE, PARSED, IDLE)
    assert run(play, b"p") == "select 2"


def test_two_failures_in_a_row_go_back_to_the_very_beginning(play: Playbook) -> None:
    prepare(play, b"p", b"select 0")
    play.client(build.parse(b"p", b"select 1"), build.SYNC, build.parse(b"p", b"select 2"), build.SYNC)
    play.upstream(error("42P05"), IDLE, error("42P05"), IDLE)
    assert run(play, b"p") == "select 0"


def test_names_that_agree_in_63_bytes_are_one_name_as_in_postgres(play: Playbook) -> None:
    prepare(play, b"n" * 63 + b"a", b"select 1")
    assert run(play, b"n" * 63 + b"b") == "select 1"


def test_a_failed_unnamed_parse_leaves_nothing_behind(play: Playbook) -> None:
    prepare(play, b"", b"select 1")
    play.client(build.parse(b"", b"select 2"), build.SYNC)
    play.upstream(error("42601"), IDLE)
    play.client_heard()
    play.client(build.bind(b"", b""), build.execute(), build.SYNC)
    assert play.client_heard() == ["ERROR 26000"]


def test_sql_and_wire_share_their_names(play: Playbook) -> None:
    prepare(play, b"by_wire", b"select 1")
    play.client(build.query(b"execute by_wire"))
    assert play.upstream_heard() == ["Query execute by_wire"]
    play.upstream(COLUMNS, ROW, complete("SELECT 1"), IDLE)
    play.client(build.query(b"prepare by_sql as select 2"))
    play.upstream(complete("PREPARE"), IDLE)
    assert run(play, b"by_sql") == "prepare by_sql as select 2"
    play.upstream(BOUND, ROW, complete("SELECT 1"), IDLE)
    play.client(build.query(b"deallocate all"))
    play.upstream(complete("DEALLOCATE ALL"), IDLE)
    play.client_heard()
    play.client(build.query(b"execute by_wire"))
    assert play.client_heard() == ["ERROR 26000", "Ready I"]


def test_a_prepare_that_succeeded_before_the_failing_statement_stays(play: Playbook) -> None:
    play.client(build.query(b"prepare a as select 1; select 1/0; prepare b as select 2"))
    play.upstream(complete("PREPARE"), error(), IDLE)
    play.client_heard(), play.upstream_heard()
    play.client(build.query(b"execute a"))
    assert play.upstream_heard() == ["Query execute a"]
    play.client(build.query(b"execute b"))
    assert play.upstream_heard() == []


def test_a_changed_policy_is_asked_again_before_a_prepared_statement_runs(
    play: Playbook, make_judge: Callable[[str], Judge]
) -> None:
    prepare(play, b"o", b"select * from orders")
    prepare(play, b"c", b"select * from customers")
    prepare(play, b"p", b"select * from products")
    play.client(build.query(b"prepare s as select * from orders"))
    play.upstream(complete("PREPARE"), IDLE)
    play.client_heard(), play.upstream_heard()
    play.relay.rejudge(make_judge(NARROW))
    play.client(build.bind(b"", b"o"), build.execute(), build.SYNC)
    assert (play.client_heard(), play.upstream_heard()) == (["ERROR 42501"], ["Sync"])
    play.upstream(IDLE)
    play.client_heard()
    play.client(build.query(b"execute s"))
    assert (play.client_heard(), play.upstream_heard()) == (["ERROR 42501", "Ready I"], [])
    play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
    assert play.upstream_heard() == ["Bind |p", "Execute ", "Sync"]
    play.upstream(BOUND, ROW, complete("SELECT 1"), IDLE)
    play.client_heard()
    play.relay.rejudge(make_judge(OTHER_COLUMNS))
    play.client(build.bind(b"", b"c"), build.execute(), build.SYNC)
    assert (play.client_heard(), play.upstream_heard()) == (["ERROR 0A000"], ["Sync"])
    assert play.recorded("statement")[-1]["rule"] == "name"


def test_an_open_portal_does_not_outlive_its_permission(play: Playbook, make_judge: Callable[[str], Judge]) -> None:
    play.client(build.query(b"begin"))
    play.upstream(complete("BEGIN"), IN_BLOCK)
    play.client(build.parse(b"", b"select * from orders"), build.bind(b"c", b""), build.execute(b"c", 1), build.SYNC)
    play.upstream(PARSED, BOUND, ROW, SUSPENDED, IN_BLOCK)
    play.client_heard(), play.upstream_heard()
    play.relay.rejudge(make_judge(NARROW))
    play.client(build.execute(b"c", 1), build.SYNC)
    assert play.client_heard() == ["ERROR 42501"]
    assert play.upstream_heard() == ["Sync"]


def test_names_are_bounded(play: Playbook) -> None:
    for number in range(5_000):
        play.client(build.parse(b"%d" % number, b"select 1"), build.SYNC)
        play.upstream(PARSED, IDLE)
    play.client_heard()
    play.client(build.parse(b"one more", b"select 1"), build.SYNC)
    assert play.client_heard() == ["ERROR 53400"]
    assert len(play.relay.talk.names.statements) == 5_000
    assert not play.relay.ended


def test_describe_close_and_flush_pass(play: Playbook) -> None:
    prepare(play, b"p", b"select 1")
    play.client(build.bind(b"c", b"p"), build.describe(PORTAL, b"c"), build.close(PORTAL, b"c"), build.FLUSH)
    assert play.upstream_heard() == ["Bind c|p", "Describe P|c", "Close P|c", "Flush"]
    play.upstream(BOUND, COLUMNS, CLOSED)
    assert play.client_heard() == ["BindComplete", "RowDescription", "CloseComplete"]


def test_copy_in_passes_in_observe_mode_and_its_syncs_earn_nothing(make_play: Callable[..., Playbook]) -> None:
    play = make_play(WATCHER, observe=True)
    play.client(build.parse(b"", b"copy t from stdin"), build.bind(b"", b""), build.execute(), build.SYNC)
    play.upstream(PARSED, BOUND, COPY_IN)
    assert play.client_heard() == ["ParseComplete", "BindComplete", "CopyIn"]
    play.upstream_heard()
    big = build.message(b"d", b"x" * 100_000)
    for start in range(0, len(big), 30_000):
        play.client(big[start : start + 30_000])
    assert play.to_upstream.data == big
    play.client(build.message(b"c", b""), build.SYNC)
    assert play.upstream_heard() == ["CopyData", "CopyDone", "Sync"]
    play.upstream(complete("COPY 1"), IDLE)
    assert play.client_heard() == ["Complete COPY 1", "Ready I"]


def test_a_name_whose_fate_is_open_is_not_used_behind_a_sync(play: Playbook) -> None:
    """The second Parse is skipped by the server, and the Bind behind the Sync finds the first: so must the record."""
    prepare(play, b"p", b"select name from orders")
    fails = build.parse(b"", b"select 1/0"), build.bind(b"", b""), build.execute()
    play.client(*fails, build.close(STATEMENT, b"p"), build.parse(b"p", b"select 2"), build.SYNC)
    play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
    assert "Execute " not in play.upstream_heard()[6:]
    assert play.to_client.held
    play.upstream(PARSED, BOUND, error(), IDLE)
    assert play.upstream_heard() == ["Bind |p", "Execute ", "Sync"]
    assert not play.to_client.__dict__["held"]
    assert play.recorded("statement")[-1]["sql"] == "select name from orders"


def test_a_name_that_the_server_has_confirmed_is_used_at_once(play: Playbook) -> None:
    play.client(build.parse(b"p", b"select 1"), build.SYNC)
    play.upstream(PARSED)
    play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
    assert play.upstream_heard()[2:] == ["Bind |p", "Execute ", "Sync"]


def test_an_executed_empty_text_is_recorded_as_it_was_sent(play: Playbook) -> None:
    play.client(build.parse(b"", b"-- nothing"), build.bind(b"", b""), build.execute(), build.SYNC)
    assert [line["sql"] for line in play.recorded("statement")] == ["-- nothing"]


def test_an_error_ends_copy_in_of_the_simple_protocol(make_play: Callable[..., Playbook]) -> None:
    play = make_play(WATCHER, observe=True)
    play.client(build.query(b"copy t from stdin"))
    play.upstream(build.message(b"G", b"\0\0\0"))
    play.client(build.message(b"d", b"no number\n"))
    play.upstream(error("22P02"), IDLE)
    play.client(*ALLOWED, build.SYNC)
    play.upstream(WENT_WELL, IDLE)
    assert not play.relay.ended
    assert play.client_heard()[-1] == "Ready I"


@pytest.mark.parametrize("message", [build.query(b"select 1"), build.message(b"F", bytes(10))], ids=["Query", "call"])
def test_a_statement_inside_of_copy_data_ends_the_session(make_play: Callable[..., Playbook], message: bytes) -> None:
    """Postgres takes it for the end of the data, in error, and never answers it: outcomes would be off by one."""
    later = make_play(WATCHER, observe=True)
    later.client(build.query(b"copy t from stdin"))
    later.upstream(COPY_IN)
    later.client(message)
    assert later.client_heard()[-1] == "FATAL 08P01"
    at_once = make_play(WATCHER, observe=True)
    at_once.client(build.query(b"copy t from stdin") + message)
    at_once.upstream(COPY_IN)
    assert at_once.client_heard()[-1] == "FATAL 08P01"


def test_a_query_drops_the_unnamed_portal_and_statement(play: Playbook) -> None:
    """An Execute of what a failed Query leaves behind would crash the server's backend."""
    play.client(build.query(b"begin"), *ALLOWED, build.SYNC)
    play.upstream(complete("BEGIN"), IN_BLOCK, WENT_WELL, IN_BLOCK)
    play.client(build.query(b"select 1/0"))
    play.upstream(error(), FAILED)
    play.client_heard(), play.upstream_heard()
    play.client(build.execute(), build.SYNC)
    assert play.upstream_heard() == ["Sync"]
    play.upstream(FAILED)
    assert play.client_heard() == ["ERROR 34000", "Ready E"]
    play.client(build.bind(b"", b""), build.SYNC)
    assert play.upstream_heard() == ["Sync"]


def test_observe_mode_asks_for_no_unnamed_portal_that_is_not_there(make_play: Callable[..., Playbook]) -> None:
    play = make_play(WATCHER, observe=True)
    play.client(build.execute(b"", 5), build.execute(b"a"), build.describe(ord("P")), build.SYNC)
    assert play.upstream_heard() == ["Execute  ", "Execute a", "Describe P| ", "Sync"]
    assert play.to_upstream.data == b""


def test_a_query_that_is_skipped_makes_no_names(play: Playbook) -> None:
    prepare(play, b"p", b"select 1")
    play.client(*ALLOWED, build.query(b"deallocate p; prepare p as select 2"), build.SYNC)
    play.upstream(error(), IDLE)
    assert run(play, b"p") == "select 1"


def test_a_bind_that_fails_leaves_no_unnamed_portal(play: Playbook) -> None:
    play.client(build.query(b"begin"), *ALLOWED, build.SYNC)
    play.upstream(complete("BEGIN"), IN_BLOCK, WENT_WELL, IN_BLOCK)
    play.client(build.parse(b"", b"select 1/0"), build.bind(b"", b""), build.SYNC)
    play.upstream(PARSED, error(), FAILED)
    play.client_heard(), play.upstream_heard()
    play.client(build.execute(), build.SYNC)
    assert play.upstream_heard() == ["Sync"]
