"""Every message type byte, and every length at a bound, in each state of the protocol.

Without sockets for all of them, in eight states; on real sockets, in front of a real Postgres, for a sample. What a
type or length does must be one of three: it is carried, it is answered in its place, or the session ends in words.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from proxy.policy.judge import Judge
from proxy.session.gate import LONGEST, PARSE_EXTRA, SMALL
from proxy.wire import build
from proxy.wire.client import PORTAL
from tests.faults.bench import SMALL_BOUNDS, Bench
from tests.faults.conftest import Figure
from tests.faults.equality import ServerLog, compare
from tests.live.house import House
from tests.live.raw import Raw
from tests.session.conftest import READER, WATCHER

PIPELINE = (build.parse(b"", b"select 1"), build.bind(b"", b""))
STATES: dict[str, tuple[bool, tuple[bytes, ...]]] = {
    "idle": (False, ()),
    "in a transaction": (False, (build.query(b"begin"),)),
    "in an extended pipeline": (False, (*PIPELINE, build.describe(PORTAL))),
    "behind a refusal, before Sync": (False, (build.parse(b"", b"delete from orders"),)),
    "behind an error, before Sync": (False, (build.bind(b"", b""), build.execute(b"none"))),
    "idle, observed": (True, ()),
    "in COPY IN, observed": (True, (build.query(b"copy orders from stdin"),)),
    "in COPY IN of a pipeline, observed": (
        True,
        (build.parse(b"", b"copy orders from stdin"), build.bind(b"", b""), build.execute(), build.SYNC),
    ),
}
RUNNING = {
    "in a simple query": (False, (build.query(b"select count(*) from orders a, orders b, orders c"),)),
    "in COPY OUT": (False, (build.query(b"copy (select a.id from orders a, orders b, orders c) to stdout"),)),
}
"""States in which the server's answer has begun and is not over."""
CARRIED = frozenset(b"QPBDECHSXFdcf")
BODIES = (b"", b"\0", b"\0\0\0\0\0\0\0\0", b"S\0", b"select 1\0")
TAKEN_WHOLE = {
    ord("Q"): SMALL_BOUNDS.statement + 5,
    ord("P"): SMALL_BOUNDS.statement + PARSE_EXTRA,
    ord("B"): SMALL_BOUNDS.values,
}


@pytest.fixture(scope="module")
def judges(make_judge: Callable[[str], Judge]) -> tuple[Judge, Judge]:
    return make_judge(READER), make_judge(WATCHER)


def reached(judges: tuple[Judge, Judge], state: str) -> Bench:
    """A session in this state; the server has said all that it has to say."""
    observe, way = (STATES | RUNNING)[state]
    bench = Bench(judges[observe], random.Random(state), observe=observe, fails=0.0)
    if state in RUNNING:
        bench.begin(way[0], 13)
    else:
        bench.run(way)
    assert not bench.relay.ended
    return bench


@pytest.mark.parametrize("state", [*STATES, *RUNNING])
def test_every_type_in_every_state(judges: tuple[Judge, Judge], figure: Figure, state: str) -> None:
    tried = ended = 0
    for kind in range(256):
        for body in BODIES:
            bench = reached(judges, state)
            message = build.message(bytes((kind,)), body)
            bench.run([message])
            bench.check()
            tried += 1
            if kind not in CARRIED:
                assert bench.relay.reason == "protocol", (kind, body)
            ended += bench.relay.ended
            if not bench.relay.ended and not bench.backend.copying and kind != ord("X"):
                # The conversation goes on: the next statement is answered.
                before = len(bench.told)
                bench.run([build.SYNC, build.query(b"select 1")])
                bench.check()
                assert b"Z\0\0\0\5" in bench.told[before:]
    figure(
        "every type byte in a state, no sockets",
        f"{state}: {tried:,} messages",
        f"{ended:,} sessions ended in words, 0 laws broken",
        "0 broken",
    )


