"""A process that says more than anybody reads is ended all the same."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

import pytest

from proxy import processes


@pytest.mark.parametrize("script", ["yes", "yes >&2", "exit 3"])
async def test_its_end_comes_whatever_it_says(script: str) -> None:
    words = script if script.startswith("exit") else f"exec {script}"
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", words, stdout=PIPE, stderr=PIPE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.gather(process.communicate(), asyncio.Event().wait())
    async with asyncio.timeout(20):
        await processes.end(process)
    assert process.returncode in (3, -9)
