"""`daypass notify digest`: what there is, what one would say; nothing is sent and nothing is marked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import app
from recorder.journal import Recorder
from tests.recorder.support import end, outcome, start, statement

runner = CliRunner()
MORE = """
notify: {mail: {command: ["false"], events: []}}
digests:
  owners: {every: week, day: fri, at: "07:30", timezone: Europe/Berlin, to: [mail]}
  acme: {every: day, vendor: acme, databases: [app], to: [mail]}
"""


@pytest.fixture
def busy(house: Path) -> Path:
    config = house / "config.yaml"
    config.write_text(config.read_text() + MORE)
    recorder = Recorder(house / "recordings", now=lambda: datetime.now(UTC))
    for vendor in ("acme", "zeta"):
        session = recorder.open(f"s-{vendor}", start(f"s-{vendor}", vendor=vendor))
        session.append(statement(1, "select 'hush'"))
        session.append(outcome(1))
        session.close(end())
    recorder.close()
    return house


def run(house: Path, *words: str) -> Result:
    return runner.invoke(app, ["-c", str(house / "config.yaml"), "notify", "digest", *words])


def test_the_list(busy: Path) -> None:
    answer = run(busy, "-o", "json")
    owners, acme = json.loads(answer.stdout)
    assert (owners["digest"], owners["of"], owners["every"]) == ("owners", "everybody", "fri 07:30 Europe/Berlin")
    assert (acme["of"], acme["databases"], acme["told_until"]) == ("vendor acme", ["app"], None)
    assert datetime.fromisoformat(acme["next"]) > datetime.now(UTC)
    table = run(busy, "-o", "table").stdout
    assert "vendor acme in app" in table
    assert "fri 07:30 Europe/Berlin" in table


def test_what_it_would_say(busy: Path) -> None:
    answer = run(busy, "acme", "--since", "1h")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("# Access report: vendor acme, database app\n")
    assert "- statements: **1**" in answer.stdout
    assert "zeta" not in answer.stdout
    page = run(busy, "owners", "--since", "1h", "--format", "html").stdout
    assert page.startswith("<!doctype html>")
    total = json.loads(run(busy, "owners", "--since", "1h", "--format", "json").stdout)
    assert total["sessions"] == 2
    for text in (answer.stdout, page, json.dumps(total)):
        assert "hush" not in text
    assert json.loads(run(busy, "-o", "json").stdout)[0]["told_until"] is None


def test_nothing_was_done(busy: Path) -> None:
    answer = run(busy, "owners", "--since", "2020-01-01", "--until", "2020-01-02")
    assert answer.exit_code == 0
    assert "nothing was done in that time" in answer.stderr


def test_no_such_digest(busy: Path) -> None:
    answer = run(busy, "owner")
    assert answer.exit_code != 0
    assert "owners" in str(answer.stderr) + str(answer.exception)


def test_none_at_all(house: Path) -> None:
    assert "config.yaml has no digests" in run(house, "-o", "table").output
