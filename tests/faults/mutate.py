"""Mutated streams through a session, from a seed: the work of tests/faults/test_mutated.py and of its long mode.

Three kinds: the client's bytes mutated; well-formed conversations (nothing may end the session but its own goodbye,
and in observe mode the client hears exactly what the server alone would have said); the server's bytes mutated.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import structlog

from proxy.policy.judge import Judges
from proxy.wire import framing
from recorder.events import SessionEnd
from tests.faults.bench import Bench, Broken
from tests.faults.scripted import Backend
from tests.faults.streams import likely, mutated, noisy, pieces, stream

KINDS = ("client", "true", "upstream")


@dataclass(slots=True)
class Tried:
    """What a run did. `broken` are (number of the stream, what was broken)."""

    streams: int = 0
    messages: int = 0
    statements: int = 0
    seconds: float = 0.0
    broken: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tried) -> None:
        self.streams += other.streams
        self.messages += other.messages
        self.statements += other.statements
        self.seconds = max(self.seconds, other.seconds)
        self.broken += other.broken


def one(judges: Sequence[Judges], seed: int, number: int) -> Bench:
    """Stream `number` of `seed`. Raises Broken."""
    chance = random.Random(f"{seed}/{number}")
    which = chance.choice((0, 0, 1, 1, 2))
    observe = judges[which].policy.mode == "observe"
    bench = Bench(judges[which], chance, observe=observe, fails=chance.choice((0.0, 0.05, 0.3)))
    kind = KINDS[number % 3]
    if kind == "client":
        bench.run(pieces(mutated(chance), chance))
        bench.check()
    elif kind == "true":
        _true(bench, chance)
    else:
        share = chance.choice((0.02, 0.2))
        data = b"".join(stream(chance))
        bench.run(pieces(data, chance), lambda said: noisy(said, chance) if chance.random() < share else said)
        bench.check_record()
    return bench


def _true(bench: Bench, chance: random.Random) -> None:
    data = b"".join(likely(chance, 6) if chance.random() < 0.5 else stream(chance))
    alone = Backend(random.Random(), bench.backend.fails)
    alone.chance.setstate(bench.backend.chance.getstate())
    bench.run(pieces(data, chance))
    bench.check()
    blind = bench.observe and _blind_copy(alone, data)
    # A statement inside of COPY data ends the session at the server too; daypass says it first.
    ends = [e.detail or "" for e in bench.lines.written[-1:] if isinstance(e, SessionEnd)]
    into_copy = bench.backend.copying and any("COPY from stdin" in detail for detail in ends)
    if bench.relay.ended and not (bench.relay._gate.terminated or bench.backend.closed or alone.closed or into_copy):
        raise Broken(f"a good conversation was ended: {bench.relay.reason}")
    if bench.observe and not bench.relay.talk.refused and not blind:
        said = alone.said
        if bench.told != said and not bench.relay.ended:
            raise Broken(f"observe mode told {bench.told!r}, the server alone says {said!r}")


def _blind_copy(alone: Backend, data: bytes) -> bool:
    """Whether the client sent COPY data that no server had asked it for yet: daypass drops what comes too early."""
    early = False
    for kind, start, stop in framing.spans(data):
        was = alone.copying
        alone.said += alone.feed(data[start - framing.HEADER : stop])
        early = early or bool(was) or bool(alone.copying)
        del kind
    return early


def run(judges: Sequence[Judges], seed: int, numbers: range, seconds: float = 0.0) -> Tried:
    """Try these streams, for `seconds` at most where that is said."""
    tried = Tried()
    began = time.monotonic()
    for number in numbers:
        try:
            bench = one(judges, seed, number)
        except Exception as problem:
            tried.broken.append((number, f"{type(problem).__name__}: {problem}"[:600]))
            if len(tried.broken) > 20:
                break
        else:
            tried.statements += bench.relay.talk.n
        tried.streams += 1
        if seconds and time.monotonic() - began > seconds:
            break
    tried.seconds = time.monotonic() - began
    return tried


_judges: list[Judges] = []


def _serve(judges: Sequence[Judges]) -> None:
    _judges[:] = judges
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def _job(job: tuple[int, range]) -> Tried:
    return run(_judges, *job)


def run_all(judges: Sequence[Judges], seed: int, streams: int, jobs: int = 2) -> Tried:
    """The same on several processors."""
    total = Tried()
    step = 5_000
    work = [(seed, range(start, min(start + step, streams))) for start in range(0, streams, step)]
    context = multiprocessing.get_context("fork")
    began = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_serve, initargs=(judges,)) as pool:
        for tried in pool.map(_job, work):
            total.add(tried)
    total.seconds = time.monotonic() - began
    return total
