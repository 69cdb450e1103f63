"""Ends a process of asyncio's, whatever it still says.

Knows nothing of what it is for. Invariant: when `end` returns, the process is gone.
"""

from __future__ import annotations

import contextlib
from asyncio.subprocess import Process


async def end(process: Process) -> None:
    """Kill it unless it is over, and wait.

    asyncio (since 3.11.5) counts a process as ended when its pipes are, too, and no longer reads one that is full.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    for stream in (process.stdout, process.stderr):
        with contextlib.suppress(RuntimeError):  # somebody reads
            while stream is not None and await stream.read(1 << 16):
                pass
    await process.wait()
