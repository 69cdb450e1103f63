"""Programs of the owner's: bounded in time and output, ended with all that they started."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from proxy.access.programs import Ran, run

PATH = {"PATH": os.environ["PATH"]}


def ended(pid: int) -> bool:
    """Within two seconds."""
    state = Path(f"/proc/{pid}/stat")
    for _ in range(100):
        if not state.exists() or state.read_text().split()[2] == "Z":
            return True
        time.sleep(0.02)
    return False


async def sh(script: str, *, seconds: float = 10, longest: int = 1 << 20, **environment: str) -> Ran:
    return await run(["/bin/sh", "-c", script], seconds=seconds, environment=PATH | environment, longest=longest)


async def test_what_it_prints_and_how_it_ends() -> None:
    assert await sh("echo hi; echo noise >&2") == Ran(b"hi\n", None)
    assert (await sh("echo a >&2; printf 'no backup\\033[1m here\\n' >&2; exit 3")).problem == (
        "sh ended with exit code 3: no backup[1m here"
    )
    assert (await sh("kill -9 $$")).problem == "sh was ended by signal 9"
    assert (await run(["/nowhere/tool"], seconds=1, environment={})).problem == (
        "tool cannot be run: No such file or directory"
    )


async def test_it_sees_the_environment_that_it_is_given_and_no_terminal() -> None:
    assert (await sh("echo $SHOWN$HOME; read line || echo closed", SHOWN="yes")).out == b"yes\nclosed\n"


async def test_it_is_ended_when_its_time_is_over_and_so_is_what_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    pid = tmp_path / "pid"
    ran = await sh(f"sleep 60 & echo $! > {pid}; wait", seconds=0.5)
    assert ran.problem == "sh took longer than 0.5 s"
    assert time.monotonic() - began < 10
    assert ended(int(pid.read_text()))


async def test_one_that_leaves_its_group_with_the_pipes_does_not_hold_us_up(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    escape = f"setsid sh -c 'echo $$ > {pid}; exec sleep 60' & while ! test -s {pid}; do sleep 0.01; done"
    try:
        assert (await sh(escape, seconds=1)).problem == "sh took longer than 1 s"
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("script", ["yes", "yes >&2"])
async def test_endless_output_ends_it_or_is_forgotten(script: str) -> None:
    ran = await sh(script, seconds=2, longest=100_000)
    assert ran.problem in {"sh printed more than 100000 bytes", "sh took longer than 2 s"}
    assert ran.out == b""
