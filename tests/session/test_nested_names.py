"""EXECUTE of an EXECUTE: Parse takes statements that PREPARE does not, and what they name was not looked at.

`b` is `EXECUTE c`, and `c` needs an approval, or is no longer allowed: `EXECUTE b` ran it. Covers
proxy/session/naming.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.session.talk import Aids
from proxy.wire import build
from tests.session.conftest import READER, WATCHER
from tests.session.playbook import BOUND, IDLE, PARSED, Playbook, complete, select

HELD = READER + "hold: {tables: [app.customers], from: [owners], timeout: 60s}\n"


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
