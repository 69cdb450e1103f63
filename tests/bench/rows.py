"""`make bench-rows`: a million rows through each target, by SELECT and by COPY, as they are and with a masked column.

The client is a raw socket that counts bytes, so that what is measured is the way and not a driver. Rounds take turns.
A masked column is masked by Postgres, so its figure is compared with what Postgres alone needs for the same mask.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from proxy.wire import build
from tests.bench.__main__ import spread
from tests.bench.targets import DATABASE, House, Target, targets
from tests.live.raw import Raw

MASK = "case when filler is null then null else repeat('*', greatest(length(filler) - 4, 0)) || right(filler, 4) end"
CASES = {
    "select": "select aid, bid, abalance, filler from pgbench_accounts limit 1000000",
    "copy": "copy pgbench_accounts to stdout",
    "masked": "select aid, bid, abalance, filler from masked",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One result: seconds, bytes at the client, CPU seconds of the proxy."""

    target: str
    case: str
    round: int
    seconds: float
    octets: int
    cpu_s: float


def fetch(target: Target, case: str, round_: int) -> Run:
    """Ask once and read to the end."""
    sql = CASES[case]
    if case == "masked" and not target.name.startswith("daypass"):
        sql = f"select aid, bid, abalance, {MASK} as filler from masked"
    with Raw(target.port, timeout=120) as raw:
        raw.start(target.user, DATABASE)
        assert raw.prove(target.password)[-1][0] == "Z"
        before, began, octets, tail = target.cpu_us(), time.perf_counter(), 0, b""
        raw.send(build.query(sql.encode()))
        end = build.ready(ord("I"))
        while not tail.endswith(end):
            piece = raw.sock.recv(1 << 18)
            assert piece, f"{target.name} closed"
            octets += len(piece)
            tail = (tail + piece)[-len(end) :]
        seconds = time.perf_counter() - began
    return Run(target.name, case, round_, seconds, octets, (target.cpu_us() - before) / 1e6)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-rows ARGS=…")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cases", default=",".join(CASES))
    options = parser.parse_args()
    runs: list[Run] = []
    with targets(House()) as found:
        for case in options.cases.split(","):
            for round_ in range(options.rounds):
                runs += [fetch(target, case, round_) for target in found]
    table = Table(box=None, pad_edge=False)
    for column in ("case", "target", "seconds", "MB/s", "to pgbouncer", "CPU s"):
        table.add_column(column, no_wrap=True)
    for case in options.cases.split(","):
        these = [run for run in runs if run.case == case]
        bouncer = {run.round: run.seconds for run in these if run.target == "pgbouncer"}
        for name in dict.fromkeys(run.target for run in these):
            mine = [run for run in these if run.target == name]
            table.add_row(
                case,
                name,
                spread([run.seconds for run in mine], 2),
                spread([run.octets / run.seconds / 1e6 for run in mine]),
                spread([bouncer[run.round] / run.seconds for run in mine if run.round in bouncer], 2),
                "" if name == "direct" else spread([run.cpu_s for run in mine], 2),
            )
    Console(width=140, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
