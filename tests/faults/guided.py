"""Coverage-guided streams: `python -m tests.faults.guided --seconds 600`. Needs atheris, which is no dependency.

The fuzzer's bytes are the client's stream, and the server's answers on the way back; the laws are those of
tests/faults/bench.py. Starts a server of its own for the catalog. What breaks a law is left as a file `crash-…`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog

from proxy import catalog
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from tests.faults.bench import Bench
from tests.faults.streams import pieces, stream
from tests.session.conftest import READER, WATCHER
from tests.support.postgres import Servers, bindirs, load_shop

KNOBS = 6
"""Bytes at the front of an input that are no stream: which judge, how often the server fails, the seed of the cuts."""


def judges() -> tuple[Judge, ...]:
    """Under a policy, in observe mode, under a limit; on the catalog of a real server that is closed again."""
    servers = Servers()
    pg = servers.get(bindirs()[0])
    snapshot = asyncio.run(
        catalog.snapshot(
            host=pg.host, port=pg.port, dbname=load_shop(pg), user=pg.user, password=pg.password, tls="disable"
        )
    )
    servers.close()
    texts = READER, WATCHER, READER + "limits: {rows_per_statement: 2}\n"
    return tuple(Judge(parse(text, "guided"), snapshot) for text in texts)


def one(known: tuple[Judge, ...], data: bytes) -> None:
    """One input. Raises Broken."""
    if len(data) < KNOBS:
        return
    chance = random.Random(data[2:KNOBS])
    judge = known[data[0] % len(known)]
    bench = Bench(judge, chance, observe=judge.policy.mode == "observe", fails=(data[1] % 4) / 10)
    if data[1] & 0x80:
        half = (len(data) + KNOBS) // 2
        lies = iter(pieces(data[half:], chance))
        bench.run(pieces(data[KNOBS:half], chance), lambda said: said + next(lies, b""))
        bench.check_record()
    else:
        bench.run(pieces(data[KNOBS:], chance))
        bench.check()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.guided", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 31))
    options = parser.parse_args()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    known = judges()
    for name in [name for name in sys.modules if name.startswith(("proxy.session", "proxy.wire"))]:
        for value in vars(sys.modules[name]).values():
            if isinstance(value, type) and value.__module__ == name:
                for key, found in list(vars(value).items()):
                    if hasattr(found, "__code__"):
                        setattr(value, key, atheris.instrument_func(found))
    with tempfile.TemporaryDirectory() as corpus:
        for number in range(400):
            chance = random.Random(number)
            (Path(corpus) / str(number)).write_bytes(chance.randbytes(KNOBS) + b"".join(stream(chance)))
        limits = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", corpus], lambda data: one(known, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
