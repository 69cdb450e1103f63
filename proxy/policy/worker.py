"""Judging what is too heavy for the event loop: in processes that the kernel ends when a text takes too long.

    found = judges.at_once(sql, param_types)          # cached or light: now
    if found is None:
        found = await workers.judge(judges, sql, param_types)

`Workers.judge` always answers: out of time (`seconds` of CPU), out of memory, a crash, a full queue are denials by the
rule `limit.judging`, never exceptions. Texts are taken in the order in which they come; a session that has at most one
waiting holds no other up for longer than one text. A caller may be cancelled at any time. One `at_once` keeps the loop
for up to 20 ms: a lane that has a chunk full of new texts lets others have their turn between two of them. `start` and
`close` are for the owner. The processes are described in `worker_process`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process

import msgspec
import structlog

from proxy import processes, tasks
from proxy.policy import worker_process as other
from proxy.policy.judge import Judge, Judges
from proxy.policy.judgement import Judgement
from proxy.policy.refusal import Refused

log = structlog.get_logger()

SECONDS = 0.5
REAL = 4
"""Seconds of real time for each second of CPU time: a busy machine is not the text's fault."""
STARTING = 30.0
"""Seconds for a process to start, or to make a judge."""
QUEUE = 10.0
"""Seconds that a text may wait for its turn."""
PAUSE = 1.0
"""Seconds between two starts of one process: one that dies at once is not started in a loop."""
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")


class WorkerDied(Exception):
    """The process is gone or does not answer."""


class Workers:
    """A few processes, each judging one text at a time. `seconds` is the CPU time that a text may take."""

    def __init__(self, count: int = 2, *, seconds: float = SECONDS, module: str = other.__name__) -> None:
        self.all = [Worker(seconds, module) for _ in range(count)]
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._closed = False
        for worker in self.all:
            self._idle.put_nowait(worker)

    async def start(self) -> None:
        """Have the processes ready before the first text needs them; without it they start when one does."""
        await asyncio.gather(*(worker.start() for worker in self.all), return_exceptions=True)

    async def close(self) -> None:
        """End the processes; what is asked from now on is denied."""
        self._closed = True
        await asyncio.gather(*(worker.stop() for worker in self.all))

    async def judge(self, judges: Judges, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement:
        """The verdict on one text."""
        found = []
        for part in judges.parts:
            known = part.known(sql, param_types)
            found.append(known if known is not None else await self._ask(part, sql))
        return judges.conclude(sql, found)

    async def _ask(self, judge: Judge, sql: bytes) -> Judgement:
        if self._closed:
            return judge.deny(sql, _refused("the server is shutting down", ""))
        try:
            async with asyncio.timeout(QUEUE):
                worker = await self._idle.get()
        except TimeoutError:
            return judge.deny(sql, _refused("too many statements wait to be judged", "Try again."))
        answer: asyncio.Future[Judgement] = asyncio.get_running_loop().create_future()
        # A task of its own: a caller that goes away leaves no half-spoken conversation behind.
        tasks.spawn(self._work(worker, judge, sql, answer), name="judging")
        return await answer

    async def _work(self, worker: Worker, judge: Judge, sql: bytes, answer: asyncio.Future[Judgement]) -> None:
        try:
            found = await worker.judge(judge, sql)
        except Exception:
            log.exception("judging_bug")
            await worker.stop(now=True)
            found = judge.deny(sql, _refused("the statement cannot be judged now", "Try again in a few seconds."))
        finally:
            self._idle.put_nowait(worker)
        if not answer.done():
            answer.set_result(found)


def _refused(reason: str, hint: str) -> Refused:
    return Refused("limit.judging", reason, hint)


class Worker:
    """One process and the conversation with it, which only one caller holds at a time."""

    def __init__(self, seconds: float, module: str) -> None:
        self._seconds = seconds
        self._module = module
        self._process: Process | None = None
        self._started = float("-inf")
        self._starting = asyncio.Lock()
        self._ready = False

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def judge(self, judge: Judge, sql: bytes) -> Judgement:
        """The verdict on one text; a denial where there is none."""
        try:
            kind, body = await self._judge(judge, sql)
            if kind == other.VERDICT:
                found = other.verdict(body)
                judge.keep(sql, found)
                return found
        except (WorkerDied, msgspec.DecodeError) as problem:
            log.warning("worker_died", reason=str(problem))
            await self.stop(now=True)
            return judge.deny(sql, _refused("the statement cannot be judged now", "Try again in a few seconds."))
        if kind == other.TIMEOUT:
            hint = "Split it, flatten it, or send long lists as one array parameter."
            return judge.deny(sql, _refused(f"judging takes longer than {self._seconds * 1000:.0f} ms", hint))
        log.warning("judging_died", status=body.decode(errors="replace"), bytes=len(sql))
        return judge.deny(sql, _refused("the statement is too large or nested too deep to be judged", "Split it."))

    async def _judge(self, judge: Judge, sql: bytes) -> tuple[bytes, bytes]:
        await self.start()
        real = self._seconds * REAL
        request = other.frame(other.TEXT, other.LIMITS.pack(self._seconds, real, judge.mark) + sql)
        kind, body = await self._talk(request, STARTING + real)
        if kind == other.UNKNOWN:
            charter = msgspec.msgpack.encode(other.Charter.of(judge))
            await self._talk(other.frame(other.JUDGE, charter), STARTING)
            kind, body = await self._talk(request, STARTING + real)
        return kind, body

    async def _talk(self, request: bytes, patience: float) -> tuple[bytes, bytes]:
        """One frame there, one back. Raises WorkerDied."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise WorkerDied("it was stopped")
        try:
            async with asyncio.timeout(patience):
                if request:
                    process.stdin.write(request)
                    await process.stdin.drain()
                (length,) = other.HEADER.unpack(await process.stdout.readexactly(other.HEADER.size))
                body = await process.stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as problem:
            raise WorkerDied(str(problem) or type(problem).__name__) from None
        return body[:1], body[1:]

    async def start(self) -> None:
        """Start the process unless it runs. Raises WorkerDied."""
        async with self._starting:
            await self._start()

    async def _start(self) -> None:
        if self.pid is not None:
            return
        now = asyncio.get_running_loop().time()
        if now - self._started < PAUSE:
            raise WorkerDied("it has just been started")
        self._started, self._ready = now, False
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                stdin=PIPE,
                stdout=PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as problem:
            raise WorkerDied(str(problem)) from None
        try:
            await self._talk(b"", STARTING)
            self._ready = True
        except WorkerDied:
            await self.stop(now=True)
            raise

    async def stop(self, *, now: bool = False) -> None:
        """End the process: it ends by itself when its input does, unless it has to be `now` or still starts."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(0 if now or not self._ready else self._seconds * REAL + 1):
                await process.wait()
        except TimeoutError:
            await processes.end(process)