LENGTHS = (
    0, 1, 2, 3, 4, 5, SMALL - 1, SMALL, SMALL + 1, SMALL_BOUNDS.statement + 4, SMALL_BOUNDS.statement + 5,
    SMALL_BOUNDS.statement + 6, SMALL_BOUNDS.statement + PARSE_EXTRA, SMALL_BOUNDS.statement + PARSE_EXTRA + 1,
    SMALL_BOUNDS.values - 1, SMALL_BOUNDS.values, SMALL_BOUNDS.values + 1, LONGEST - 1, LONGEST, 2**31 - 1, 2**31,
    2**32 - 1,
)  # fmt: skip


@pytest.mark.parametrize("state", ["idle", "behind a refusal, before Sync", "in COPY IN, observed"])
def test_every_length_at_a_bound_for_every_type(judges: tuple[Judge, Judge], figure: Figure, state: str) -> None:
    tried = 0
    for kind in sorted(CARRIED | frozenset(b"pzA\0\xff")):
        for length in LENGTHS:
            bench = reached(judges, state)
            head = bytes((kind,)) + length.to_bytes(4, "big")
            # As much as a client can send of what it claims, in pieces of a socket's size.
            body = b"x" * min(max(length - 4, 0), 400_000)
            data = head + body
            bench.run([data[at : at + 65_536] for at in range(0, len(data), 65_536)])
            tried += 1
            possible = 4 <= length < LONGEST
            fits = possible and (kind in TAKEN_WHOLE or kind == ord("d") or length <= SMALL)
            if not fits or kind not in CARRIED:
                assert bench.relay.reason == "protocol", (chr(kind), length)
            elif kind in TAKEN_WHOLE and length > TAKEN_WHOLE[kind]:
                assert len(bench.relay._gate._held) == 0, "what is too long is not kept"
            if length == len(data) - 1:
                bench.check()
    figure("every length at a bound, no sockets", f"{state}: {tried:,} type and length pairs", "0 laws broken", "0")


PLACES = ("before start-up", "in SASL", *STATES, *RUNNING)


def test_types_and_lengths_on_real_sockets(make_house: Callable[..., House], figure: Figure) -> None:
    """Each state in front of a real server; a session beside them does not notice."""
    house = make_house(login_timeout="2s").start()
    logins = {True: house.grant(policy="watcher"), False: house.grant()}
    log = ServerLog(house.pg)
    chance = random.Random(1)
    before, tried = house.memory(), 0
    with Raw(house.port).login(logins[False]) as beside:
        for place in PLACES:
            kinds = [*CARRIED, *chance.sample(sorted(set(range(256)) - CARRIED), 6)]
            for kind in kinds:
                length = chance.choice((0, 3, 4, 5, 9, 2**31 - 1, 2**31, 2**32 - 1))
                observe, way = (STATES | RUNNING).get(place, (False, ()))
                # COPY IN of the real server needs a table that may be written.
                way = tuple(part.replace(b"orders from", b"faulty from") for part in way)
                if b"".join(way).count(b"faulty"):
                    way = (build.query(b"create temp table faulty (x text)"), *way)
                with Raw(house.port, timeout=5) as raw:
                    if place == "in SASL":
                        raw.start(logins[False][0])
                        raw.message()
                    elif place != "before start-up":
                        raw.login(logins[observe])
                    raw.send(*way, bytes((kind,)) + length.to_bytes(4, "big") + b"\0" * 8)
                    raw.sock.shutdown(1)
                    raw.rest()
                tried += 1
            beside.send(build.query(b"select 1"))
            assert beside.until("Z", "")[-1][0] == "Z"
    sessions, statements, found = compare(house, log.settled(house.role))
    assert not found, found[:5]
    assert not [line for line in house.log() if line["event"].endswith("_bug")]
    grown = house.memory() - before
    assert grown < 32 << 20
    figure(
        "types and lengths on real sockets",
        f"{len(PLACES)} states, {tried} connections, {sessions} sessions, {statements} statements",
        f"0 differences of log and record; memory +{grown >> 20} MiB",
        "0; 32 MiB",
    )
