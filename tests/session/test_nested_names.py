"""EXECUTE of an EXECUTE: Parse takes statements that PREPARE does not, and what they name was not looked at.

`b` is `EXECUTE c`, and `c` needs an approval, or is no longer allowed: `EXECUTE b` ran it. Covers
proxy/session/naming.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.access.store import Store
from proxy.policy.judge import Judge
from proxy.session.talk import Aids
from proxy.wire import build
from tests.session.conftest import READER, WATCHER
from tests.session.playbook import BOUND, IDLE, IN_BLOCK, PARSED, Playbook, complete, select
from tests.session.test_holding import HELD, make_desk, store

__all__ = ["store"]


def prepare(play: Playbook, **texts: bytes) -> None:
    for name, text in texts.items():
        play.client(build.parse(name.encode(), text), build.SYNC)
        play.upstream(PARSED, IDLE)
    play.client_heard(), play.upstream_heard()


async def unasked(*_: object) -> None:
    raise AssertionError("nobody is to be asked")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("EXECUTE", b"execute c"),
        ("DEALLOCATE", b"deallocate c"),
        ("DEALLOCATE", b"deallocate all"),
        ("PREPARE", b"prepare d as select 1"),
        ("DECLARE", b"declare k cursor for select 1"),
        ("CLOSE", b"close k"),
        ("DISCARD", b"discard all"),
    ],
)
@pytest.mark.parametrize("extended", [False, True], ids=["Query", "Parse"])
def test_execute_runs_no_statement_about_names(
    make_play: Callable[..., Playbook], kind: str, text: bytes, extended: bool
) -> None:
    play = make_play(HELD, aids=Aids(hold=unasked))
    prepare(play, c=b"select name from customers", b=text)
    if extended:
        prepare(play, top=b"execute b")
        play.client(build.bind(b"", b"top"), build.execute(b""), build.SYNC)
    else:
        play.client(build.query(b"execute b"))
    heard = play.client_heard()
    play.upstream(*[BOUND, IDLE] if extended else [])
    heard += play.client_heard()
    assert "ERROR 0A000" in heard, (heard, play.recorded("statement"))
    assert not [word for word in play.upstream_heard() if word.startswith(("Query", "Execute"))]
    assert play.outcomes()[-1][2] == "0A000"


def test_observe_mode_follows_it(make_play: Callable[..., Playbook]) -> None:
    play = make_play(WATCHER, observe=True)
    prepare(play, b=b"prepare a as select 7 as seven")
    play.client(build.query(b"execute b"))
    play.upstream(complete("PREPARE"), IDLE)
    play.client(build.query(b"execute a"))
    play.upstream(select(1))
    play.client(build.bind(b"", b"a"), build.execute(b""), build.SYNC)
    assert play.recorded("statement")[-1]["sql"] == "prepare a as select 7 as seven"


async def test_bind_of_what_sql_prepared_waits_too(make_play: Callable[..., Playbook], store: Store) -> None:
    """PREPARE waits for nobody, as it runs nothing; the Execute of a Bind to its name does run it."""
    desk = make_desk(make_play, store, HELD)
    play = desk.play
    play.client(build.query(b"prepare p as select name from customers"))
    await desk.turn()
    play.upstream(complete("PREPARE"), IDLE)
    play.upstream_heard()
    play.client(build.bind(b"", b"p"), build.execute(), build.SYNC)
    assert len(await desk.waiting()) == 1
    assert "Execute" not in play.upstream_heard()
    await desk.decide()
    assert play.upstream_heard()[-2:] == ["Execute ", "Sync"]


@pytest.mark.parametrize("how", ["prepare p as", "declare p cursor for"])
def test_an_error_of_what_sql_prepared_is_scrubbed(play: Playbook, how: str) -> None:
    play.client(build.query(b"begin"), build.query(how.encode() + b" select name from customers"))
    play.upstream(complete("BEGIN"), IN_BLOCK, complete(how.split(maxsplit=1)[0].upper()), IN_BLOCK)
    bound = [build.bind(b"p", b"p")] if how.startswith("prepare") else []
    play.client(*bound, build.execute(b"p"), build.SYNC)
    play.client_heard()
    said = build.error(severity="ERROR", code="22P02", text='invalid input syntax for type integer: "123-45-6789"')
    play.upstream(*[BOUND] * len(bound), said, build.ready(ord("E")))
    assert b"123-45" not in play.to_client.data


@pytest.mark.parametrize("how", ["fetch all from k", "move all from k"])
@pytest.mark.parametrize("extended", [False, True], ids=["Query", "Parse"])
async def test_fetch_from_a_bound_portal_waits_too(
    make_play: Callable[..., Playbook], store: Store, how: str, extended: bool
) -> None:
    """A Bind runs nothing and waits for nobody; SQL knows its portal as a cursor."""
    desk = make_desk(make_play, store, HELD)
    play = desk.play
    bound(play, b"select name from customers")
    if extended:
        play.client(build.parse(b"f", how.encode()), build.bind(b"", b"f"), build.execute(), build.SYNC)
    else:
        play.client(build.query(how.encode()))
    assert len(await desk.waiting()) == 1
    assert not [word for word in play.upstream_heard() if word.startswith(("Query", "Execute"))]
    await desk.decide()
    ran = [word for word in play.upstream_heard() if word.startswith(("Query", "Execute"))]
    assert ran == ["Execute " if extended else f"Query {how}"]


def bound(play: Playbook, text: bytes) -> None:
    """Portal `k` stands for `text`, in a transaction."""
    play.client(build.query(b"begin"))
    play.upstream(complete("BEGIN"), IN_BLOCK)
    play.client(build.parse(b"c", text), build.bind(b"k", b"c"), build.SYNC)
    play.upstream(PARSED, BOUND, IN_BLOCK)
    play.client_heard(), play.upstream_heard()


@pytest.mark.parametrize("text", [b"execute p", b"fetch all from k"])
def test_fetch_runs_no_statement_about_names(play: Playbook, text: bytes) -> None:
    prepare(play, p=b"select 1")
    bound(play, text)
    play.client(build.query(b"fetch all from k"))
    assert play.client_heard() == ["ERROR 0A000", "Ready T"]
    assert play.upstream_heard() == []


def test_fetch_is_judged_again_when_the_policy_has_changed(play: Playbook, make_judge: Callable[[str], Judge]) -> None:
    bound(play, b"select name from customers")
    play.client(build.query(b"declare d cursor for select name from customers"))
    play.upstream(complete("DECLARE CURSOR"), IN_BLOCK)
    play.client_heard(), play.upstream_heard()
    play.relay.rejudge(make_judge(READER.replace("app.customers: {deny: [ssn]}, ", "")))
    for name in (b"k", b"d"):
        play.client(build.query(b"fetch all from " + name))
        assert play.client_heard() == ["ERROR 42501", "Ready T"]
    assert play.upstream_heard() == []


def test_fetch_from_what_a_function_opened_goes_on(play: Playbook) -> None:
    play.client(build.query(b'fetch all from "<unnamed portal 1>"'))
    assert play.upstream_heard() == ['Query fetch all from "<unnamed portal 1>"']
