"""Asks another process for what would hold up sessions here: the recorder's `aside`, one request, one answer.

Knows nothing of what is asked. Invariants: the process sees no secret of this one, stands behind it in the scheduler's
order, and is gone when the call returns, however it returns.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from typing import Final

import msgspec

from proxy import processes
from recorder.aside import Request

PROGRAM: Final = "recorder.aside"
PATIENCE: Final = 600.0
"""Seconds for one answer."""
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
_TOLD: Final = 300


class NotAnswered(Exception):
    """Why there is no answer, in one line."""


async def ask(request: Request) -> bytes:
    """The answer as JSON. Raises NotAnswered."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as problem:
        raise NotAnswered(f"cannot start it: {problem.strerror}") from None
    try:
        async with asyncio.timeout(PATIENCE):
            answer, said = await process.communicate(msgspec.json.encode(request))
    except TimeoutError:
        raise NotAnswered(f"no answer within {PATIENCE:g} s") from None
    finally:
        if process.returncode is None:
            await processes.end(process)
    if process.returncode != 0:
        lines = said.decode("utf-8", "replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise NotAnswered(lines[-1][:_TOLD])
    return answer
