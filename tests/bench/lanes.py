"""What daypass's own code costs for a statement, without sockets: `make lanes`, or `python -m tests.bench.lanes`.

The real relay, judge and recorder between two pipes that only count. Each mode sends what pgbench -S sends and gets
what Postgres answers; the figure is microseconds of this process for one statement, the best of several rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from proxy import catalog as catalogs
from proxy.catalog import Catalog
from proxy.clock import SystemClock
from proxy.demo.postgres import PostgresServer, any_bindir
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from proxy.session.gate import Bounds
from proxy.session.relay import Relay
from proxy.session.talk import Tally
from proxy.wire import build
from recorder.events import SessionStart
from recorder.journal import Recorder

POLICY = "name: bench\ndatabases: [bench]\nsearch_path: [public]\ntables: {'public.pgbench_*': {}}\n"
SQL = "SELECT abalance FROM pgbench_accounts WHERE aid = "
MODES = ("simple", "simple-same", "extended", "prepared", "rows")

ROW = build.message(b"D", b"\0\1\0\0\0\1" + b"0")
TITLE = build.message(b"T", b"\0\1abalance\0" + bytes(18))
DONE = build.message(b"C", b"SELECT 1\0")
READY = build.message(b"Z", b"I")
PARSED, BOUND = build.message(b"1", b""), build.message(b"2", b"")


def pgbench_catalog() -> Catalog:
    """What `pgbench -i` makes, as far as pgbench -S needs it."""
    with PostgresServer(any_bindir()) as pg:
        with psycopg.connect(pg.dsn(), autocommit=True) as conn:
            conn.execute("create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84))")
        return asyncio.run(
            catalogs.snapshot(
                host=pg.host, port=pg.port, dbname="postgres", user=pg.user, password=pg.password, tls="disable"
            )
        )


class Counting:
    """The end of a wire: counts what is written."""

    def __init__(self) -> None:
        self.octets = 0

    def write(self, data: bytes) -> None:
        self.octets += len(data)

    def close(self) -> None:
        pass

    def hold(self, held: bool) -> None:
        pass


def _session(folder: Path, catalog: Catalog) -> tuple[Relay, Recorder]:
    clock = SystemClock()
    recorder = Recorder(folder, now=clock.now, microseconds=clock.microseconds)
    start = SessionStart(
        session="s-bench", grant="g-1", person="Ana", vendor="Acme", user="g-1", database="bench",
        policy="bench", policy_revision="r", client_address="127.0.0.1",
    )  # fmt: skip
    relay = Relay(
        client=Counting(),
        upstream=Counting(),
        judge=Judge(parse(POLICY, "bench"), catalog),
        recording=recorder.open("s-bench", start),
        monotonic=clock.monotonic,
        tally=Tally(),
        bounds=Bounds(),
        on_end=lambda _busy: None,
    )
    return relay, recorder


def _bind(name: bytes, value: bytes) -> bytes:
    body = b"\0" + name + b"\0\0\0\0\1" + len(value).to_bytes(4, "big") + value + b"\0\0"
    return build.message(b"B", body)


def _talk(relay: Relay, mode: str) -> Callable[[bytes], None]:
    """One statement of a mode, given its number."""
    tail = build.message(b"D", b"P\0") + build.message(b"E", b"\0\0\0\0\0") + build.message(b"S", b"")
    rows = ROW * 1000
    parse_message = build.message(b"P", b"\0" + SQL.encode() + b"$1\0\0\0")
    answer = TITLE + ROW + DONE + READY

    def simple(number: bytes) -> None:
        relay.client_data(build.message(b"Q", SQL.encode() + number + b";\0"))
        relay.upstream_data(answer)

    def same(number: bytes) -> None:
        relay.client_data(build.message(b"Q", SQL.encode() + b"1;\0"))
        relay.upstream_data(answer)

    def extended(number: bytes) -> None:
        relay.client_data(parse_message + _bind(b"", number) + tail)
        relay.upstream_data(PARSED + BOUND + answer)

    def prepared(number: bytes) -> None:
        relay.client_data(_bind(b"P_0", number) + tail)
        relay.upstream_data(BOUND + answer)

    def many(number: bytes) -> None:
        relay.client_data(build.message(b"Q", SQL.encode() + b"1;\0"))
        relay.upstream_data(TITLE + rows)
        relay.upstream_data(rows + DONE + READY)

    if mode == "prepared":
        relay.client_data(build.message(b"P", b"P_0\0" + SQL.encode() + b"$1\0\0\0") + build.message(b"S", b""))
        relay.upstream_data(PARSED + READY)
    found: dict[str, Callable[[bytes], None]] = {
        "simple": simple,
        "simple-same": same,
        "extended": extended,
        "prepared": prepared,
        "rows": many,
    }
    return found[mode]


def measure(mode: str, catalog: Catalog, count: int, rounds: int) -> float:
    """Microseconds for one statement: the best of `rounds`."""
    with tempfile.TemporaryDirectory(prefix="daypass-lanes-") as folder:
        relay, recorder = _session(Path(folder), catalog)
        talk = _talk(relay, mode)
        best = float("inf")
        for _ in range(rounds):
            # New in each round: a text that came before is judged from another cache.
            numbers = [b"%d" % random.randrange(10_000_000, 1_000_000_000) for _ in range(count)]
            began = time.process_time()
            for number in numbers:
                talk(number)
            best = min(best, time.process_time() - began)
            recorder.flush_all()
        assert not relay.ended, relay.reason
        recorder.close()
    return best / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lanes", description=__doc__)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--profile", action="store_true", help="where the time goes, by cProfile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    catalog = pgbench_catalog()
    found = {}
    for mode in options.modes.split(","):
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        found[mode] = round(measure(mode, catalog, options.count, options.rounds), 2)
        if options.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        if not options.json:
            print(f"{mode:12} {found[mode]:7.2f} µs", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
