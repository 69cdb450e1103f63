"""`make bench`: pgbench -S directly, through PgBouncer, a bare relay and daypass, in short rounds that take turns.

    make bench ARGS='--seconds 2 --rounds 10 --clients 1,16,64 --modes simple,extended,prepared --workers 1,auto'
    make bench ARGS='--tls'   make bench ARGS='--durability fsync'

Rounds take turns because a shared machine drifts: each ratio is of two runs a few seconds apart, and what is
printed is the median of the ratios with the lowest and the highest. CPU is the proxy's own, by the kernel's accounting.
It prints, and judges nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.targets import DATABASE, House, Target, programs, targets

MODES = ("simple", "extended", "prepared")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pgbench. `cpu_us` is of the proxy, for each statement."""

    target: str
    mode: str
    clients: int
    round: int
    statements: int
    tps: float
    p50_us: float
    p99_us: float
    cpu_us: float


def pgbench(
    bindir: Path, target: Target, mode: str, clients: int, seconds: int, round_: int, *, tls: bool = False
) -> Run:
    """One run; RuntimeError with pgbench's words when it did not work."""
    before = target.cpu_us()
    # Only a lone client's latency says what a proxy adds; writing it down would cost many clients too much.
    noted = clients == 1
    with tempfile.TemporaryDirectory(prefix="daypass-pgbench-") as folder:
        done = subprocess.run(
            [
                *(bindir / "pgbench", "-S", "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2))),
                *(("-l", "--log-prefix", f"{folder}/log") if noted else ()),
                *("-T", str(seconds), "-h", "127.0.0.1", "-p", str(target.port), "-U", target.user, DATABASE),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "PGPASSWORD": target.password,
                "PGSSLMODE": "require" if tls else "disable",
                "PGGSSENCMODE": "disable",
            },
        )
        used = target.cpu_us() - before
        p50, p99 = _percentiles(Path(folder)) if noted else (0.0, 0.0)
    statements = re.search(r"actually processed: (\d+)", done.stdout)
    tps = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or not (statements and tps):
        raise RuntimeError(f"pgbench through {target.name}, {mode}, {clients} clients:\n{done.stdout}{done.stderr}")
    count = int(statements[1])
    return Run(target.name, mode, clients, round_, count, float(tps[1]), p50, p99, used / max(count, 1))


def _percentiles(folder: Path) -> tuple[float, float]:
    """p50 and p99 of a logged run, microseconds."""
    times = sorted(float(line.split()[2]) for log in folder.iterdir() for line in log.read_text().splitlines())
    return (times[len(times) // 2], times[len(times) * 99 // 100]) if times else (0.0, 0.0)


def ratios(runs: list[Run], of: str, to: str, what: str = "tps") -> str:
    """One target's figure to another's in the same round: median, lowest and highest."""
    base: dict[int, float] = {run.round: getattr(run, what) for run in runs if run.target == to}
    found = [getattr(run, what) / base[run.round] for run in runs if run.target == of and base.get(run.round)]
    return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})" if found else "-"


def spread(values: list[float], digits: int = 0) -> str:
    """Median with the lowest and the highest."""
    if not values:
        return "-"
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def report(runs: list[Run], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for column in (
        "mode",
        "clients",
        "target",
        "statements/s",
        "to direct",
        "to pgbouncer",
        "p50 µs",
        "p99 µs",
        "CPU µs",
        "CPU to pgbouncer",
    ):
        table.add_column(column, justify="left" if column in ("mode", "target") else "right", no_wrap=True)
    for mode, clients in dict.fromkeys((run.mode, run.clients) for run in runs):
        these = [run for run in runs if (run.mode, run.clients) == (mode, clients)]
        for name in dict.fromkeys(run.target for run in these):
            mine = [run for run in these if run.target == name]
            table.add_row(
                mode,
                str(clients),
                name,
                spread([run.tps for run in mine]),
                ratios(these, name, "direct"),
                ratios(these, name, "pgbouncer"),
                spread([run.p50_us for run in mine if run.p50_us]),
                spread([run.p99_us for run in mine if run.p99_us]),
                "" if name == "direct" else spread([run.cpu_us for run in mine], 1),
                "" if name == "direct" else ratios(these, name, "pgbouncer", "cpu_us"),
            )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…")
    parser.add_argument("--seconds", type=int, default=2, help="length of one run")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", default="1,16,64")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--scale", type=int, default=10, help="pgbench's scale factor: 100,000 rows each")
    parser.add_argument("--tls", action="store_true", help="clients speak TLS with all of them")
    parser.add_argument("--durability", choices=["write", "fsync"], default="write")
    parser.add_argument("--workers", default="1,auto", help="one daypass for each")
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    options = parser.parse_args()
    console = Console(width=170, highlight=False)  # one line for each target, also in a file
    workers = tuple(int(word) if word.isdigit() else word for word in options.workers.split(","))
    house = House(options.scale, options.tls, options.durability, workers)
    bindir, runs = programs(), []
    with targets(house) as found:
        if not any(target.name == "pgbouncer" for target in found):
            console.print("pgbouncer is not installed: compared with the direct way only")
        for mode in options.modes.split(","):
            for clients in map(int, options.clients.split(",")):
                for round_ in range(options.rounds):
                    for target in found:
                        runs.append(pgbench(bindir, target, mode, clients, options.seconds, round_, tls=options.tls))
                console.print(f"[dim]{mode}, {clients} client{'s' * (clients > 1)}: {options.rounds} rounds done[/dim]")
    report(runs, console)
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
