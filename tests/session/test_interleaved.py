"""Random pipelines in random pieces, with a slow disk and a slow server: what ran is what the record shows, and every
message of the client gets its answer in its turn.

Covers proxy/session/gate.py, proxy/session/results.py, proxy/session/names.py and proxy/wire/ledger.py against a model
of Postgres that keeps names, portals and the transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.session.gate import Bounds
from proxy.wire import build, client, framing
from proxy.wire.client import PORTAL, STATEMENT
from tests.recorder.support import Hand
from tests.session.conftest import READER, WATCHER
from tests.session.playbook import BOUND, CLOSED, NO_DATA, PARSED, ROW, SUSPENDED, Playbook, complete, error

NAMES = [b"", b"p", b"q"]
TEXTS = [
    b"select 1", b"select 2", b"select 3", b"select 1/0", b"begin", b"commit", b"rollback", b"prepare p as select 4",
    b"prepare q as select 5", b"deallocate p", b"execute p", b"execute q", b"deallocate all", b"",
]  # fmt: skip
DENIED = b"delete from orders"
LONG = b"select '" + b"x" * 20_000 + b"'"
NOTICE = build.notice(text="y" * 70_000)
ROWS = 3


class Wrong(Exception):
    """An error of the server's, its SQLSTATE."""


class Portal:
    def __init__(self, text: bytes) -> None:
        self.text = text
        self.left = ROWS
        self.ran = False


