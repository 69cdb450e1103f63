"""What became of the tests of one run, and what two runs of the same suite differ in."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.install import Installed
from tests.conformance.known import Known, cause
from tests.conformance.suites import INSIDE, Place


class SuiteError(Exception):
    """The suite did not run at all; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: outcome (`passed`, `failed`, `skipped`) and, of what failed, the reason, for each test."""

    outcomes: Mapping[str, str]
    reasons: Mapping[str, str]
    said: str = ""

    @property
    def counts(self) -> str:
        """passed/failed/skipped."""
        found = Counter(self.outcomes.values())
        return f"{found['passed']}/{found['failed']}/{found['skipped']}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that passes directly and not through daypass. `cause` is None for one that nobody knew of."""

    test: str
    through: str
    cause: str | None
    reason: str


def differences(suite: str, way: str, direct: Run, through: Run, known: Iterable[Known]) -> list[Difference]:
    """What passes directly and does not pass through daypass; a test that was not run at all does not pass."""
    known = list(known)
    return [
        Difference(test, now, cause(suite, way, test, known), through.reasons.get(test, through.said[-1000:]))
        for test, outcome in sorted(direct.outcomes.items())
        if outcome == "passed" and (now := through.outcomes.get(test, "missing")) != "passed"
    ]


def still(found: Sequence[Difference], direct: Run, through: Run) -> list[Difference]:
    """Of these, what a second pair of runs shows again: flaky tests drop out."""
    return [
        each
        for each in found
        if direct.outcomes.get(each.test) == "passed" and through.outcomes.get(each.test, "missing") != "passed"
    ]


def run(installed: Installed, place: Place, tests: Sequence[str] = ()) -> Run:
    """Run a suite, or some of it. Raises SuiteError when no test was run."""
    suite = installed.suite
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "PYTEST", "DAYPASS_"))}
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        report = Path(folder) / "report.jsonl"
        report.touch()
        with (Path(folder) / "said").open("w+") as said:
            try:
                subprocess.run(
                    suite.command(installed.python, place, tests),
                    cwd=installed.source / suite.folder,
                    env={
                        **kept,
                        **suite.environment(place),
                        "CONFORMANCE_REPORT": str(report),
                        "PYTHONPATH": str(INSIDE),
                        "PYTHONDONTWRITEBYTECODE": "1",
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    check=False,
                    timeout=suite.minutes * 60,
                )
            except subprocess.TimeoutExpired:
                said.write(f"\nended after {suite.minutes} minutes")
            said.seek(0)
            words = said.read()
        found = read(report.read_text().splitlines())
    if not found.outcomes:
        raise SuiteError(f"{suite.name}, {place.way}: no test was run\n{words[-4000:]}")
    return Run(found.outcomes, found.reasons, words)


def read(lines: Iterable[str]) -> Run:
    """A report of the plugins. Of a test that is told twice, the last word that is not `passed` counts."""
    outcomes: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for line in lines:
        test, outcome, text = json.loads(line)
        if outcomes.get(test, "passed") == "passed":
            outcomes[test] = outcome
        if text:
            reasons[test] = text
    return Run(outcomes, reasons)
