"""The judging processes from the server's side: verdicts as if judged here, and a denial for whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.policy import worker
from proxy.policy.judge import Both, Judge
from proxy.policy.judgement import Judgement
from proxy.policy.worker import Worker, Workers
from tests.policy.conftest import POLICY, Judging

HERE = Path(__file__).parent
PADDING = b"-- " + b"x" * 5000 + b"\n"
LONG = PADDING * 4
"""Longer than any text that is remembered."""
FATAL = "tests.policy.fatal_process"


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(1)
    yield made
    await made.close()


@pytest.fixture
async def fatal() -> AsyncIterator[Workers]:
    made = Workers(1, seconds=0.1, module=FATAL)
    yield made
    await made.close()


def only(workers: Workers) -> Worker:
    (found,) = workers.all
    return found


def denied(judgement: Judgement, words: str) -> bool:
    refusal = judgement.refusal
    return bool(not judgement.allowed and refusal and refusal.rule == "limit.judging" and words in refusal.reason)


async def test_a_list_of_10000_values_is_judged(judge: Judge, workers: Workers) -> None:
    text = f"select id from app.orders where id in ({', '.join(map(str, range(10_000)))})".encode()
    assert judge.at_once(text) is None
    found = await workers.judge(judge, text)
    assert found.allowed
    assert found == judge.uncached(text)


@pytest.mark.thorough
async def test_verdicts_are_those_of_the_judge_itself(judge: Judge, workers: Workers) -> None:
    honest = [json.loads(line)["sql"] for line in (HERE / "honest.jsonl").read_text().splitlines()][::6]
    evasions = [json.loads(line) for line in (HERE.parent / "bypass/evasions.jsonl").read_text().splitlines()]
    texts = [*honest, *(case["sql"] for case in evasions if "sql" in case)][:400:2]
    assert len(texts) > 60
    for text in texts:
        heavy = text.encode() + b"\n" + LONG
        assert judge.at_once(heavy) is None
        assert await workers.judge(judge, heavy) == judge.uncached(heavy), text


async def test_what_was_judged_is_known(judge: Judge, workers: Workers) -> None:
    text = PADDING + b"select 1"
    found = await workers.judge(judge, text)
    assert judge.at_once(text) is found
    assert judge.at_once(PADDING + b"select 2") is not None  # of the same shape


async def test_both_policies_are_asked(judging: Judging, workers: Workers) -> None:
    narrower = judging(POLICY.replace("  app.products: {}\n", ""))
    both = Both(judging(), narrower)
    assert both.at_once(PADDING + b"select * from products") is None
    found = await workers.judge(both, PADDING + b"select * from products")
    assert found.refusal is not None
    assert found.refusal.rule == "table"
    assert (await workers.judge(both, PADDING + b"select * from orders")).allowed


async def test_observe_mode_refuses_nothing(judging: Judging, fatal: Workers) -> None:
    observing = judging("name: o\ndatabases: [shop]\nmode: observe\n")
    found = await fatal.judge(observing, PADDING + b"select 'spin'")
    assert (found.allowed, found.statements[0].rule) == (True, "observe.limit.judging")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("spin", "longer than 100 ms"),
        ("sleep", "longer than 100 ms"),
        ("segfault", "too large or nested too deep"),
        ("raise", "too large or nested too deep"),
        ("killed", "too large or nested too deep"),
        pytest.param(
            "memory",
            "too large or nested too deep",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process's memory small"),
        ),
    ],
)
async def test_what_goes_wrong_is_a_denial_and_the_next_text_is_judged(
    judge: Judge, fatal: Workers, word: str, reason: str
) -> None:
    await fatal.start()
    mother = only(fatal).pid
    bad = asyncio.ensure_future(fatal.judge(judge, PADDING + b"select '" + word.encode() + b"'"))
    good = asyncio.ensure_future(fatal.judge(judge, PADDING + b"select 1"))
    assert denied(await bad, reason)
    assert (await good).allowed
    assert only(fatal).pid == mother


async def test_what_is_printed_does_not_disturb(judge: Judge, fatal: Workers) -> None:
    assert (await fatal.judge(judge, PADDING + b"select 'print'")).allowed


@pytest.mark.thorough
async def test_a_process_that_is_killed_is_a_denial_and_comes_back(
    judge: Judge, fatal: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PAUSE", 0)
    assert denied(await fatal.judge(judge, PADDING + b"select 'orphan'"), "cannot be judged now")
    assert (await fatal.judge(judge, PADDING + b"select 1")).allowed


@pytest.mark.thorough
async def test_one_that_was_killed_between_two_texts_comes_back(
    judge: Judge, fatal: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PAUSE", 0)
    await fatal.start()
    pid = only(fatal).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    while only(fatal).pid:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert (await fatal.judge(judge, PADDING + b"select 1")).allowed


async def test_one_that_cannot_start_is_not_started_in_a_loop(judge: Judge) -> None:
    broken = Workers(1, module="no.such.module")
    assert denied(await broken.judge(judge, PADDING + b"select 1"), "cannot be judged now")
    assert only(broken).pid is None
    assert denied(await broken.judge(judge, PADDING + b"select 2"), "cannot be judged now")
    await broken.close()


async def test_one_that_says_more_than_anybody_reads_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STARTING", 1.0)
    endless = Workers(1, module="tests.policy.endless_process")
    async with asyncio.timeout(20):
        await endless.start()
        await endless.close()
    assert only(endless).pid is None


async def test_a_caller_that_goes_away_leaves_the_conversation_whole(judge: Judge, workers: Workers) -> None:
    await workers.start()
    leaving = asyncio.ensure_future(workers.judge(judge, PADDING + b"select 1"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    found = await workers.judge(judge, PADDING + b"select id from app.orders")
    assert found.statements[0].tables == ("app.orders",)


async def test_waiting_too_long_is_a_denial(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "QUEUE", 0)
    nobody = Workers(0)
    assert denied(await nobody.judge(judge, PADDING + b"select 1"), "wait to be judged")


@pytest.mark.thorough
async def test_the_process_ends_with_its_server(judge: Judge, workers: Workers) -> None:
    await workers.judge(judge, PADDING + b"select 1")
    pid = only(workers).pid
    assert pid
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert (await workers.judge(judge, PADDING + b"select id from orders")).allowed
    await workers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert denied(await workers.judge(judge, PADDING + b"select 2"), "shutting down")


@pytest.mark.thorough
def test_the_process_ends_when_its_server_is_killed() -> None:
    script = """
import asyncio, os, signal
from proxy.policy.worker import Workers
async def main():
    await Workers(2).start()
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    # The processes hold the script's standard error: it ends when the last of them has.
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


async def test_no_secret_of_the_server_reaches_the_process(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("looks into /proc")
    monkeypatch.setenv("APP_PASSWORD", "swordfish")
    workers = Workers(1)
    await workers.judge(judge, PADDING + b"select 1")
    assert b"swordfish" not in Path(f"/proc/{only(workers).pid}/environ").read_bytes()  # noqa: ASYNC240
    await workers.close()
