"""`daypass session`: the list and the single session, as JSON and for people."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.journal import Recorder
from tests.cli.test_recording import daypass, installation
from tests.recorder.support import Ticker, end, play, statement

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


@pytest.mark.parametrize("command", ["list", "show", "tail"])
def test_help_has_an_example(command: str) -> None:
    done = daypass("session", command, "--help")
    assert done.returncode == 0
    assert "Example: daypass session" in done.stdout


def test_tail_of_a_session_that_goes_on(installation: Path) -> None:
    """History, then the live end, until the session ends; `--jsonl` gives the file's own lines."""
    recorder = Recorder(installation.parent / "recordings", now=Ticker())
    recording = play(recorder, "s-live", 2)
    command = [sys.executable, "-c", "from proxy.cli.main import main; main()", "-c", str(installation)]
    with (
        subprocess.Popen([*command, "session", "tail", "s-li", "--jsonl"], stdout=subprocess.PIPE) as lines,
        subprocess.Popen([*command, "session", "tail", "s-live"], stdout=subprocess.PIPE, text=True) as drawn,
    ):
        assert lines.stdout is not None
        assert drawn.stdout is not None
        head = drawn.stdout.readline()
        history = [lines.stdout.readline() for _ in range(5)]
        recording.append(statement(3, "select 'live'"))
        recording.flush()
        live = lines.stdout.readline()
        recording.close(end(3))
        rest = lines.stdout.read()
        assert b"".join([*history, live, rest]) == recording.path.read_bytes()
        assert b"select 'live'" in live
        text = head + drawn.stdout.read()
    assert text.startswith("session s-live  open\n")
    assert "app=> select 'live'" in text
    assert "ended: client" in text
    assert (lines.returncode, drawn.returncode) == (0, 0)
    recorder.close()
