"""`make faults`: break things in every known way and print what was reached, one line a fault.

    python -m tests.faults [--long] [--seed N] [--points N] [--from N] [--write] [pytest arguments]

Runs tests/faults with its slow tests. `--long` tries more (a million mutated streams, kill -9 at 200 points),
`--points` kills at so many, `--from` goes on behind that many of a seed's; each such run verifies what it left.
`--write` puts the table into docs/reference/faults.md. Exit 1 when a test failed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
HEAD = ("fault", "what was done", "reached", "bound", "ok")


class Figures:
    """A plugin of pytest that collects the figures of the tests."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the figures of a test; a test that failed gets a line of its own."""
        if report.when == "call":
            self.rows += [(*value, "yes") for name, value in report.user_properties if name == "figure"]  # type: ignore[misc]
        if report.failed:
            self.rows.append((report.nodeid.rpartition("::")[2], report.when, "failed", "", "NO"))


def table(rows: list[tuple[str, ...]]) -> str:
    """The rows as a Markdown table that is readable as text too."""
    cells = [HEAD, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="as long as the figures in the documentation took")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--points", type=int, help="at how many points the proxy is killed")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the number of the first of these points")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reference/faults.md")
    options, rest = parser.parse_known_args()
    # The tests run in processes of their own, which get it from here.
    os.environ["FAULTS_SEED"] = str(options.seed)
    os.environ["FAULTS_LONG"] = "1" if options.long else ""
    os.environ["FAULTS_POINTS"] = str(options.points or "")
    os.environ["FAULTS_FROM"] = str(options.first)
    print(f"seed {options.seed}{', long' if options.long else ''}", flush=True)
    figures = Figures()
    code = pytest.main([str(Path(__file__).parent), "-m", "slow or not slow", "-q", *rest], plugins=[figures])
    text = table(sorted(set(figures.rows)))
    print(text)
    if options.write and code == 0:
        page = PAGE.read_text()
        PAGE.write_text(
            re.sub(r"\| fault .*?\n(?!\|)", text.replace("\\", r"\\") + "\n", page, count=1, flags=re.DOTALL)
        )
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
