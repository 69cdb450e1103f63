"""Servers that lie: in the login, unasked, out of bounds, and by hanging up at each byte.

On real sockets behind a real daypass, and without sockets for every type byte in every state. A lie never costs more
than the session that it was told in: the client hears a FATAL in words, and the next session is served.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from proxy.policy.judge import Judge
from proxy.wire import build
from tests.faults.bench import HELD_BACK, Bench
from tests.faults.conftest import Figure
from tests.faults.middle import Login, Middle, Script, hear
from tests.faults.scale import LONG
from tests.faults.scripted import COLUMNS
from tests.live.house import House
from tests.live.raw import Raw, fatal
from tests.session.conftest import READER

ANSWER = build.message(b"T", b"\0\0") + build.message(b"D", b"\0\0") + build.message(b"C", b"SELECT 1\0")
GIB = (1 << 30).to_bytes(4, "big")


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory, house_of_module: House) -> Iterator[tuple[House, Middle]]:
    """A daypass whose server is reached through a middle that can play it."""
    pg = house_of_module.pg
    with Middle(pg.port) as middle:
        house = House(tmp_path_factory.mktemp("lying"), pg)
        database = {"host": "127.0.0.1", "port": middle.port, "dbname": house.dbname, "tls": "disable"}
        credential = {"mode": "shared", "user": house.role, "password_env": "SHOP_PASSWORD"}
        house.configure(databases={"shop": {**database, "credential": credential}}, login_timeout="5s")
        house.start()
        yield house, middle
        house.hurry()


def works(house: House, middle: Middle, login: tuple[str, str]) -> None:
    """With the true server a session is served."""
    middle.calm()
    with Raw(house.port).login(login) as raw:
        raw.send(build.query(b"select 1"))
        assert [kind for kind, _ in raw.until("Z")] == ["T", "D", "C", "Z"]
    bugs = [line for line in house.log() if line["event"].endswith("_bug") or line["event"] == "task_crashed"]
    assert not bugs, bugs


def after_first(server_first: bytes) -> Script:
    """A server whose SASLContinue is this, where `{nonce}` stands for the client's own."""

    def script(peer: socket.socket) -> None:
        peer.sendall(build.sasl(["SCRAM-SHA-256"]))
        nonce = hear(peer).rpartition(b"r=")[2]
        peer.sendall(build.sasl_continue(server_first.replace(b"{nonce}", nonce)))
        hear(peer)

    return script


def at_once(data: bytes) -> Script:
    """A server that answers the start-up packet with this."""

    def script(peer: socket.socket) -> None:
        peer.sendall(data)
        while peer.recv(65_536):
            continue

    return script


def proven(data: bytes) -> Script:
    """A server that proves itself and then goes on with this."""

    def script(peer: socket.socket) -> None:
        login = Login()
        peer.sendall(login.offer)
        peer.sendall(login.challenge(peer))
        peer.sendall(login.signature(peer) + data)
        while peer.recv(65_536):
            continue

    return script


def wrong_signature(peer: socket.socket) -> None:
    login = Login()
    peer.sendall(login.offer)
    peer.sendall(login.challenge(peer))
    login.signature(peer)
    peer.sendall(build.sasl_final(b"v=" + base64.b64encode(b"x" * 32)) + login.welcome)
    peer.recv(10)


