"""The demonstration as a user runs it: it ends with 0, with either client, and leaves nothing behind.

Covers proxy/demo/play.py, proxy/demo/stage.py, proxy/demo/served.py, proxy/demo/watchdog.py and proxy/cli/demo.py.

`daypass demo` judges itself; these tests judge that its judgement can fail, and how it ends.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.demo.client import psql_with_tls
from proxy.demo.script import STEPS, Step

DEMO = [sys.executable, "-m", "proxy.cli.main", "demo"]
PASTE = re.compile(r"^PGPASSWORD=(\S+) psql '(\S+)'$", re.MULTILINE)


def _environment(tmp: Path) -> dict[str, str]:
    # PG* and DAYPASS_CONFIG of whoever runs the demonstration must not reach into it.
    wrong = {"PGHOST": "nowhere.invalid", "PGSSLMODE": "disable", "DAYPASS_CONFIG": "/nonexistent"}
    return {**os.environ, "TMPDIR": str(tmp), "NO_COLOR": "1", **wrong}


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    """A temporary folder that the unprivileged server can reach, also under root."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    "client",
    [
        "libpq",
        pytest.param("psql", marks=pytest.mark.skipif(psql_with_tls() is None, reason="no psql with TLS")),
    ],
)
@pytest.mark.slow  # the test below takes the same way, and asks more
def test_once_ends_by_itself_with_0(tmp: Path, client: str) -> None:
    done = subprocess.run(
        [*DEMO, "--once", "--client", client],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(tmp),
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "✗ REFUSED by rule table" in done.stdout  # the replay
    assert "o***@example.org" in done.stdout
    assert "expired" in done.stdout
    assert "ERROR:  permission denied for table customers" in done.stdout  # Postgres's own word, past daypass
    assert "its role in Postgres is dropped" in done.stdout
    assert "900-00-" not in done.stdout  # no social security number anywhere
    assert not list(tmp.iterdir())


@contextmanager
def _waiting_demo(tmp: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The demonstration up to where it waits for Ctrl-C, and all it printed."""
    with subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(tmp),
        # A shell that runs the tests in the background has SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as demo:
        assert demo.stdout is not None
        printed = ""
        try:
            for line in demo.stdout:
                printed += line
                if "Ctrl-C" in line:
                    break
            yield demo, printed
        finally:
            if demo.poll() is None:
                demo.kill()


def _children(pid: int) -> set[int]:
    """All descendants of `pid`, zombies left out."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_the_pasted_command_works_and_ctrl_c_leaves_nothing(tmp: Path) -> None:
    with _waiting_demo(tmp) as (demo, printed):
        paste = PASTE.search(printed)
        assert paste, printed
        psql = psql_with_tls()
        if psql is not None:
            said = subprocess.run(
                [psql, "-XAt", paste[2], "-c", "select count(*) from customers", "-c", "select * from hr.salaries"],
                env={**os.environ, "PGPASSWORD": paste[1]},
                capture_output=True,
                text=True,
                check=False,
            )
            assert said.stdout == "20000\n"
            assert "hr.salaries cannot be read" in said.stderr
        listed = re.search(r"^(\S+ -c \S+) session list$", printed, re.MULTILINE)
        assert listed, printed
        done = subprocess.run([*shlex.split(listed[1]), "session", "list"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        left = _children(demo.pid)
        assert left
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    _gone(left, tmp)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_ended_nothing_is_left(tmp: Path, how: signal.Signals) -> None:
    with _waiting_demo(tmp) as (demo, _):
        left = _children(demo.pid)
        demo.send_signal(how)
        assert demo.wait(30) == (143 if how == signal.SIGTERM else -signal.SIGKILL)
    _gone(left, tmp)


def _gone(pids: set[int], tmp: Path, seconds: float = 15.0) -> None:
    """Every process has ended and the temporary folder is empty, after a moment at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (any(map(_lives, pids)) or list(tmp.iterdir())):
        time.sleep(0.05)
    assert not [pid for pid in pids if _lives(pid)]
    assert not list(tmp.iterdir())


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_script_can_complain() -> None:
    refused = Step("t", "select 1", refused=True, hides=("secret",))
    assert refused.complaint("ERROR:  no") is None
    assert refused.complaint("1 row") == "should have been refused"
    assert refused.complaint("ERROR:  secret") == "should not show 'secret'"
    allowed = Step("t", "select 1", shows=("one",))
    assert allowed.complaint("one") is None
    assert allowed.complaint("two") == "should show 'one'"
    assert allowed.complaint("ERROR:  one") == "should have been allowed"
    assert {step.refused for step in STEPS} == {True, False}
