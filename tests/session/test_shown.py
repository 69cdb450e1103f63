"""Results on record: what is recorded is what the client got, whatever the server sends and in whatever pieces.

Covers proxy/session/shown.py and proxy/session/keeping.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.session.keeping import DIGEST, FULL, SAMPLE, Keeping
from proxy.session.talk import Aids
from proxy.wire import build, framing
from proxy.wire.client import PORTAL, STATEMENT
from recorder import timeline
from recorder.files import RecordError
from recorder.results import Row, copy_data, data_row, matches, read
from tests.session.conftest import READER, WATCHER
from tests.session.playbook import (
    BOUND,
    COLUMNS,
    IDLE,
    PARSED,
    ROW,
    SUSPENDED,
    Playbook,
    complete,
    error,
    types,
)

KEY = bytes(range(32))
INT4, TEXT, BYTEA, OTHER = 23, 25, 17, 600_000
Make = Callable[..., Playbook]


def aids(results: str) -> Aids:
    return Aids(keeping=Keeping(results=results, key=KEY))


def described(*columns: tuple[str, int, int]) -> bytes:
    """A RowDescription of (name, oid, format)."""
    body = len(columns).to_bytes(2, "big")
    for name, oid, form in columns:
        body += name.encode() + bytes(7) + oid.to_bytes(4, "big") + bytes(6) + form.to_bytes(2, "big")
    return build.message(b"T", body)


def rows_of(play: Playbook) -> list[Row]:
    play.recorder.flush_all()
    return list(read(entry.event for entry in timeline.read(play.recording.path)))  # type: ignore[misc]


def values_of(play: Playbook, n: int = 1) -> list[Any]:
    return [row.copy if row.values is None else row.values for row in rows_of(play) if row.n == n]


def digest_of(messages: Iterable[bytes]) -> str:
    return hashlib.blake2b(b"".join(messages), key=KEY, digest_size=32).hexdigest()


# -- one thing at a time ----------------------------------------------------------------------------------------------


def test_rows_of_a_query_are_recorded_as_they_were_shown(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.query(b"select id, name from products"))
    rows = [data_row([b"1", "Käse".encode()]), data_row([b"2", None]), data_row([b"", b""])]
    play.upstream(described(("id", INT4, 0), ("name", TEXT, 0)), *rows, complete("SELECT 3"), IDLE)
    (event,) = play.recorded("rows")
    assert event["columns"] == [{"name": "id", "type": "int4"}, {"name": "name", "type": "text"}]
    assert event["values"] == [["1", "Käse"], ["2", None], ["", ""]]
    (outcome,) = play.recorded("outcome")
    assert outcome["rows"] == 3
    assert matches(outcome["digest"], KEY, rows)


def test_binary_values_are_decoded_by_what_the_bind_asked_for(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.parse(b"p", b"select id, name from products"), build.describe(STATEMENT, b"p"), build.FLUSH)
    play.upstream(PARSED, types(), described(("id", INT4, 0), ("name", TEXT, 0), ("mood", OTHER, 0)))
    asked: list[tuple[int, ...]] = [(1,), (1, 0, 1), ()]
    for formats in asked:
        play.client(build.bind(b"", b"p", results=formats), build.execute(), build.SYNC)
        seven = b"7" if not formats else (7).to_bytes(4, "big")
        play.upstream(BOUND, data_row([seven, b"Tee", b"\x01"]), complete("SELECT 1"), IDLE)
    other = {"type": OTHER, "hex": "01"}
    assert [values_of(play, n) for n in (2, 3, 4)] == [[[7, "Tee", other]], [[7, "Tee", other]], [["7", "Tee", "\x01"]]]
    found = [[c.get("format", "text") for c in event["columns"]] for event in play.recorded("rows")]
    assert found == [["binary"] * 3, ["binary", "text", "binary"], ["text"] * 3]
    assert play.recorded("rows")[0]["columns"][2] == {"name": "mood", "oid": OTHER, "format": "binary"}


def test_the_databases_own_types_have_their_names_and_enums_are_text(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    catalog = play.relay.talk.judge.parts[0].catalog
    mood = next(t for t in catalog.types if t.name == "mood")
    play.client(build.parse(b"", b"select 1"), build.bind(b"", b"", results=[1]), build.describe(PORTAL))
    play.client(build.execute(), build.SYNC)
    columns = described(("a", mood.oid, 1), ("b", mood.array_oid, 1))
    play.upstream(PARSED, BOUND, columns, data_row([b"happy", b"\0"]), complete("SELECT 1"), IDLE)
    (event,) = play.recorded("rows")
    assert [c["type"] for c in event["columns"]] == ["app.mood", "app.mood[]"]
    assert event["values"] == [["happy", {"type": mood.array_oid, "name": "app.mood[]", "hex": "00"}]]


def test_a_portal_that_is_suspended_is_several_statements_and_each_has_its_rows(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.parse(b"", b"select id from products"), build.bind(b"c", b""), build.describe(PORTAL, b"c"))
    play.client(build.execute(b"c", 2), build.execute(b"c", 2), build.SYNC)
    one, two, three = (data_row([b"%d" % n]) for n in (1, 2, 3))
    play.upstream(PARSED, BOUND, described(("id", INT4, 0)), one, two, SUSPENDED, three, complete("SELECT 1"), IDLE)
    first, second = play.recorded("outcome")[-2:]
    assert values_of(play, first["n"]) == [["1"], ["2"]]
    assert values_of(play, second["n"]) == [["3"]]
    assert (first["digest"], second["digest"]) == (digest_of([one, two]), digest_of([three]))


def test_a_result_that_an_error_ends_is_recorded_up_to_there_with_the_error(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.query(b"select 1/(id - 3) from products"))
    report = build.error(severity="ERROR", code="22012", text="division by zero", hint="no", position=9)
    play.upstream(COLUMNS, ROW, ROW, report, IDLE)
    (outcome,) = play.recorded("outcome")
    assert (outcome["rows"], outcome["sqlstate"], outcome["digest"]) == (2, "22012", digest_of([ROW, ROW]))
    assert (outcome["error"], outcome["hint"], outcome["position"]) == ("division by zero", "no", 9)
    assert values_of(play) == [["1"], ["1"]]


def test_a_limit_that_ends_in_the_middle_of_a_chunk_ends_the_record_there(make_play: Make) -> None:
    play = make_play(READER + "limits: {rows_per_statement: 2}\n", aids=aids("full"))
    play.client(build.query(b"select id from products"))
    play.upstream(described(("id", INT4, 0)), *(data_row([b"%d" % n]) for n in range(5)))
    play.upstream(error("57014"), IDLE)
    assert values_of(play) == [["0"], ["1"]]
    (outcome,) = play.recorded("outcome")
    assert (outcome["rows"], outcome["digest"]) == (2, digest_of(data_row([b"%d" % n]) for n in range(2)))
    assert play.recorded("notice")[0]["rule"] == "limit.rows"


def test_an_answer_of_daypass_itself_is_recorded_and_not_what_the_server_sent(make_play: Make) -> None:
    play = make_play(aids=Aids(keeping=Keeping(results="full", key=KEY), own=lambda name: f"own {name}"))
    play.client(build.query(b"show daypass.scope"))
    play.upstream(described(("daypass.scope", TEXT, 0)), data_row([b""]), complete("SELECT 1"), IDLE)
    assert values_of(play) == [["own daypass.scope"]]
    assert play.recorded("outcome")[0]["digest"] == digest_of([data_row([b"own daypass.scope"])])


def test_copy_out_is_recorded_line_by_line(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.query(b"copy products to stdout"))
    lines = [copy_data(b"1\tTee\n"), copy_data(b""), copy_data(b"\xff")]
    play.upstream(build.message(b"H", b"\0\0\0"), *lines, build.message(b"c", b""), complete("COPY 3"), IDLE)
    assert values_of(play) == ["1\tTee\n", "", {"type": 0, "hex": "ff"}]
    assert play.recorded("outcome")[0]["digest"] == digest_of(lines)


def test_what_a_function_returned_is_recorded(make_play: Make) -> None:
    play = make_play(WATCHER, observe=True, aids=aids("full"))
    play.client(build.message(b"F", bytes(12)))
    result = build.message(b"V", b"\0\0\0\1x")
    play.upstream(result, IDLE)
    assert values_of(play) == [[{"type": 0, "hex": "0000000178"}]]
    assert play.recorded("outcome")[0]["digest"] == digest_of([result])


def test_a_row_that_is_too_long_to_hold_is_recorded_in_parts(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.query(b"select name from products"))
    long = data_row([b"x" * 300_000, None])
    answer = described(("name", TEXT, 0), ("price", 1700, 0)) + ROW + long + ROW + complete("SELECT 3") + IDLE
    for start in range(0, len(answer), 40_000):
        play.upstream(answer[start : start + 40_000])
    assert values_of(play) == [["1"], ["x" * 300_000, None], ["1"]]
    assert len(play.recorded("rows")) > 6
    assert play.recorded("outcome")[0]["digest"] == digest_of([ROW, long, ROW])


def test_a_sample_is_the_first_rows_of_each_statement(make_play: Make) -> None:
    play = make_play(aids=aids("sample:3"))
    for _ in range(2):
        play.client(build.query(b"select id from products"))
        rows = [data_row([b"%d" % n]) for n in range(10)]
        play.upstream(COLUMNS, *rows[:2])
        play.upstream(*rows[2:], complete("SELECT 10"), IDLE)
    assert [row.number for row in rows_of(play)] == [1, 2, 3] * 2
    assert [row.values for row in rows_of(play)] == [["0"], ["1"], ["2"]] * 2
    assert {outcome["digest"] for outcome in play.recorded("outcome")} == {digest_of(rows)}


@pytest.mark.parametrize("results", ["counts", "none", "digest"])
def test_less_than_a_sample_holds_no_row(make_play: Make, results: str) -> None:
    play = make_play(aids=aids(results))
    play.client(build.query(b"select 1"), build.query(b"select 1"))
    play.upstream(COLUMNS, ROW, complete("SELECT 1"), IDLE, COLUMNS, complete("SELECT 0"), IDLE)
    assert play.recorded("rows") == []
    outcome, empty = play.recorded("outcome")
    assert ("digest" in outcome, "digest" in empty) == (results == "digest", False)
    if results == "none":
        assert (outcome["rows"], outcome["bytes"], outcome["tag"], outcome["counted"]) == (0, 0, "SELECT", False)
        play.relay.client_lost()
        assert play.recorded("session.end")[0].get("rows", 0) == 0
        assert play.tally.rows == 1
    else:
        assert (outcome["rows"], outcome["tag"]) == (1, "SELECT 1")
        assert "counted" not in outcome


def test_what_waits_in_memory_is_bounded(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.query(b"select id from products"))
    play.upstream(COLUMNS)
    chunk = data_row([b"x" * 1000]) * 60
    before = play.recording.path.stat().st_size
    for _ in range(50):
        play.upstream(chunk)
    written = play.recording.path.stat().st_size - before
    assert written > len(chunk) * 50 - 600_000


def test_a_result_that_cannot_be_recorded_is_not_shown(make_play: Make) -> None:
    play = make_play(aids=aids("full"))
    play.client(build.query(b"select 1"))
    play.recording.spoil(RecordError("gone"))
    play.upstream(COLUMNS, ROW, complete("SELECT 1"), IDLE)
    assert play.client_heard() == ["FATAL 58030"]


# -- everything at once -----------------------------------------------------------------------------------------------

VALUE = st.sampled_from([None, b"", b"1", "ä".encode(), b"\0\xff", (7).to_bytes(4, "big"), b"y" * 70_000])
COLUMN = st.tuples(st.sampled_from([INT4, TEXT, BYTEA, OTHER]), st.integers(0, 1))


class Exchange:
    """What the client asks, what the server answers, and the columns (oid, format) of the result."""

    def __init__(self, asked: list[bytes], answers: list[bytes], columns: list[tuple[int, int]]) -> None:
        self.asked = asked
        self.answers = answers
        self.columns = columns

    def __repr__(self) -> str:
        return f"Exchange({self.asked}, {[message[:60] for message in self.answers]}, {self.columns})"


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    columns = draw(st.lists(COLUMN, min_size=1, max_size=3))
    rows = [data_row([draw(VALUE) for _ in columns]) for _ in range(draw(st.integers(0, 8)))]
    title = described(*((f"c{i}", oid, form) for i, (oid, form) in enumerate(columns)))
    kind = draw(st.sampled_from(["simple", "extended", "suspended", "error", "copy", "denied", "own"]))
    if kind == "copy":
        lines = [copy_data(draw(VALUE) or b"") for _ in rows]
        start, end = build.message(b"H", b"\0\0\0"), build.message(b"c", b"")
        return Exchange([build.query(b"copy products to stdout")], [start, *lines, end, complete("COPY"), IDLE], [])
    if kind == "denied":
        return Exchange([build.query(b"delete from orders")], [], [])
    if kind == "own":
        answer = [described(("x", TEXT, 0)), data_row([b"never"]), complete("SELECT 1"), IDLE]
        return Exchange([build.query(b"show daypass.scope")], answer, [(TEXT, 0)])
    end = {"error": error(), "suspended": SUSPENDED}.get(kind, complete("SELECT"))
    if kind in ("simple", "error"):
        return Exchange([build.query(b"select id from products")], [title, *rows, end, IDLE], columns)
    asked = [
        build.parse(b"", b"select id from products"),
        build.bind(b"", b"", results=[form for _, form in columns]),
        build.describe(PORTAL),
        build.execute(),
        build.SYNC,
    ]
    return Exchange(asked, [PARSED, BOUND, title, *rows, end, IDLE], columns)


def plainly(raw: bytes | None, oid: int, form: int) -> Any:
    """The twin: what a value is in the record."""
    if raw is None:
        return None
    if form == 1 and oid == INT4 and len(raw) == 4:
        return int.from_bytes(raw, "big")
    if form == 1 and oid == BYTEA:
        return "\\x" + raw.hex()
    if form == 0 or oid == TEXT:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            pass
    return raw


def split(body: bytes) -> list[bytes | None]:
    found: list[bytes | None] = []
    pos = 2
    while pos < len(body):
        size = int.from_bytes(body[pos : pos + 4], "big", signed=True)
        pos += 4
        found.append(None if size < 0 else body[pos : pos + size])
        pos += max(size, 0)
    return found


def same(recorded: Any, raw: bytes | None, plain: Any, *, long: bool) -> bool:
    """Whether a recorded value is that one. What is not decoded is hex, and so is binary of a row in parts."""
    if isinstance(recorded, dict):
        return raw is not None and recorded["hex"] == raw.hex() and (isinstance(plain, bytes) or long)
    return bool(recorded == plain)


@given(
    talk=st.lists(exchanges(), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 20_000), max_size=30),
    results=st.sampled_from(["digest", "sample:2", "full"]),
    limit=st.sampled_from(["", "limits: {rows_per_statement: 5}\n", "limits: {bytes_per_statement: 2KiB}\n"]),
)
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
def test_what_is_recorded_is_what_the_client_got(
    make_play: Make,
    talk: list[Exchange],
    cuts: list[int],
    results: str,
    limit: str,
) -> None:
    keeping = Keeping(results=results, key=KEY)
    play = make_play(READER + limit, aids=Aids(keeping=keeping, own=lambda name: name))
    for exchange in talk:
        play.client(*exchange.asked)
    answer = b"".join(message for exchange in talk for message in exchange.answers)
    last = 0
    for cut in [*sorted(cuts), len(answer)]:
        if cut > last:
            play.relay.upstream_data(answer[last:cut])
            last = cut
    # Each statement ends with one of these; statements are numbered as they were asked.
    got: list[list[bytes]] = [[]]
    data = play.to_client.take()
    for kind, start, stop in framing.spans(data):
        if kind in b"Dd":
            got[-1].append(data[start - 5 : stop])
        elif kind in b"CEs":
            got.append([])
    assert len(got) == len(talk) + 1
    recorded = rows_of(play)
    outcomes = {outcome["n"]: outcome for outcome in play.recorded("outcome")}
    for n, (exchange, messages) in enumerate(zip(talk, got, strict=False), 1):
        columns = exchange.columns
        assert outcomes[n].get("digest") == (digest_of(messages) if messages else None)
        assert outcomes[n]["rows"] == len(messages)
        mine = [row for row in recorded if row.n == n]
        kept = messages[: {DIGEST: 0, SAMPLE: keeping.sample, FULL: None}[keeping.level]]
        assert [row.number for row in mine] == list(range(1, len(kept) + 1))
        for row, message in zip(mine, kept, strict=True):
            if message[:1] == b"d":
                assert same(row.copy, message[5:], plainly(message[5:], 0, 0), long=False)
                continue
            assert row.values is not None
            for value, raw, column in zip(row.values, split(message[5:]), columns, strict=True):
                assert same(value, raw, plainly(raw, *column), long=len(message) > 60_000)
        if kept and columns:
            assert [(c.format == "binary") for c in mine[0].columns or ()] == [form == 1 for _, form in columns]


# -- how much ---------------------------------------------------------------------------------------------------------


def test_a_policy_may_ask_for_more_of_results_and_less_of_literals() -> None:
    base = Keeping("digest", "hash", KEY)
    assert base.joined([]) == base
    assert base.joined([("counts", "keep"), (None, None)]) == base
    assert base.joined([("sample:5", None), ("sample:20", "drop"), ("none", None)]) == Keeping("sample:20", "drop", KEY)
    assert base.joined([("full", None), ("sample:20", None)]).results == "full"
