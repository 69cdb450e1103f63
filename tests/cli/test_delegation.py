"""`daypass delegation`: given, listed, taken back; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from proxy.cli.main import app

runner = CliRunner()


def run(house: Path, *words: str) -> Result:
    return runner.invoke(app, ["-c", str(house / "config.yaml"), "delegation", *words])


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_given_listed_taken_back(house: Path) -> None:
    made = answer(run(house, "create", "--to", "bob", "--until", "+14d", "--reason", "holiday", "--by", "ann"))
    assert (made["from"], made["to"], made["state"]) == ("ann", "bob", "stands")
    later = run(house, "create", "--to", "eve", "--from", "+1d", "--until", "+2d", "--reason", "x", "--by", "ann")
    assert answer(later)["state"] == "to come"
    table = run(house, "list", "-o", "table").stdout
    assert len(table.splitlines()) == 3
    ended = run(house, "end", made["delegation"], "--reason", "back", "--by", "ann", "-o", "table")
    assert ended.stdout.startswith(f"Delegation {made['delegation']}: bob spoke for ann until ")
    assert len(answer(run(house, "list"))) == 1
    assert [each["state"] for each in answer(run(house, "list", "--all"))] == ["over", "to come"]


def test_what_is_refused(house: Path) -> None:
    for words, message in (
        (["create", "--to", "ann", "--until", "+1d", "--reason", "x", "--by", "Ann"], "speaks for himself"),
        (["create", "--to", "bob", "--until", "-1d", "--reason", "x", "--by", "ann"], "--until"),
        (["create", "--to", "bob", "--until", "2020-01-01T00:00:00Z", "--reason", "x"], "that time is over"),
        (["end", "d-00000000", "--reason", "x"], "there is no delegation 'd-00000000'"),
    ):
        result = run(house, *words)
        assert result.exit_code == 2
        assert message in result.stderr
    assert "Nobody speaks for anybody else" in run(house, "list", "-o", "table").stderr