SALT = b",s=" + base64.b64encode(b"0123456789abcdef")
LOGINS: dict[str, Script] = {
    "huge nonce": after_first(b"r={nonce}" + b"x" * 15_000 + SALT + b",i=4096"),
    "larger than a message": after_first(b"r={nonce}" + b"x" * 70_000 + SALT + b",i=4096"),
    "another nonce": after_first(b"r=abcdef" + SALT + b",i=4096"),
    "only our nonce": after_first(b"r={nonce}" + SALT + b",i=4096"),
    "iterations 2^31": after_first(b"r={nonce}y" + SALT + b",i=2147483648"),
    "iterations 0": after_first(b"r={nonce}y" + SALT + b",i=0"),
    "iterations -1": after_first(b"r={nonce}y" + SALT + b",i=-1"),
    "iterations of 5,000 digits": after_first(b"r={nonce}y" + SALT + b",i=" + b"9" * 5_000),
    "no salt": after_first(b"r={nonce}y,s=,i=4096"),
    "salt that is no base64": after_first(b"r={nonce}y,s=***,i=4096"),
    "wrong signature": wrong_signature,
    "AuthenticationOk inside SCRAM": after_first(b""),
    "SASLFinal first": at_once(build.sasl_final(b"v=" + b"x" * 44)),
    "error without SQLSTATE": at_once(build.message(b"E", b"SFATAL\0Mno\0\0")),
    "error with unterminated fields": at_once(build.message(b"E", b"SFATAL\0Mno")),
    "error of no fields": at_once(build.message(b"E", b"")),
    "row before the login": at_once(build.message(b"D", b"\0\0")),
    "ready before the login": at_once(build.ready(ord("I"))),
    "1 GiB announced": at_once(b"R" + GIB),
    "4 GiB announced": at_once(b"R\xff\xff\xff\xff"),
    "settings without end": proven(build.AUTHENTICATION_OK + build.parameter_status("a", "b" * 1_000) * 1_000),
    "small settings without end": proven(build.AUTHENTICATION_OK + build.parameter_status("a", "b") * 10_000),
    "notices without end": proven(build.AUTHENTICATION_OK + build.notice(text="x" * 900) * 1_000),
    "setting without end of text": proven(build.AUTHENTICATION_OK + build.message(b"S", b"a\0b")),
    "key too short": proven(build.AUTHENTICATION_OK + build.message(b"K", b"\0\0")),
    "another encoding": proven(
        build.AUTHENTICATION_OK + build.parameter_status("client_encoding", "SJIS") + build.ready(73)
    ),
    "strings with backslashes": proven(
        build.AUTHENTICATION_OK + build.parameter_status("standard_conforming_strings", "off") + build.ready(73)
    ),
}  # fmt: skip


@pytest.mark.thorough
def test_lies_in_the_login(lying: tuple[House, Middle], figure: Figure) -> None:
    house, middle = lying
    login = house.grant()
    works(house, middle, login)
    before = house.memory()
    for what, script in LOGINS.items():
        middle.script = script
        with Raw(house.port, timeout=10) as raw:
            raw.start(login[0])
            code, text = fatal(raw.prove(login[1]))
        assert code == "08006", (what, code, text)
        assert "vendor-secret" not in text
    works(house, middle, login)
    grown = house.memory() - before
    assert grown < 16 << 20
    figure(
        "a server that lies in the login",
        f"{len(LOGINS)} lies",
        f"all refused in words; memory +{grown >> 20} MiB",
        "all; 16 MiB",
    )


def test_what_may_come_twice_in_the_login_does(lying: tuple[House, Middle]) -> None:
    house, middle = lying
    login = house.grant()
    again = build.key_data(4712, b"\5\6\7\x08")
    middle.script = proven(Login().welcome[: -len(build.ready(73))] + again + build.ready(73))
    with Raw(house.port).login(login):
        pass
    works(house, middle, login)


def test_a_server_that_hangs_up_at_each_byte(lying: tuple[House, Middle], figure: Figure) -> None:
    """Of its login and of an answer: the client is told, or got the answer."""
    house, middle = lying
    login = house.grant()
    whole = len(Login().offer) + 90 + 60 + len(Login().welcome) + len(ANSWER + build.ready(73))

    def script(cut: int) -> Script:
        def run(peer: socket.socket) -> None:
            left = cut

            def say(data: bytes) -> None:
                nonlocal left
                peer.sendall(data[:left])
                left -= len(data)
                if left <= 0:
                    raise ConnectionAbortedError

            server = Login(iterations=1)
            say(server.offer)
            say(server.challenge(peer))
            say(server.signature(peer) + server.welcome)
            hear(peer)
            say(ANSWER + build.ready(73))

        return run

    cuts = range(0, whole, 1 if LONG else 13)
    told = 0
    for cut in cuts:
        middle.script = script(cut)
        with Raw(house.port, timeout=8) as raw:
            raw.start(login[0])
            last = raw.prove(login[1])[-1]
            if last[0] == "Z":
                raw.send(build.query(b"select 1"))
                answer = raw.until("Z", "E", "")
                assert answer[-1][0] in "ZE", (cut, answer)
                if answer[-1][0] == "Z":
                    continue
                last = answer[-1]
            assert fatal([last])[0] in ("08006", "08P01"), (cut, last)
            told += 1
    works(house, middle, login)
    figure(
        "a server that hangs up at each byte",
        f"{len(cuts)} points of login and answer",
        f"{told} clients told, 0 left hanging",
        "0",
    )


