"""Limits on what a statement, a session and a grant may take, to the row; and on statements a minute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.model import Limits
from proxy.session.budget import Meter, Spent
from proxy.session.talk import Aids
from proxy.wire import build, framing
from proxy.wire.client import STATEMENT
from proxy.wire.ledger import QUERY, Owed
from tests.session.conftest import READER
from tests.session.playbook import (
    BOUND,
    CLOSED,
    COLUMNS,
    FAILED,
    IDLE,
    IN_BLOCK,
    PARSED,
    ROW,
    Playbook,
    complete,
    error,
    select,
)

Make = Callable[..., Playbook]


def limited(**limits: object) -> str:
    inner = ", ".join(f"{name}: {value}" for name, value in limits.items())
    return f"{READER}limits: {{{inner}}}\n"


def test_a_statement_gets_exactly_its_rows_and_is_cancelled(make_play: Make) -> None:
    play = make_play(limited(rows_per_statement=3))
    play.client(build.query(b"select 1"))
    play.upstream(COLUMNS + ROW * 5)
    assert play.client_heard() == ["RowDescription", "DataRow", "DataRow", "DataRow", "ERROR 53400"]
    assert len(play.cancels) == 1
    assert play.to_client.held, "the next statement must not be hit by this cancel"
    play.upstream(ROW * 50, error("57014"), IDLE)
    assert play.client_heard() == ["Ready I"]
    play.cancels[0]()
    assert not play.to_client.__dict__["held"]
    assert play.outcomes() == [(1, 3, "53400", None)]
    assert play.recorded("notice")[0]["sqlstate"] == "53400"
    play.client(build.query(b"select 1"))
    play.upstream(select(3))
    assert play.client_heard() == ["RowDescription", *["DataRow"] * 3, "Complete SELECT 3", "Ready I"]


def test_behind_a_cancel_that_comes_too_late_a_name_means_what_the_server_has_under_it(make_play: Make) -> None:
    play = make_play(limited(rows_per_statement=1))
    play.client(build.parse(b"a", b"select name from orders"), build.SYNC)
    play.upstream(PARSED, IDLE)
    play.client(build.query(b"select 1; deallocate a; prepare a as select 2"))
    play.upstream(COLUMNS + ROW * 2 + complete("SELECT 2") + complete("DEALLOCATE") + complete("PREPARE") + IDLE)
    play.cancels[0]()
    play.upstream_heard()
    play.client_heard()
    play.client(build.bind(b"", b"a"), build.execute(), build.SYNC)
    assert play.upstream_heard() == ["Bind |a", "Execute ", "Sync"]
    assert play.recorded("statement")[-1]["sql"] == "prepare a as select 2", "what the server has prepared all the same"


def test_a_cancel_that_comes_too_late_changes_nothing_for_the_client(make_play: Make) -> None:
    play = make_play(limited(rows_per_statement=1))
    play.client(build.query(b"begin; select 1; select 2"))
    play.upstream(complete("BEGIN"), COLUMNS + ROW * 2 + complete("SELECT 2") + select(7)[:-6] + IN_BLOCK)
    assert play.client_heard() == ["Complete BEGIN", "RowDescription", "DataRow", "ERROR 53400", "Ready T"]
    assert play.outcomes() == [(1, 0, None, "BEGIN"), (2, 1, "53400", None), (3, 0, "53400", None)]


def test_in_the_extended_protocol_all_up_to_the_sync_is_skipped(make_play: Make) -> None:
    play = make_play(limited(rows_per_statement=2))
    batch = [build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute()]
    play.client(*batch, *batch, build.message(b"S", b""))
    play.upstream(PARSED, BOUND, ROW * 3)
    assert play.client_heard() == ["ParseComplete", "BindComplete", "DataRow", "DataRow", "ERROR 53400"]
    play.upstream(ROW * 3, complete("SELECT 6"), PARSED, BOUND, ROW, complete("SELECT 1"), IDLE)
    assert play.client_heard() == ["Ready I"]


def test_after_a_flush_the_client_s_messages_are_skipped_until_its_sync(make_play: Make) -> None:
    play = make_play(limited(rows_per_statement=2))
    batch = [build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute()]
    play.client(*batch, build.message(b"H", b""))
    play.upstream(PARSED, BOUND, ROW * 3)
    play.upstream_heard()
    play.client(*batch)
    assert play.upstream_heard() == []
    play.client(build.message(b"S", b""))
    assert play.upstream_heard() == ["Sync"]
    play.upstream(error("57014"), FAILED)
    assert play.client_heard()[-2:] == ["ERROR 53400", "Ready E"]


def test_behind_a_limit_what_was_refused_later_is_still_skipped(make_play: Make) -> None:
    play = make_play(limited(rows_per_statement=1))
    run = build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute()
    play.client(*run, build.SYNC, build.parse(b"", b"delete from orders"))
    play.upstream(PARSED + BOUND + ROW * 2)
    play.cancels[0]()
    play.upstream(error("57014"), IDLE)
    play.upstream_heard()
    play.client(*run, build.SYNC)
    assert play.upstream_heard() == ["Sync"]
    play.upstream(IDLE)
    assert play.client_heard()[2:] == ["DataRow", "ERROR 53400", "Ready I", "ERROR 42501", "Ready I"]


def test_the_client_waits_for_the_last_of_several_cancels(make_play: Make) -> None:
    play = make_play(limited(rows_per_statement=1))
    play.client(build.query(b"select 1"), build.query(b"select 1"))
    play.upstream(*[COLUMNS + ROW * 2, error("57014"), IDLE] * 2)
    first, second = play.cancels
    first()
    assert play.to_client.held
    second()
    assert not play.to_client.__dict__["held"]


def test_a_long_row_is_not_begun_where_it_does_not_fit(make_play: Make) -> None:
    play = make_play(limited(bytes_per_statement="100KiB"))
    long = build.message(b"D", b"\0\1" + (90_000).to_bytes(4, "big") + b"x" * 90_000)
    play.client(build.query(b"select 1"))
    play.upstream(COLUMNS + long + long[:70_000])
    play.upstream(long[70_000:] + ROW)
    play.upstream(error("57014"), IDLE)
    assert play.client_heard() == ["RowDescription", "DataRow", "ERROR 53400", "Ready I"]
    assert play.outcomes()[0][1] == 1


def test_what_a_grant_has_spent_counts_in_its_next_session(make_play: Make) -> None:
    spent = Spent()
    policy = limited(rows_per_grant=4)
    for rows, heard in ((3, 3), (3, 1)):
        play = make_play(policy, aids=Aids(spent=spent))
        play.client(build.query(b"select 1"))
        play.upstream(COLUMNS + ROW * rows + complete(f"SELECT {rows}") + IDLE)
        assert play.client_heard().count("DataRow") == heard
    play = make_play(policy, aids=Aids(spent=spent))
    play.client(build.query(b"begin"))
    assert play.upstream_heard() == ["Query begin"]
    play.upstream(complete("BEGIN"), IN_BLOCK)
    play.client(build.query(b"select 1"))
    assert play.upstream_heard() == []
    assert play.client_heard()[-2:] == ["ERROR 53400", "Ready T"]
    assert play.recorded("statement")[-1]["verdict"] == "deny"
    assert play.recorded("statement")[-1]["rule"] == "limit.rows"
    play.client(build.query(b"rollback"))
    assert play.upstream_heard() == ["Query rollback"], "the way out of a transaction is always open"


def test_a_session_s_budget_is_its_own(make_play: Make) -> None:
    spent = Spent()
    for _ in range(2):
        play = make_play(limited(rows_per_session=2), aids=Aids(spent=spent))
        play.client(build.query(b"select 1"))
        play.upstream(select(2))
        assert play.client_heard().count("DataRow") == 2
        play.client(build.query(b"select 1"))
        assert play.client_heard() == ["ERROR 53400", "Ready I"]


def test_statements_a_minute(make_play: Make) -> None:
    play = make_play(limited(statements_per_minute=2))
    for expected in (True, True, False):
        play.client(build.query(b"select 1"))
        assert bool(play.upstream_heard()) is expected
        if expected:
            play.upstream(select(1))
    assert play.client_heard()[-2:] == ["ERROR 53400", "Ready I"]
    assert play.recorded("statement")[-1]["rule"] == "limit.rate"
    play.clock.advance(29)
    play.client(build.query(b"select 1"))
    assert play.upstream_heard() == []
    play.clock.advance(2)
    play.client(build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute(), build.message(b"S", b""))
    assert play.upstream_heard() == ["Parse |select 1", "Bind |", "Execute ", "Sync"]
    play.upstream(PARSED, BOUND, ROW, complete("SELECT 1"), IDLE)
    play.client(build.bind(b"", b""), build.execute(), build.message(b"S", b""))
    assert play.upstream_heard() == ["Bind |", "Flush", "Sync"]
    play.upstream(BOUND, IDLE)
    assert play.client_heard()[-3:] == ["BindComplete", "ERROR 53400", "Ready I"]


def test_observe_limits_nothing(make_play: Make) -> None:
    play = make_play("name: w\nmode: observe\ndatabases: [shop]\nlimits: {rows_per_statement: 1}\n", observe=True)
    play.client(build.query(b"select 1"))
    play.upstream(select(5))
    assert play.client_heard().count("DataRow") == 5


sizes = st.lists(st.integers(0, 40), max_size=60)


@given(sizes, st.integers(1, 30) | st.none(), st.integers(20, 900) | st.none(), st.data())
def test_chunks_are_counted_as_single_rows_would_be(
    rows: list[int], most: int | None, octets: int | None, data: st.DataObject
) -> None:
    """However the rows are cut into chunks, as many pass as one by one."""
    limits = Limits.model_construct(rows_per_statement=most, bytes_per_grant=octets)
    one, many = Meter(limits, Spent()), Meter(limits, Spent())
    entry, other = Owed(QUERY), Owed(QUERY)
    for size in rows:
        if one.take(entry, 1, size) is not None:
            break
    left = list(rows)
    while left:
        count = data.draw(st.integers(1, len(left)))
        chunk, left = left[:count], left[count:]
        if many.take(other, len(chunk), sum(chunk)) is not None:
            for size in chunk:
                if many.take(other, 1, size) is not None:
                    break
            break
    assert (entry.rows, entry.octets, one.spent.rows) == (other.rows, other.octets, many.spent.rows)


def test_the_budget_in_words() -> None:
    limits = Limits(rows_per_statement=10, bytes_per_grant=1 << 30, statements_per_minute=120, plan_cost=1e6)
    assert Meter(limits, Spent(octets=12_345)).lines() == [
        "rows: at most 10 for each statement",
        "bytes: 12.1 KiB of 1GiB used by this grant",
        "statements: at most 120 a minute",
        "plan cost: at most 1,000,000 for each statement",
    ]
    assert Meter(Limits(), Spent()).lines() == ["no limit on rows or bytes"]


@pytest.mark.parametrize("name", ["daypass.scope", "daypass.expires", "daypass.budget"])
def test_show_is_run_upstream_and_answered_here(make_play: Make, name: str) -> None:
    play = make_play(READER, aids=Aids(own=lambda asked: f"the {asked}"))
    play.client(build.query(f"SHOW {name}".encode()))
    assert play.upstream_heard() == [f"Query  SELECT ''::pg_catalog.text AS \"{name}\""]
    play.upstream(COLUMNS + build.text_row("") + complete("SELECT 1") + IDLE)
    rows = [body for kind, body in _messages(play.to_client.take()) if kind == ord("D")]
    assert rows == [build.text_row(f"the {name}")[5:]]


def test_an_unknown_setting_of_ours_is_refused(play: Playbook) -> None:
    play.client(build.query(b"SHOW daypass.bugdet"))
    assert play.upstream_heard() == []
    assert play.client_heard() == ["ERROR 42501", "Ready I"]


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    return [(kind, data[start:stop]) for kind, start, stop in framing.spans(data)]


def test_what_the_server_did_behind_a_limit_is_what_names_mean(make_play: Callable[..., Playbook]) -> None:
    """The cancel comes too late: what followed in the pipeline was carried out, and only its answers are not told."""
    play = make_play(limited(rows_per_statement=2))
    play.client(build.parse(b"p", b"select 1"), build.SYNC)
    play.upstream(PARSED, IDLE)
    ask = build.parse(b"", b"select id from products"), build.bind(b"", b""), build.execute()
    play.client(*ask, build.close(STATEMENT, b"p"), build.parse(b"p", b"select 2"), build.SYNC)
    play.client_heard()
    play.upstream(PARSED, BOUND, ROW * 9, complete("SELECT 9"), CLOSED, PARSED, IDLE)
    heard = play.client_heard()
    assert heard[-2:] == ["ERROR 53400", "Ready I"]
    assert "CloseComplete" not in heard
    for done in play.cancels:
        done()
    play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
    assert play.recorded("statement")[-1]["sql"] == "select 2"
    play.upstream(BOUND, ROW, complete("SELECT 1"), IDLE)
    assert play.client_heard() == ["BindComplete", "DataRow", "Complete SELECT 1", "Ready I"]


def test_a_refusal_behind_a_limit_is_not_told_and_one_behind_the_sync_is(make_play: Callable[..., Playbook]) -> None:
    play = make_play(limited(rows_per_statement=2))
    ask = build.parse(b"", b"select id from products"), build.bind(b"", b""), build.execute()
    play.client(*ask, build.parse(b"", b"delete from orders"), build.SYNC, build.query(b"delete from orders"))
    play.upstream(PARSED, BOUND, ROW * 9)
    play.upstream(complete("SELECT 9"), IDLE)
    assert [word for word in play.client_heard() if word[:5] in ("ERROR", "Ready")] == [
        "ERROR 53400", "Ready I", "ERROR 42501", "Ready I",
    ]  # fmt: skip
