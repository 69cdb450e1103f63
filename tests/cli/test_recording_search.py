"""`daypass recording search` and `rebuild-index` (proxy/cli/recording_search.py), and proxy/cli/period.py."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.cli.output import Failure
from proxy.cli.period import moment
from tests.cli.test_recording import daypass, installation

__all__ = ["installation"]  # the fixture


def test_search(installation: Path) -> None:
    done = daypass("-c", installation, "recording", "search", "select AND 2", "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [(hit["session"], hit["n"]) for hit in answer["hits"]] == [("abd-2", 2), ("abc-1", 2)]
    assert answer["next"] is None
    done = daypass("-c", installation, "recording", "search", "--session", "abc-1", "--limit", "1", "-o", "json")
    page = json.loads(done.stdout)
    more = ["--after", page["next"], "--limit", "1", "-o", "json"]
    done = daypass("-c", installation, "recording", "search", "--session", "abc-1", *more)
    assert [hit["n"] for hit in page["hits"] + json.loads(done.stdout)["hits"]] == [2, 1]
    done = daypass("-c", installation, "recording", "search", "--person", "nobody", "-o", "table")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nothing found\n")


def test_usage(installation: Path, tmp_path: Path) -> None:
    done = daypass("-c", installation, "recording", "search", "select AND")
    assert done.returncode == 2
    assert "error: cannot read the query 'select AND': it ends too soon" in done.stderr
    done = daypass("-c", installation, "recording", "search", "--since", "yesterday")
    assert done.returncode == 2
    assert "neither a duration nor a time" in done.stderr
    assert daypass("recording", "search", "x", "--dir", tmp_path / "none").returncode == 3


def test_rebuild(installation: Path) -> None:
    folder = installation.parent / "recordings"
    done = daypass("-c", installation, "recording", "rebuild-index", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"statements": 4})
    (folder / ".index" / "search.db").write_bytes(b"broken" * 1000)
    done = daypass("-c", installation, "recording", "search", "select")
    assert done.returncode == 3
    assert "hint: daypass recording rebuild-index" in done.stderr
    assert daypass("-c", installation, "recording", "rebuild-index").returncode == 0
    done = daypass("-c", installation, "recording", "search", "select", "-o", "table")
    assert len(done.stdout.splitlines()) == 5


@pytest.mark.parametrize("command", ["search", "rebuild-index"])
def test_help_has_an_example(command: str) -> None:
    assert "Example: daypass recording" in daypass("recording", command, "--help").stdout


def test_moments() -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    assert moment(None, "--since") is None
    assert moment("7d", "--since", now=now) == datetime(2026, 1, 3, tzinfo=UTC)
    assert moment("2026-01-05T09:00:00Z", "--since") == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert moment("2026-01-05", "--since") == datetime(2026, 1, 5, tzinfo=UTC)
    with pytest.raises(Failure, match="--until 'x' is neither"):
        moment("x", "--until")
