"""For suites that run under pytest: what became of each test, and the right user in pg8000's fixtures."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_worst: dict[str, tuple[str, str]] = {}
_RANK = {"passed": 0, "skipped": 1, "failed": 2}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test's outcome is the worst of its set-up, its call, its subtests and its tear-down."""
    outcome: str = "skipped" if hasattr(report, "wasxfail") else report.outcome
    before = _worst.get(report.nodeid)
    if before is None or _RANK[outcome] > _RANK[before[0]]:
        _worst[report.nodeid] = (outcome, report.longreprtext[-4000:] if outcome == "failed" else "")
    if report.when == "teardown":
        outcome, text = _worst.pop(report.nodeid)
        with Path(os.environ["CONFORMANCE_REPORT"]).open("a") as file:
            file.write(json.dumps([report.nodeid, outcome, text]) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, Any, Any]:
    """pg8000's fixture takes host, port and password from the environment, and not user, database and TLS."""
    made = yield
    if fixturedef.argname == "db_kwargs":
        made["user"] = os.environ["PGUSER"]
        made["database"] = os.environ["PGDATABASE"]
        made["ssl_context"] = _unverified() if os.environ["PGSSLMODE"] == "require" else False
    return made


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
