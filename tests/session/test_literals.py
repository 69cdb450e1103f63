"""Records without values: nothing that a client wrote as a value survives in any line.

Covers proxy/session/literals.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.session.keeping import Keeping
from proxy.session.literals import Literals
from proxy.session.talk import Aids
from proxy.wire import build
from tests.session.conftest import READER, WATCHER
from tests.session.playbook import BOUND, IDLE, PARSED, ROW, Playbook, complete

KEY = bytes(range(32))
Make = Callable[..., Playbook]
SECRET = "Ketanserin"


def aids(literals: str) -> Aids:
    return Aids(keeping=Keeping(literals=literals, key=KEY))


def text_of(play: Playbook) -> str:
    play.recorder.flush_all()
    return play.recording.path.read_text()


TEXTS = [
    f"select id from products where name = '{SECRET}'",
    f"select id from products where name = '{SECRET}' -- {SECRET}",
    f"select id /* {SECRET} */ from products where name like E'%{SECRET}\\n'",
    f"select $${SECRET}$$, $a${SECRET}$a$",
    f"explain select id from products where name = '{SECRET}'",
    f"prepare p as select id from products where name = '{SECRET}'; execute p",
    f"declare c cursor for select id from products where name = '{SECRET}'",
    f"copy (select id from products where name = '{SECRET}') to stdout",
    f"set application_name = '{SECRET}'",
    f"delete from products where name = '{SECRET}'",
    f"select '{SECRET}'::regclass",
    f"select has_table_privilege('{SECRET}', 'select')",
    f"select email from customers where email = '{SECRET}'",
    f"-- {SECRET}",
    f"/* {SECRET} */ ;",
    f"select id from products where name = {SECRET} Rivera",
    f"selec '{SECRET}'",
    f"select '{SECRET}",
    f"select U&'{SECRET}'",
    f"listen \"x\"; notify x, '{SECRET}'",
    f"select 1; select '{SECRET}'; drop table \"a\"",
    f"do $${SECRET}$$",
]


@pytest.mark.parametrize("literals", ["hash", "drop"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("observe", [False, True])
def test_no_value_survives(make_play: Make, text: str, literals: str, observe: bool) -> None:
    play = make_play(WATCHER if observe else READER, observe=observe, aids=aids(literals))
    play.client(build.query(text.encode()))
    if play.to_upstream.take():
        report = build.error(severity="ERROR", code="22P02", text=f'invalid input syntax for type date: "{SECRET}"')
        play.upstream(build.notice(text=SECRET, detail=SECRET), report, IDLE)
    play.client(build.parse(b"s", text.encode()), build.bind(b"", b"s", [SECRET.encode()]), build.execute(), build.SYNC)
    found = text_of(play)
    assert found.count('"statement"') >= 2
    assert SECRET.lower() not in found.lower()
    assert SECRET.encode().hex() not in found


def test_what_is_left_is_told_apart_by_its_hash(make_play: Make) -> None:
    play = make_play(aids=aids("hash"))
    for value in ("O''Brien", "O''Brien", "Ada"):
        play.client(build.query(f"select id from products where name = '{value}' and price > 7.5".encode()))
    play.client(build.parse(b"", b"select id from products where name = $1 and price > $2"))
    play.client(build.bind(b"", b"", [b"O'Brien", None]), build.execute(), build.SYNC)
    first, second, third, *_, last = (line for line in play.recorded("statement"))
    assert first["sql"] == second["sql"] != third["sql"]
    mark = last["params"][0]
    assert mark.startswith("#")
    assert len(mark) == 17
    assert last["params"][1] is None
    assert f"name = '{mark}'" in first["sql"]
    other = Literals(hashed=True, key=bytes(32))
    assert other.values(["O'Brien"]) != [mark]


def test_binary_and_text_of_one_number_have_one_hash() -> None:
    literals = Literals(hashed=True, key=KEY)
    assert literals.values([42, "42", 43])[0:2] == [literals.values([42])[0]] * 2
    assert literals.values([43]) != literals.values([42])
    assert f"'{literals.values(['42'])[0]}'" in str(literals.text("select 42"))


def test_what_cannot_be_read_is_its_length_and_keyed_hash(make_play: Make) -> None:
    play = make_play(aids=aids("drop"))
    play.client(build.query(b"selec 1"))
    (line,) = play.recorded("statement")
    assert line["sql"] == ""
    assert line["rule"] == "syntax"
    assert line["reason"].startswith("a text of 7 bytes that cannot be read, not kept; its keyed hash is ")


def test_a_text_that_is_too_long_leaves_a_keyed_hash(make_play: Make) -> None:
    reasons = []
    for literals in ("keep", "drop"):
        play = make_play(aids=aids(literals))
        play.client(build.query(b"select '" + b"x" * (2 << 20) + b"'"))
        reasons.append(play.recorded("statement")[0]["reason"])
    assert reasons[0] != reasons[1]
    assert reasons[1].endswith("(keyed)")


@pytest.mark.parametrize(
    ("code", "text", "kept"),
    [
        ("42P01", 'relation "nowhere" does not exist', 'relation "nowhere" does not exist'),
        ("22012", "division by zero", "division by zero"),
        ("22P02", 'invalid input syntax for type integer: "x"', "invalid input syntax for type integer"),
        ("23505", "duplicate key", "(not kept: it may repeat values)"),
        ("42601", 'syntax error at or near "Ada"', "(not kept: it may repeat values)"),
    ],
)
def test_errors_are_kept_as_far_as_they_hold_names(make_play: Make, code: str, text: str, kept: str) -> None:
    play = make_play(aids=aids("drop"))
    play.client(build.query(b"select 1"))
    report = build.error(severity="ERROR", code=code, text=text, detail="names" if kept == text else "Key (a)=(x)")
    play.upstream(report, IDLE)
    assert report in play.to_client.take()
    (outcome,) = play.recorded("outcome")
    assert (outcome["error"], outcome["sqlstate"]) == (kept, code)
    assert outcome.get("detail", "") in ("", "names")


def test_a_prepared_statement_that_runs_again_is_recorded_the_same_way(make_play: Make) -> None:
    play = make_play(aids=aids("drop"))
    play.client(build.parse(b"s", b"select id from products where name = 'Ada' and id = $1"))
    play.upstream(PARSED)
    for _ in range(3):
        play.client(build.bind(b"", b"s", [b"7"]), build.execute(), build.SYNC)
        play.upstream(BOUND, ROW, complete("SELECT 1"), IDLE)
    lines = play.recorded("statement")[1:]
    assert [(line["sql"], line["params"]) for line in lines] == [
        ("select id from products where name = '…' and id = $1", ["…"])
    ] * 3


def test_masked_text_that_went_upstream_holds_no_value_either(make_play: Make) -> None:
    play = make_play(READER.replace("{deny: [ssn]}", "{rows: \"country = 'DE'\"}"), aids=aids("drop"))
    play.client(build.query(b"select id from customers where name = 'Ada'"))
    (line,) = play.recorded("statement")
    assert "country" in line["rewritten"]
    assert "'DE'" not in line["rewritten"]
    assert "Ada" not in line["rewritten"]
