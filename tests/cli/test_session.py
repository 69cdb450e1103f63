"""`daypass session`: the list and the single session, as JSON and for people."""

import json
from pathlib import Path

import pytest

from tests.cli.test_recording import daypass, installation

__all__ = ["installation"]  # a fixture


def test_list(installation: Path) -> None:
    done = daypass("-c", installation, "session", "list", "-o", "json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert [one["session"] for one in listed] == ["abc-1", "abd-2"]
    assert listed[0].keys() >= {
        "session",
        "grant",
        "person",
        "database",
        "started_at",
        "ended_at",
        "state",
        "recording",
    }
    assert Path(listed[0]["recording"]).exists()
    done = daypass("-c", installation, "session", "list", "-o", "table")
    assert "abd-2" in done.stdout
    assert json.loads(daypass("-c", installation, "session", "list", "--grant", "g-none").stdout) == []


def test_show(installation: Path) -> None:
    done = daypass("-c", installation, "session", "show", "abc", "-o", "json")
    assert done.returncode == 0, done.stderr
    one = json.loads(done.stdout)
    assert (one["session"], one["statements"], one["rows"], one["start"]["tls"]) == ("abc-1", 2, 2, "TLSv1.3")
    assert "statements 2" in daypass("-c", installation, "session", "show", "abc-1", "-o", "table").stdout
    assert daypass("-c", installation, "session", "show", "zzz").returncode == 2


@pytest.mark.parametrize("command", ["list", "show"])
def test_help_has_an_example(command: str) -> None:
    done = daypass("session", command, "--help")
    assert done.returncode == 0
    assert "Example: daypass session" in done.stdout