class Server:
    """Postgres as far as names, portals, transactions and skipping go. `ran` are the texts that it carried out."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.out = self._kept = b""
        self._in = b""
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, Portal] = {}
        self._skipping = False
        self._block = self._failed = False

    def take(self, data: bytes) -> None:
        """What came from the proxy: all whole messages are carried out."""
        self._in += data
        stop = 0
        for kind, start, stop in framing.spans(self._in):
            self._one(kind, self._in[start:stop])
        self._in = self._in[stop:]

    def _one(self, kind: int, body: bytes) -> None:
        if kind == framing.SYNC:
            self._skipping = False
            return self._ready()
        if self._skipping:
            return None
        try:
            if kind == framing.QUERY:
                self._query(body[:-1])
            else:
                self._extended(kind, body)
        except Wrong as wrong:
            self._kept += error(str(wrong))
            self._portals.clear()
            self._failed = self._block
            self._skipping = kind != framing.QUERY
            if self._skipping:
                self.out, self._kept = self.out + self._kept, b""
        if kind == framing.QUERY:
            self._ready()
        return None

    def _ready(self) -> None:
        if not self._block:
            self._portals.clear()
        self.out += self._kept + build.ready(ord("E" if self._failed else "T" if self._block else "I"))
        self._kept = b""

    def _alive(self, text: bytes) -> None:
        if self._failed and text not in (b"commit", b"rollback"):
            raise Wrong("25P02")

    def _query(self, text: bytes) -> None:
        self._statements.pop(b"", None)
        self._portals.pop(b"", None)
        self._alive(text)
        self._run(Portal(text), 0)

    def _extended(self, kind: int, body: bytes) -> None:
        if kind == framing.PARSE:
            name, text, _ = client.parse(body, 0, len(body))
            if not name:
                self._statements.pop(b"", None)
            self._alive(text)
            self._keep(name, text)
            self._kept += PARSED
        elif kind == framing.BIND:
            portal, name, _, _ = client.bind(body, 0, len(body))
            text = self._text(name)
            self._alive(text)
            if portal and portal in self._portals:
                raise Wrong("42P03")
            self._portals[portal] = Portal(text)
            self._kept += BOUND
        elif kind == framing.EXECUTE:
            self._run(self._portal(client.execute(body, 0, len(body))), framing.uint32(body, len(body) - 4))
        elif kind == framing.CLOSE:
            what, name = client.target(body, 0, len(body))
            (self._statements if what == STATEMENT else self._portals).pop(name, None)
            self._kept += CLOSED
        elif kind == framing.DESCRIBE:
            what, name = client.target(body, 0, len(body))
            self._alive(self._text(name) if what == STATEMENT else self._portal(name).text)
            self._kept += (build.message(b"t", b"\0\0") if what == STATEMENT else b"") + NO_DATA
        elif kind == framing.FLUSH:
            self.out, self._kept = self.out + self._kept, b""

    def _keep(self, name: bytes, text: bytes) -> None:
        if name and name in self._statements:
            raise Wrong("42P05")
        self._statements[name] = text

    def _text(self, name: bytes) -> bytes:
        if name not in self._statements:
            raise Wrong("26000")
        return self._statements[name]

    def _portal(self, name: bytes) -> Portal:
        if name not in self._portals:
            raise Wrong("34000")
        return self._portals[name]

    def _run(self, portal: Portal, limit: int) -> None:
        text = portal.text
        self._alive(text)
        word, *rest = text.split()[:2] or [b""]
        selects = word in (b"select", b"execute")
        if portal.ran and not selects:
            raise Wrong("55000")
        if word == b"execute" and not portal.ran and not self._text(rest[0]).startswith(b"select "):
            raise Wrong("0A000")
        if b"/0" in text:
            raise Wrong("22012")
        portal.ran = True
        if word == b"prepare":
            self._keep(rest[0], text.partition(b" as ")[2])
        elif word == b"deallocate" and rest[0] == b"all":
            self._statements = {name: text for name, text in self._statements.items() if not name}
        elif word == b"deallocate":
            self._text(rest[0])
            del self._statements[rest[0]]
        elif word == b"begin":
            self._block = True
        elif word in (b"commit", b"rollback"):
            self._block = self._failed = False
            self._portals.clear()
        self.ran.append(text.decode())
        if not text:
            self._kept += build.message(b"I", b"")
        elif not selects:
            self._kept += complete(word.decode().upper())
        else:
            count = min(limit or ROWS, portal.left)
            portal.left -= count
            self._kept += ROW * count + (SUSPENDED if limit and count == limit else complete(f"SELECT {count}"))


ANSWERS = {
    framing.QUERY: rb"(D*C|I|E)Z", framing.SYNC: rb"Z", framing.PARSE: rb"1|E", framing.BIND: rb"2|E",
    framing.EXECUTE: rb"D*[Cs]|I|D*E", framing.CLOSE: rb"3|E", framing.DESCRIBE: rb"t?n|E", framing.FLUSH: rb"",
}  # fmt: skip


def in_turn(sent: list[bytes], heard: bytes) -> None:
    """Every message has its answer, in order; behind an error all up to the Sync has none."""
    skipping = False
    for message in sent:
        kind = message[0]
        if skipping and kind != framing.SYNC:
            continue
        found = re.match(ANSWERS[kind], heard)
        assert found is not None, (chr(kind), heard)
        heard = heard[found.end() :]
        skipping = kind not in (framing.QUERY, framing.SYNC) and found.group().endswith(b"E")
    assert heard == b""


texts = st.sampled_from([*TEXTS, DENIED, LONG])
names = st.sampled_from(NAMES)
RUN = [build.bind(b"", b"p"), build.execute()]
groups = st.one_of(
    texts.map(lambda text: [build.query(text)]),
    st.builds(lambda name, text: [build.parse(name, text)], names, texts),
    st.builds(lambda portal, name: [build.bind(portal, name)], names, names),
    st.builds(lambda portal, limit: [build.execute(portal, limit)], names, st.integers(0, 2)),
    st.builds(lambda what, name: [build.close(what, name)], st.sampled_from([STATEMENT, PORTAL]), names),
    st.builds(lambda what, name: [build.describe(what, name)], st.sampled_from([STATEMENT, PORTAL]), names),
    st.builds(
        lambda portal, text: [build.parse(b"", text), build.bind(portal, b""), build.execute(portal)], names, texts
    ),
    # What meets seldom by chance: a name that is taken, an error that comes while more is on its way.
    st.sampled_from([b"select 1", b"select 2", DENIED]).map(lambda text: [build.parse(b"p", text), build.SYNC, *RUN]),
    st.sampled_from([b"deallocate p", b"prepare p as select 6", b"execute p"]).map(lambda text: [build.query(text)]),
    st.sampled_from([b"select 1/0", b"select 3"]).map(
        lambda text: [build.parse(b"", text), build.bind(b"", b""), build.execute(), build.FLUSH]
    ),
    st.sampled_from([[build.FLUSH], [build.SYNC], [build.SYNC], RUN]),
)
moves = st.tuples(st.sampled_from([0, 9_000, 1 << 20]), st.text("sSdn", max_size=3))
"""How much of a message is sent before: the server works and is heard in part (s) or wholly (S), the disk has written
(d), the server says something long unasked (n)."""


@given(talk=st.lists(st.tuples(groups, st.lists(moves, min_size=4, max_size=4)), max_size=10), slow=st.booleans())
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@pytest.mark.parametrize("observe", [False, True], ids=["enforce", "observe"])
def test_what_ran_is_what_is_recorded_and_all_is_answered_in_turn(
    make_play: Callable[..., Playbook],
    observe: bool,
    talk: list[tuple[list[bytes], list[tuple[int, str]]]],
    slow: bool,
) -> None:
    more: dict[str, Any] = {"hand": Hand()} if slow else {}
    play = make_play(WATCHER if observe else READER, observe=observe, bounds=Bounds(statement=2_000), **more)
    server = Server()
    sent = [*(message for group, _ in talk for message in group), build.SYNC]
    data = b""
    notices = 0

    def send(more: bytes) -> None:
        nonlocal data
        data += more
        if not play.to_client.held:
            play.client(data)
            data = b""

    def move(what: str) -> None:
        nonlocal notices
        if what == "d" and slow:
            play.disk()
        elif what == "n" and not server.out:
            server.out = NOTICE
            notices += 1
        elif what in "sS":
            server.take(play.to_upstream.take())
            size = len(server.out) if what == "S" else len(server.out) // 2
            play.upstream(server.out[:size])
            server.out = server.out[size:]

    for group, cuts in talk:
        for message, (cut, what) in zip(group, cuts, strict=False):
            send(message[:cut])
            for each in what:
                move(each)
            send(message[cut:])
    send(build.SYNC)
    for _ in range(2 * len(sent) + 5):
        for each in "dS":
            move(each)
        send(b"")
    assert not play.relay.ended, play.client_heard()
    assert not data, "the client was left waiting"
    heard = bytes(kind for kind, _, _ in framing.spans(play.to_client.take()))
    assert heard.count(b"N") == notices
    in_turn(sent, heard.replace(b"N", b""))
    went_well = {outcome["n"] for outcome in play.recorded("outcome") if outcome["sqlstate"] is None}
    recorded = [s for s in play.recorded("statement") if s.get("protocol", "simple") in ("simple", "extended")]
    # What a PREPARE made is shown by that PREPARE when it runs; a long text is not kept.
    shown = [
        s["sql"].removeprefix("prepare p as ").removeprefix("prepare q as ") for s in recorded if s["n"] in went_well
    ]
    ran = [text.removeprefix("prepare p as ").removeprefix("prepare q as ") for text in server.ran]
    assert shown == [text if len(text) < 20_000 else "" for text in ran]
    assert not play.relay.talk.ledger.entries
