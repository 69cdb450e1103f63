"""Every message type byte, and every length at a bound, in each state of the protocol.

Without sockets for all of them, in eight states; on real sockets, in front of a real Postgres, for a sample. What a
type or length does must be one of three: it is carried, it is answered in its place, or the session ends in words.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from proxy.policy.judge import Judge
from proxy.session.gate import LONGEST, PARSE_EXTRA, SMALL
from proxy.wire import build
from proxy.wire.client import PORTAL
from tests.faults.bench import SMALL_BOUNDS, Bench
from tests.faults.conftest import Figure
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


def test_every_type_in_every_state(judges: tuple[Judge, Judge], figure: Figure) -> None:
    tried = ended = 0
    for state in (*STATES, *RUNNING):
        for kind in range(256):
            for body in BODIES:
                bench = reached(judges, state)
                bench.run([build.message(bytes((kind,)), body)])
                bench.check()
                tried += 1
                if kind not in CARRIED:
                    assert bench.relay.reason == "protocol", (state, kind, body)
                ended += bench.relay.ended
                if not bench.relay.ended and not bench.backend.copying and kind != ord("X"):
                    # The conversation goes on: the next statement is answered.
                    before = len(bench.told)
                    bench.run([build.SYNC, build.query(b"select 1")])
                    bench.check()
                    assert b"Z\0\0\0\5" in bench.told[before:]
    figure(
        "every type byte of a client in every state, no sockets",
        f"{len(STATES) + len(RUNNING)} states, {tried:,} messages",
        f"{ended:,} sessions ended in words, 0 laws broken",
        "0 broken",
    )


LENGTHS = (
    0, 1, 2, 3, 4, 5, SMALL - 1, SMALL, SMALL + 1, SMALL_BOUNDS.statement + 4, SMALL_BOUNDS.statement + 5,
    SMALL_BOUNDS.statement + 6, SMALL_BOUNDS.statement + PARSE_EXTRA, SMALL_BOUNDS.statement + PARSE_EXTRA + 1,
    SMALL_BOUNDS.values - 1, SMALL_BOUNDS.values, SMALL_BOUNDS.values + 1, LONGEST - 1, LONGEST, 2**31 - 1, 2**31,
    2**32 - 1,
)  # fmt: skip


def test_every_length_at_a_bound_for_every_type(judges: tuple[Judge, Judge], figure: Figure) -> None:
    tried = 0
    states = ("idle", "behind a refusal, before Sync", "in COPY IN, observed")
    for state, kind in itertools.product(states, sorted(CARRIED | frozenset(b"pzA\0\xff"))):
        for length in LENGTHS:
            bench = reached(judges, state)
            head = bytes((kind,)) + length.to_bytes(4, "big")
            # As much as a client can send of what it claims, in pieces of a socket's size.
            body = b"x" * min(max(length - 4, 0), 400_000)
            data = head + body
            bench.run([data[at : at + 65_536] for at in range(0, len(data), 65_536)])
            tried += 1
            possible = 4 <= length < LONGEST
            streams = kind == ord("d") or (kind == ord("F") and bench.observe)
            fits = possible and (kind in TAKEN_WHOLE or streams or length <= SMALL)
            if not fits or kind not in CARRIED:
                assert bench.relay.reason == "protocol", (chr(kind), length)
            elif kind in TAKEN_WHOLE and length > TAKEN_WHOLE[kind]:
                assert len(bench.relay._gate._held) == 0, "what is too long is not kept"
            if length == len(data) - 1:
                bench.check()
    figure(
        "every length at a bound for every type, no sockets",
        f"{tried:,} pairs in {len(states)} states",
        "0 laws broken",
        "0",
    )
