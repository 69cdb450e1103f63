"""The two-world test, long: `python -m tests.twoworld --statements 20000 --seed 1 --jobs 2 --credential ephemeral`.

Starts a server of its own. Exit 1 where something was found. `--only N` runs one statement again and prints it.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from proxy.demo.postgres import PostgresServer
from tests.support.postgres import bindirs
from tests.twoworld.report import Report
from tests.twoworld.run import run
from tests.twoworld.source import Source
from tests.twoworld.vocabulary import Vocabulary
from tests.twoworld.worlds import stage

_given: list[Any] = []


def _serve(*given: Any) -> None:
    """What every process was forked with: a server cannot be sent to one."""
    _given[:] = given


def _job(job: int) -> Report:
    pg, options = _given
    with stage(pg, f"twoworld{job}", options.credential, casts=options.seed % 2 == 0) as made:
        if options.only is not None:
            for step in Source(Vocabulary(made), options.seed, options.corpus).steps(options.only):
                verdict = made.judge.judge(step.encode())
                print(
                    step, "=>", verdict.forward.decode() if verdict.allowed else verdict.refusal, sep="\n", flush=True
                )

        def numbers() -> Any:
            if options.only is not None:
                return iter([options.only])
            counted = itertools.count() if options.minutes else range(options.statements)
            end = time.monotonic() + 60 * options.minutes
            mine = (i for i in counted if i % options.jobs == job)
            return itertools.takewhile(lambda _: not options.minutes or time.monotonic() < end, mine)

        return run(made, options.seed, numbers, options.corpus)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.twoworld", description=__doc__)
    parser.add_argument("--statements", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="run for a time instead of a number")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--credential", choices=["shared", "ephemeral"], default="shared")
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="more seeds: a JSON case a line")
    parser.add_argument("--only", type=int, help="one statement's number")
    parser.add_argument("--server", type=int, default=0, help="which of the servers found: 0 is the newest")
    parser.add_argument("--notes", action="store_true", help="print some of what is noise as well")
    options = parser.parse_args()
    if options.only is not None:
        options.jobs = 1
    context = multiprocessing.get_context("fork")
    total = Report()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # a bug is a finding here
    bindir = bindirs()[options.server]
    with PostgresServer(bindir) as pg:
        print(f"seed {options.seed}, Postgres {pg.version}, {options.credential} credential", flush=True)
        with ProcessPoolExecutor(options.jobs, mp_context=context, initializer=_serve, initargs=(pg, options)) as pool:
            for report in pool.map(_job, range(options.jobs)):
                total.add(report)
    for finding in [*(total.notes if options.notes else ()), *total.findings]:
        print(finding.text(), flush=True)
    print(total.text())
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
