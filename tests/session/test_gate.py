"""The simple protocol, lengths and odd messages at the client's lane.

Covers proxy/session/simple.py too.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from typing import Any

import pytest

from proxy.session.gate import Bounds
from proxy.session.talk import Aids
from proxy.wire import build
from tests.session.conftest import WATCHER
from tests.session.playbook import (
    BOUND,
    COLUMNS,
    EMPTY,
    IDLE,
    IN_BLOCK,
    PARSED,
    ROW,
    Playbook,
    complete,
    error,
    select,
)


def test_an_allowed_statement_passes_unchanged_and_is_recorded_before_it_is_sent(play: Playbook) -> None:
    message = build.query(b"select name from products -- as it was typed")
    play.client(message)
    assert play.to_upstream.data == message
    (line,) = play.recorded("statement")
    assert (line["n"], line["verdict"], line.get("protocol", "simple")) == (1, "allow", "simple")
    play.upstream(select(3))
    assert play.client_heard() == ["RowDescription", *["DataRow"] * 3, "Complete SELECT 3", "Ready I"]
    assert play.outcomes() == [(1, 3, None, "SELECT 3")]


def test_a_denied_statement_is_answered_here_and_never_sent(play: Playbook) -> None:
    play.client(build.query(b"delete from orders"))
    assert play.upstream_heard() == []
    assert play.client_heard() == ["ERROR 42501", "Ready I"]
    assert [line["verdict"] for line in play.recorded("statement")] == ["deny"]
    assert play.outcomes() == [(1, 0, "42501", None)]
    assert not play.relay.ended


def test_one_denied_statement_stops_all_of_its_message(play: Playbook) -> None:
    play.client(build.query(b"select 1; select * from hr.salaries; select 2"))
    assert play.upstream_heard() == []
    assert play.client_heard() == ["ERROR 42501 at 25", "Ready I"]
    assert [line["sql"] for line in play.recorded("statement")] == [
        "select 1",
        "select * from hr.salaries",
        "select 2",
    ]
    assert [code for _, _, code, _ in play.outcomes()] == ["42501"] * 3


def test_several_statements_in_one_message_each_get_their_outcome(play: Playbook) -> None:
    play.client(build.query(b"select 1; select 2; select 1/0; select 3"))
    play.upstream(COLUMNS, ROW, complete("SELECT 1"), COLUMNS, ROW * 2, complete("SELECT 2"), error(), IDLE)
    assert play.outcomes() == [
        (1, 1, None, "SELECT 1"),
        (2, 2, None, "SELECT 2"),
        (3, 0, "22012", None),
        (4, 0, "22012", None),
    ]


def test_a_denial_tells_the_true_state_of_the_transaction(play: Playbook) -> None:
    play.client(build.query(b"begin"))
    play.upstream(complete("BEGIN"), IN_BLOCK)
    play.client_heard()
    play.client(build.query(b"drop table app.orders"))
    assert play.client_heard() == ["ERROR 42501", "Ready T"]
    assert play.recorded("statement")[-1]["tx"] == "T"


def test_a_denial_behind_a_running_statement_waits_for_it(play: Playbook) -> None:
    play.client(build.query(b"select 1"), build.query(b"delete from orders"), build.query(b"select 2"))
    assert play.upstream_heard() == ["Query select 1", "Query select 2"]
    assert play.client_heard() == []
    play.upstream(select(1)[:-6])
    assert play.client_heard() == ["RowDescription", "DataRow", "Complete SELECT 1"]
    play.upstream(IDLE)
    assert play.client_heard() == ["Ready I", "ERROR 42501", "Ready I"]
    play.upstream(select(1))
    assert play.client_heard() == ["RowDescription", "DataRow", "Complete SELECT 1", "Ready I"]


@pytest.mark.parametrize(
    ("sql", "tag", "before", "after"), [("begin", "BEGIN", "I", "T"), ("commit", "COMMIT", "T", "I")]
)
def test_a_denial_that_waits_tells_the_state_of_its_turn(
    play: Playbook, sql: str, tag: str, before: str, after: str
) -> None:
    play.client(build.query(b"select 1"))
    play.upstream(select(1)[:-6], build.ready(ord(before)))
    play.client_heard()
    play.client(build.query(sql.encode()), build.query(b"delete from orders"))
    play.upstream(complete(tag), build.ready(ord(after)))
    assert play.client_heard() == [f"Complete {tag}", f"Ready {after}", "ERROR 42501", f"Ready {after}"]


def test_a_denied_query_fetches_what_is_owed_before_it(play: Playbook) -> None:
    """As the server does for a Query that comes without a Sync before it: nobody waits for ever."""
    play.client(
        build.parse(b"", b"select 1"), build.bind(b"", b""), build.execute(), build.query(b"delete from orders")
    )
    assert play.upstream_heard() == ["Parse |select 1", "Bind |", "Execute ", "Flush"]
    play.upstream(PARSED, BOUND, complete("SELECT 0"))
    assert play.client_heard()[-2:] == ["ERROR 42501", "Ready I"]


@pytest.mark.parametrize(
    "message", [build.query(b"x" * 20_000), build.parse(b"", b"x" * 400_000)], ids=["Query", "Parse"]
)
def test_a_text_above_the_limit_is_skipped_behind_an_error(make_play: Callable[..., Playbook], message: bytes) -> None:
    play = make_play(bounds=Bounds(statement=2_000))
    play.client(build.parse(b"", b"select 1"), build.FLUSH, message[:9_000])
    play.upstream(error())
    play.client(message[9_000:], build.SYNC)
    play.upstream(IDLE)
    assert play.client_heard() == ["ERROR 22012", "Ready I"]
    assert [s["sql"] for s in play.recorded("statement")] == ["select 1"]


def test_an_empty_query_is_recorded_too(play: Playbook) -> None:
    play.client(build.query(b"  -- nothing"))
    play.upstream(EMPTY, IDLE)
    assert play.client_heard() == ["EmptyQuery", "Ready I"]
    assert [(line["kind"], line["sql"]) for line in play.recorded("statement")] == [("empty", "  -- nothing")]
    assert play.outcomes() == [(1, 0, None, "")]


def test_a_substituted_statement_goes_upstream_and_errors_point_into_the_clients_text(play: Playbook) -> None:
    play.client(build.query(b"select nonsense from customers where id = 1"))
    (sent,) = play.upstream_heard()
    assert "ssn" not in sent
    assert sent != "Query select nonsense from customers where id = 1"
    play.upstream(error("42703", position=sent.index("where") - len("Query ") + 1), IDLE)
    assert play.client_heard() == ["ERROR 42703 at 32", "Ready I"]
    assert play.recorded("statement")[0]["rewritten"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_bytes_may_arrive_in_any_pieces(make_play: Callable[..., Playbook], size: int) -> None:
    play = make_play()
    conversation = b"".join(
        [
            build.query(b"select 1"),
            build.query(b"delete from orders"),
            build.parse(b"", b"select $1::int"),
            build.bind(b"", b"", [b"7"]),
            build.execute(),
            build.SYNC,
        ]
    )
    for start in range(0, len(conversation), size):
        play.client(conversation[start : start + size])
    assert play.upstream_heard() == ["Query select 1", "Parse |select $1::int", "Bind |", "Execute ", "Sync"]
    whole = [line["sql"] for line in play.recorded("statement") if line.get("protocol") not in ("parse", "bind")]
    assert whole == ["select 1", "delete from orders", "select $1::int"]


def test_a_text_above_the_limit_is_refused_not_cut_and_the_session_lives(make_play: Callable[..., Playbook]) -> None:
    play = make_play(bounds=Bounds(statement=1000))
    long = build.query(b"select '" + b"x" * 300_000 + b"'")
    for start in range(0, len(long), 65_536):
        play.client(long[start : start + 65_536])
    assert play.upstream_heard() == []
    assert play.client_heard() == ["ERROR 54000", "Ready I"]
    (line,) = play.recorded("statement")
    assert line["verdict"] == "deny"
    assert hashlib.sha256(long).hexdigest() in line["reason"]
    play.client(build.query(b"select 1"))
    assert play.upstream_heard() == ["Query select 1"]


def test_the_limit_is_exact(make_play: Callable[..., Playbook]) -> None:
    play = make_play(bounds=Bounds(statement=1000))
    play.client(build.query(b"select 1" + b" " * 992))
    assert len(play.upstream_heard()) == 1
    play.upstream(select(1))
    play.client_heard()
    play.client(build.query(b"select 1" + b" " * 993))
    assert play.client_heard() == ["ERROR 54000", "Ready I"]
    play.client(build.parse(b"", b"select 1" + b" " * 993), build.SYNC)
    assert play.upstream_heard() == ["Sync"]
    assert play.client_heard() == ["ERROR 54000"]


def test_memory_does_not_follow_a_length_that_is_only_claimed(play: Playbook) -> None:
    play.client(b"Q\x3f\xff\xff\xff" + b"x" * 100_000)
    assert not play.relay._gate._held
    assert not play.relay.ended


@pytest.mark.parametrize("kind", [k for k in range(256) if chr(k) not in "QPBDECHSXFdcf"])
def test_a_type_that_no_client_may_send_ends_the_session(make_play: Callable[..., Playbook], kind: int) -> None:
    play = make_play()
    play.client(bytes((kind,)) + b"\0\0\0\x04")
    assert play.client_heard() == ["FATAL 08P01"]
    assert play.upstream_heard() == ["Terminate"]
    assert play.to_client.closed


@pytest.mark.parametrize("length", [0, 1, 3, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", list(b"QPBDECHSXFdcf"))
def test_a_length_that_cannot_be_right_ends_the_session(
    make_play: Callable[..., Playbook], kind: int, length: int
) -> None:
    play = make_play()
    play.client(bytes((kind,)) + length.to_bytes(4, "big") + b"x")
    assert play.client_heard() == ["FATAL 08P01"]
    assert play.recorded("session.end")[0]["reason"] == "protocol"


@pytest.mark.parametrize(
    "message",
    [
        build.message(b"Q", b"no terminator"),
        build.message(b"Q", b"two\0strings\0"),
        build.message(b"P", b"name\0select 1\0"),
        build.message(b"P", b"\0select 1\0\0\1"),
        build.message(b"B", b"\0\0\0\0\0\1\0\0\0\x09abc"),
        build.message(b"B", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"),
        build.message(b"E", b"\0\0\0"),
        build.message(b"D", b"Xname\0"),
        build.message(b"C", b"S"),
        build.message(b"S", b"x"),
    ],
)
def test_a_malformed_body_ends_the_session(make_play: Callable[..., Playbook], message: bytes) -> None:
    play = make_play()
    play.client(message)
    assert play.client_heard() == ["FATAL 08P01"]
    assert play.upstream_heard() == ["Terminate"]


def test_a_function_call_is_refused(play: Playbook) -> None:
    play.client(build.message(b"F", b"\0\0\x03\xe8\0\0\0\0\0\0"))
    assert play.client_heard() == ["ERROR 42501", "Ready I"]
    assert play.upstream_heard() == []
    assert play.recorded("statement")[0]["protocol"] == "function"


def test_copy_data_out_of_turn_is_ignored_as_postgres_does(play: Playbook) -> None:
    play.client(build.message(b"d", b"rows"), build.message(b"c", b""), build.message(b"f", b"no\0"))
    play.client(b"d\0\1\0\0" + b"x" * 65_532)
    assert play.upstream_heard() == []
    assert not play.relay.ended
    play.client(build.query(b"select 1"))
    assert play.upstream_heard() == ["Query select 1"]


def test_what_cannot_be_recorded_is_not_sent(play: Playbook) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, play.recording._fd)
    os.close(full)
    play.client(build.query(b"select 1"), build.query(b"delete from orders"))
    assert play.client_heard() == ["FATAL 58030"]
    assert play.upstream_heard() == []
    assert play.relay.ended
    play.client(build.query(b"select 2"))
    assert play.upstream_heard() == []


def test_goodbye(play: Playbook) -> None:
    play.client(build.query(b"select 1"), build.TERMINATE, build.query(b"select 2"))
    assert play.upstream_heard() == ["Query select 1", "Terminate"]
    play.relay.client_lost()
    assert not play.relay.ended, "Postgres finishes what came before the goodbye, and so do we"
    play.upstream(select(1))
    play.relay.upstream_lost()
    assert play.ended == [False]
    end = play.recorded("session.end")[0]
    assert (end["reason"], end["statements"]) == ("client", 1)


async def test_a_batch_of_slow_texts_gives_way_to_others(
    make_play: Callable[..., Playbook], monkeypatch: pytest.MonkeyPatch
) -> None:
    play = make_play()
    texts = [f"select {n}, id from orders".encode() for n in range(5)]
    judge = play.relay.talk.judge
    slow = judge.at_once

    def slower(sql: bytes, types: tuple[int, ...] = ()) -> Any:
        play.clock.advance(0.015)
        return slow(sql, types)

    monkeypatch.setattr(judge, "at_once", slower)
    play.client(*map(build.query, texts), build.query(b"select 5"))
    assert len(play.upstream_heard()) == 2, "after 30 ms it is somebody else's turn"
    waited: list[bool] = []
    for _ in range(10):
        waited.append(play.to_client.held)
        await asyncio.sleep(0)
    assert waited[0]
    assert not waited[-1]
    assert len(play.upstream_heard()) == 4


async def test_a_text_that_is_judged_elsewhere_holds_only_its_own_session(make_play: Callable[..., Playbook]) -> None:
    asked: list[bytes] = []
    there = asyncio.Event()

    async def heavy(judge: Any, sql: bytes, types: tuple[int, ...]) -> Any:
        asked.append(sql)
        await there.wait()
        return judge.judge(sql, types)

    play = make_play(aids=Aids(heavy=heavy))
    text = b"select id from orders where id in (" + b"1, " * 8000 + b"1)"
    play.client(
        build.query(b"select 1"),
        build.parse(b"", text),
        build.bind(b"", b""),
        build.execute(),
        build.message(b"S", b""),
    )
    await asyncio.sleep(0)
    assert play.upstream_heard() == ["Query select 1"]
    assert asked == [text]
    play.upstream(select(1))
    assert play.client_heard()[-1] == "Ready I"
    play.client(build.query(b"select 2"))
    assert play.upstream_heard() == [], "what comes meanwhile waits in line"
    there.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert [heard.split(" ")[0] for heard in play.upstream_heard()] == ["Parse", "Bind", "Execute", "Sync", "Query"]
    assert len(asked) == 1
    assert [line["sql"] for line in play.recorded("statement")] == ["select 1", text.decode(), "select 2"]


async def test_a_session_that_ends_while_it_waits_runs_nothing(make_play: Callable[..., Playbook]) -> None:
    there = asyncio.Event()

    async def heavy(judge: Any, sql: bytes, types: tuple[int, ...]) -> Any:
        await there.wait()
        return judge.judge(sql, types)

    play = make_play(aids=Aids(heavy=heavy))
    play.client(build.query(b"select id from orders where id in (" + b"1, " * 8000 + b"1)"))
    await asyncio.sleep(0)
    play.relay.client_lost()
    there.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert play.upstream_heard() == ["Terminate"]
    assert play.recorded("statement") == []


def test_the_record_tells_what_was_allowed_and_not_sent(play: Playbook) -> None:
    play.client(build.query(b"select 1; delete from orders"), build.query(b"select 2"), build.query(b"execute unknown"))
    play.upstream(select(1))
    assert [line["verdict"] for line in play.recorded("statement")] == ["allow", "deny", "allow", "allow"]
    sent = {line["n"]: line.get("sent", True) for line in play.recorded("outcome")}
    assert sent == {1: False, 2: False, 3: True, 4: False}


def test_a_text_that_is_no_utf_8_is_recorded_byte_for_byte_where_it_passes(make_play: Callable[..., Playbook]) -> None:
    play = make_play(WATCHER, observe=True)
    play.client(build.query(b"select '\xff'"))
    assert play.to_upstream.data == build.query(b"select '\xff'")
    assert play.recorded("statement")[0]["sql"] == "select '\\xff'"
