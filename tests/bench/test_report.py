"""The benchmark's arithmetic: ratios are of the same round, CPU is for each statement."""

from __future__ import annotations

import io
import os
import time

from rich.console import Console

from tests.bench.__main__ import Run, ratios, report, spread
from tests.bench.targets import Target

RUNS = [
    Run("direct", "simple", 1, 0, 100, 1000.0, 50.0, 90.0, 0.0),
    Run("daypass", "simple", 1, 0, 50, 500.0, 90.0, 200.0, 60.0),
    Run("direct", "simple", 1, 1, 10, 100.0, 0.0, 0.0, 0.0),
    Run("daypass", "simple", 1, 1, 8, 80.0, 0.0, 0.0, 80.0),
]


def test_ratios_are_of_the_same_round() -> None:
    assert ratios(RUNS, "daypass", "direct") == "0.65 (0.50-0.80)"
    assert ratios(RUNS, "daypass", "pgbouncer") == "-"


def test_spread_names_the_extremes() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2 (1-3)"
    assert spread([]) == "-"


def test_the_report_has_a_line_for_each_target() -> None:
    out = io.StringIO()
    report(RUNS, Console(file=out, width=200))
    assert "70.0 (60.0-80.0)" in out.getvalue()
    assert out.getvalue().count("simple") == 2


def test_cpu_is_the_kernels_accounting() -> None:
    me = Target("me", 0, "", "", (os.getpid(),))
    before, spun = me.cpu_us(), time.process_time()
    while time.process_time() - spun < 0.05:
        pass
    assert 20_000 <= me.cpu_us() - before < 5_000_000
    assert Target("direct", 0, "", "").cpu_us() == 0
