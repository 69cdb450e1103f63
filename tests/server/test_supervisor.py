"""Covers proxy/server/supervisor.py: questions to a worker that ends, and to one that is asked two things at once.

What a whole server with workers does is in tests/live/test_workers.py and tests/live/test_restarts.py.
"""

from __future__ import annotations

import asyncio

from proxy.server.link import Told
from proxy.server.supervisor import ANSWER, Worker


def ready() -> Worker:
    worker = Worker(1)
    worker.heard(Told("ready", databases={}))
    return worker


async def asked(worker: Worker) -> asyncio.Task[Told | None]:
    task = asyncio.create_task(worker.ask("look"))
    await asyncio.sleep(0)
    return task


async def test_a_worker_that_ends_answers_nobody_and_lets_nobody_wait() -> None:
    worker = ready()
    question = await asked(worker)
    await worker.end()
    assert await asyncio.wait_for(question, ANSWER / 2) is None
    assert await worker.ask("numbers") is None


async def test_each_question_gets_its_own_answer() -> None:
    worker = ready()
    first, second = await asked(worker), await asked(worker)
    worker.heard(Told("answer", 2, why="second"))
    worker.heard(Told("answer", 1, why="first"))
    worker.heard(Told("answer", 1, why="again"))
    found = [told.why for told in await asyncio.gather(first, second) if told is not None]
    assert found == ["first", "second"]