SESSIONS: dict[str, bytes] = {
    "ReadyForQuery unasked": build.ready(73),
    "rows unasked": build.message(b"D", b"\0\0") * 1_000,
    "CommandComplete unasked": build.message(b"C", b"SELECT 1\0"),
    "BackendKeyData in a session": build.key_data(1, b"\0\0\0\1"),
    "Authentication in a session": build.AUTHENTICATION_OK,
    "CopyInResponse unasked": build.message(b"G", b"\0\0\0"),
    "ParseComplete unasked": build.message(b"1", b""),
    "1 GiB RowDescription unasked": b"T" + GIB + b"x" * 200_000,
    "2 GiB error": b"E\x7f\xff\xff\xff" + b"SERROR\0" + b"x" * 200_000,
    "length 3": b"D\0\0\0\3",
    "type 0": build.message(b"\0", b""),
    "http": b"HTTP/1.1 200 OK\r\n\r\n",
    "setting without end of text": build.message(b"S", b"a\0b"),
    "another encoding": build.parameter_status("client_encoding", "SJIS"),
}
HARMLESS: dict[str, bytes] = {
    "notices": build.notice(text="n") * 20_000,
    "settings": build.parameter_status("application_name", "x") * 20_000,
    "notifications": build.message(b"A", b"\0\0\0\1c\0p\0") * 20_000,
    "an error without SQLSTATE": build.message(b"E", b"SERROR\0Mno\0\0"),
    "an error with unterminated fields": build.message(b"E", b"SERROR\0Mno"),
}


def test_lies_in_a_session(lying: tuple[House, Middle], figure: Figure) -> None:
    house, middle = lying
    login = house.grant()
    works(house, middle, login)
    before = peak = house.memory()
    tried = 0
    for moment in ("idle", "in a query"):
        for what, lie in [*SESSIONS.items(), *HARMLESS.items()]:
            unasked = moment == "idle"

            def script(peer: socket.socket, lie: bytes = lie, unasked: bool = unasked) -> None:
                Login(iterations=1).run(peer)
                if not unasked:
                    hear(peer)
                with contextlib.suppress(OSError):
                    peer.sendall(lie)
                    if unasked:
                        hear(peer)
                    peer.sendall(ANSWER + build.ready(73))
                    peer.recv(10)

            middle.script = script
            with Raw(house.port, timeout=8) as raw:
                raw.login(login)
                with contextlib.suppress(OSError):
                    raw.send(build.query(b"select 1"), build.TERMINATE)
                said = raw.rest()
                tried += 1
            peak = max(peak, house.memory())
            if what in HARMLESS:
                assert said.endswith(build.ready(73)), (moment, what, said[-200:])
            # What can be an answer to the query is one; all else ends in words, unless a message had begun.
            elif not said.endswith(build.ready(73)) and "GiB" not in what:
                assert b"C08P01\0" in said or b"C42501\0" in said, (moment, what, said[-200:])
    works(house, middle, login)
    assert peak - before < 32 << 20
    figure(
        "a server that lies in a session",
        f"{tried} lies",
        f"all ended or passed in order; memory +{(peak - before) >> 20} MiB",
        "32 MiB",
    )


STATES: dict[str, tuple[tuple[bytes, ...], int]] = {
    "idle": ((), 0),
    "a query sent": ((build.query(b"select 1"),), 0),
    "a result begun": ((build.query(b"select id from products"),), len(COLUMNS)),
    "a pipeline sent": ((build.parse(b"", b"select 1") + build.bind(b"", b"") + build.execute() + build.SYNC,), 0),
    "COPY OUT begun": ((build.query(b"copy (select id from products) to stdout"),), 10),
    "a refusal waiting": ((build.query(b"select 1") + build.query(b"delete from orders"),), 0),
}
BODIES = (b"", b"\0", b"I", b"\0\0\0\0", b"SERROR\0C22012\0Mno\0\0", b"x" * 200, b"\xff" * 9)


def test_every_server_type_in_every_state(make_judge: Callable[[str], Judge], figure: Figure) -> None:
    judge = make_judge(READER)
    ended = tried = 0
    lengths = (3, 70_000, (1 << 31) - 1, (1 << 32) - 1) if LONG else (3, 70_000)
    for (messages, come), kind, body in itertools.product(STATES.values(), range(256), BODIES):
        for length in (len(body) + 4, *lengths):
            bench = Bench(judge, random.Random(3), fails=0.0)
            for message in messages:
                bench.begin(message, come)
            bench.relay.upstream_data(bytes((kind,)) + length.to_bytes(4, "big") + body)
            bench.relay.upstream_data(b"\0" * 70_000)
            assert bench.relay.reason in ("", "upstream broken", "setting changed"), (messages, kind, body, length)
            assert len(bench.relay._results._tail) <= HELD_BACK + 70_000
            ended += bench.relay.ended
            tried += 1
    assert ended > tried / 2
    figure(
        "every type byte of a server in every state, no sockets",
        f"{len(STATES)} states, {tried:,} messages",
        f"{ended:,} sessions ended in words, 0 bugs",
        "0 bugs",
    )
