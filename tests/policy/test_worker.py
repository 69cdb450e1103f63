"""The judging processes from the server's side: verdicts as if judged here, and a denial for whatever goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.policy.judge import Judge
from proxy.policy.worker import Workers


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(1)
    yield made
    await made.close()


async def test_a_heavy_text_is_judged_as_it_would_be_here(judge: Judge, workers: Workers) -> None:
    text = f"select id from app.orders where id in ({', '.join(map(str, range(2000)))})".encode()
    assert judge.at_once(text) is None
    assert await workers.judge(judge, text) == judge.uncached(text)
