"""Mutated streams through the real gate, ledger, names and results, with a scripted server that keeps its own books.

Laws: no exception but the protocol's own; nothing forwarded that is not recorded, and in order; whole messages to the
client; bounded memory; nothing owed for ever; in observe mode the client hears what the server alone would say.
Covers proxy/session/gate.py, proxy/session/results.py and proxy/wire/ledger.py under noise.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.judge import Judge
from tests.faults.bench import Bench, Broken
from tests.faults.conftest import Figure
from tests.faults.mutate import Tried, run, run_all
from tests.faults.scale import LONG, SEED
from tests.faults.streams import JUNK, TEXTS, message
from tests.session.conftest import READER, WATCHER

Judges3 = tuple[Judge, Judge, Judge]
MakeJudge = Callable[[str], Judge]


@pytest.fixture(scope="module")
def judges(make_judge: MakeJudge) -> Judges3:
    """Under a policy, in observe mode, and under a policy that lets two rows pass."""
    return make_judge(READER), make_judge(WATCHER), make_judge(READER + "limits: {rows_per_statement: 2}\n")


def told(figure: Figure, tried: Tried, seed: str) -> None:
    assert not tried.broken, f"seed {seed}: {tried.broken[:5]}"
    figure(
        "mutated streams, no sockets",
        f"{tried.streams:,} streams, {tried.statements:,} statements recorded, seed {seed}",
        f"0 laws broken; {tried.streams / tried.seconds:,.0f} streams/s",
        "0",
    )


def test_mutated_streams_break_no_law(judges: Judges3, figure: Figure) -> None:
    told(figure, run(judges, int(SEED), range(4_000)), SEED)


@pytest.mark.slow
def test_very_many_mutated_streams_break_no_law(judges: Judges3, figure: Figure) -> None:
    told(figure, run_all(judges, int(SEED) + 1, 1_000_000 if LONG else 100_000), str(int(SEED) + 1))


MESSAGES = st.one_of(
    st.integers(0, 1 << 32).map(lambda seed: message(random.Random(seed))),
    st.binary(max_size=60),
    st.sampled_from([b"Q" + (len(text) + 5).to_bytes(4, "big") + text + b"\0" for text in TEXTS]),
    st.sampled_from(JUNK),
)


@given(st.lists(MESSAGES, max_size=12), st.integers(0, 1 << 32), st.booleans())
@settings(max_examples=400, deadline=None)
def test_hypothesis_finds_no_stream_that_breaks_a_law(
    judges: Judges3, chunks: list[bytes], seed: int, observe: bool
) -> None:
    bench = Bench(judges[observe], random.Random(seed), observe=observe, fails=0.2)
    bench.run(chunks)
    bench.check()


def test_the_laws_can_be_broken(judges: Judges3) -> None:
    """A bench that finds nothing proves nothing: a server that ran something else, or was sent it too early."""
    chance = random.Random(1)
    bench = Bench(judges[0], chance, fails=0.0)
    query = b"Q\0\0\0\x0dselect 1\0"
    bench.run([query])
    bench.backend.feed(query)
    with pytest.raises(Broken):
        bench.check()
    early = Bench(judges[0], chance)
    early.lines.flush = lambda: None  # type: ignore[method-assign]
    with contextlib.suppress(Exception):
        early.run([query])
    assert early.relay.reason == "bug"
    late = Bench(judges[0], chance, fails=0.0)
    late.run([query])
    late.relay.talk.ledger.entries.extend(late.relay.talk.ledger.entries or [object()])  # type: ignore[list-item]
    with pytest.raises(Broken):
        late.check()
