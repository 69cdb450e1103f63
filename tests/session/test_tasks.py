"""The one place where tasks are made keeps them alive and tells of their death."""

from __future__ import annotations

import asyncio
import gc

import pytest
import structlog

from proxy.tasks import spawn


async def test_a_task_is_kept_alive_by_nothing_else() -> None:
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        gc.collect()
        done.set()

    spawn(work(), name="work")
    gc.collect()
    await asyncio.wait_for(done.wait(), 1)


async def test_a_crash_is_logged_and_a_cancellation_is_not() -> None:
    async def crash() -> None:
        raise ValueError("no")

    with structlog.testing.capture_logs() as logs:
        task = spawn(crash(), name="crasher")
        with pytest.raises(ValueError):
            await task
        waiting = spawn(asyncio.sleep(10), name="waiter")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task_crashed", "crasher")]
