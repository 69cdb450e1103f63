"""What runs under a name is what the record says, also for a client that pipelines in order to deceive it.

Covers proxy/session/names.py, proxy/session/extended.py and proxy/session/talk.py.
"""

from __future__ import annotations

import pytest

from proxy.wire import build
from tests.live.house import House, until
from tests.live.raw import Raw

READS = b"select name from app.products where id < 4"
"""Three rows."""
SHOWN = b"select 1"
"""What the client would like to see in the record."""
PREPARED = build.parse(b"a", READS) + build.SYNC
RUN = build.bind(b"", b"a") + build.execute() + build.SYNC
BOUND = build.parse(b"b", SHOWN) + build.bind(b"p", b"a") + build.SYNC

# What is sent and answered first; then, in one piece, a change of the name that fails, and the use of the name.
DECEITS = {
    "a name that is taken": (PREPARED, build.parse(b"a", SHOWN) + build.SYNC + RUN),
    "behind a Query that fails": (
        PREPARED,
        build.query(b"select 1/0; deallocate a; prepare a as " + SHOWN) + RUN,
    ),
    "behind a statement of SQL that fails": (
        PREPARED,
        build.parse(b"", b"prepare a as " + SHOWN) + build.bind(b"", b"") + build.execute() + build.SYNC + RUN,
    ),
    "dropped by a Query that fails": (PREPARED, build.query(b"select 1/0; deallocate all") + RUN),
    "closed behind an error": (
        PREPARED,
        build.bind(b"", b"none") + build.close(ord("S"), b"a") + build.parse(b"a", SHOWN) + build.SYNC + RUN,
    ),
    "by a Query that is skipped": (
        PREPARED,
        build.bind(b"", b"a", (b"1",)) + build.query(b"deallocate a; prepare a as " + SHOWN) + build.SYNC + RUN,
    ),
    "a portal that is taken": (
        build.query(b"begin") + PREPARED + BOUND,
        build.query(b"savepoint s")
        + build.bind(b"p", b"b")
        + build.SYNC
        + build.query(b"rollback to s")
        + build.execute(b"p")
        + build.SYNC,
    ),
    "a cursor that is taken": (
        build.query(b"begin") + PREPARED + BOUND,
        build.query(b"savepoint s")
        + build.query(b"declare p cursor for " + SHOWN)
        + build.query(b"rollback to s")
        + build.execute(b"p")
        + build.SYNC,
    ),
    "a portal that is bound again": (
        build.query(b"begin; savepoint s") + PREPARED + BOUND,
        build.query(b"select 1/0; close p")
        + build.query(b"rollback to s")
        + build.bind(b"p", b"b")
        + build.SYNC
        + build.execute(b"p")
        + build.SYNC,
    ),
}


@pytest.mark.parametrize("policy", ["reader", "watcher"])
@pytest.mark.parametrize("deceit", DECEITS)
def test_the_record_says_what_ran(house: House, deceit: str, policy: str) -> None:
    before, then = DECEITS[deceit]
    user, token = house.grant(policy=policy)
    with Raw(house.port) as raw:
        raw.login((user, token))
        raw.send(before)
        for _ in range(before.count(build.SYNC) + before.count(b"Q\0\0\0")):
            assert raw.until("Z")[-1][0] == "Z"
        raw.send(then, build.SYNC, build.query(b"rollback; select 'the end'"))
        came = []
        while (message := raw.message())[1] != b"\0\1\0\0\0\x07the end":
            assert message[0]
            if message[0] == "D":
                came.append(READS.decode() if b"Product" in message[1] else SHOWN.decode())
    (session,) = [line["session"] for line in house.lines() if line.get("user") == user]
    for _ in until(5):
        lines = house.lines(session)
        if lines[-1]["event"] == "session.end":
            break
    sql = {line["n"]: line["sql"] for line in lines if line["event"] == "statement"}
    ran = [(sql[line["n"]], line["rows"]) for line in lines if line["event"] == "outcome" and line["rows"]]
    assert ran == [*((text, came.count(text)) for text in dict.fromkeys(came)), ("select 'the end'", 1)]
    assert came == ([SHOWN.decode()] if deceit == "a portal that is bound again" else [READS.decode()] * 3)
