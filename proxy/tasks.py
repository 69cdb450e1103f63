"""The one place where a task is made.

A bare `asyncio.create_task` may be collected while it runs, and its crash is seen by nobody. `spawn` keeps a
reference until the task is done and logs what it died of. Knows nothing of what the tasks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

_running: set[asyncio.Task[None]] = set()


def spawn(coro: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    """Run `coro` beside everything else. Needs a running loop."""
    task = asyncio.create_task(coro, name=name)
    _running.add(task)
    task.add_done_callback(_done)
    return task


def _done(task: asyncio.Task[None]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    problem = task.exception()
    if problem is not None:
        log.error("task_crashed", task=task.get_name(), exc_info=problem)
