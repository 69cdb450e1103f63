"""Several workers as one server: started, watched, started again, told what signals say, and shown as one.

Each worker is a whole daypass process on the same port (SO_REUSEPORT). The supervisor keeps the port and the
recordings folder for them and carries no session. `/readyz` says yes when at least one worker can serve and record: a
worker that does not accept gets no connection, so what the others accept is served.
Invariants: what a successor needs (port, pages, folder) is let go as soon as the workers have closed their doors; no
worker outlives its supervisor for longer than it takes to drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable
from typing import Final, Literal

import msgspec
import structlog
import uvloop

from proxy.access.store import Store, StoreError
from proxy.clock import SystemClock
from proxy.config import Config
from proxy.server import front, health, link, metrics, pages
from proxy.server.link import Charter, Order, Told, Tracing
from proxy.server.listener import bound
from proxy.server.metrics import Family
from proxy.server.pages import Pages
from proxy.session.telling import teller
from proxy.tasks import spawn
from recorder import files
from recorder.files import FolderLock, RecordError

log = structlog.get_logger()

PROGRAM: Final = "proxy.app"
PAUSE, LONGEST_PAUSE, STEADY = 0.1, 30.0, 60.0
"""Seconds before a dead worker is started again: twice as long each time, unless it had lived for a while."""
ANSWER: Final = 2.0
"""Seconds that a worker has to answer; one that does not is not ready."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the workers' counters, which outlive them."""
CLOSING: Final = 2.0
"""Seconds for the workers to close their doors."""
OVERTIME: Final = 20.0
"""Seconds beyond the drain after which a worker that still runs is ended."""


def supervise(config: Config, tracing: Tracing | None = None) -> int:
    """Run the server with `config.workers` workers; returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(config, tracing))


async def _supervise(config: Config, tracing: Tracing | None) -> int:
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as held:
        try:
            store = await Store.open(config.state)  # made or migrated once, before all workers ask for it
            held.push_async_callback(store.close)
            identity, _ = await store.identity()
            files.make_folder(config.recording.dir)
            files.claim(config.recording.dir.absolute(), identity)
            folder = FolderLock(config.recording.dir.absolute())
            held.callback(folder.close)
            sock = await _port(config)
            held.callback(sock.close)
            links = pages.of(config, store, clock, teller(config.recording.dir, clock.now, installation=identity))
            supervisor = Supervisor(config, folder, sock, tracing, links)
            return await supervisor.run()
        except StoreError as problem:
            log.error("state_unavailable", reason=str(problem))
        except RecordError as problem:
            log.error("recording_unavailable", reason=str(problem))
        except (ssl.SSLError, ValueError) as problem:
            log.error("certificate_unusable", reason=str(problem))
            return 2
        except OSError as problem:
            log.error("cannot_serve", reason=str(problem))
        return 3


async def _port(config: Config) -> socket.socket:
    """The port, kept for the workers. Another server that shares its port with anybody would share it with us too: so
    it must be free for one alone first."""
    listen = config.listen
    with contextlib.closing(await bound(listen.host, listen.port, shared=False)) as alone:
        alone.listen(1)
        port = alone.getsockname()[1]
    return await bound(listen.host, port, shared=True)


class Worker:
    """One worker process and the conversation with it. `last`: its numbers when it was last asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.databases: dict[str, bool] | None = None
        """Which databases it knew when it got ready; None before."""
        self.last: list[Family] = []
        self.closed = asyncio.Event()
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[Told]] = {}
        self._count = 0

    async def start(self, charter: Charter) -> asyncio.StreamReader:
        """Start the process; where it speaks. Raises OSError."""
        here, there = socket.socketpair()
        with contextlib.closing(there):
            here.setblocking(False)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", PROGRAM),
                stdin=there.fileno(),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        reader, self._writer = await asyncio.open_unix_connection(sock=here, limit=link.LONGEST)
        self._writer.write(link.frame(charter))
        log.info("worker_started", worker=self.number, pid=self._process.pid)
        return reader

    async def end(self) -> int:
        """It says no more: wait for the process; its exit code."""
        self.closed.set()
        for answer in self._asked.values():
            answer.cancel()
        if self._writer is not None:
            self._writer.close()
        return 3 if self._process is None else await self._process.wait()

    def kill(self) -> None:
        """End it now."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def order(self, do: Literal["stop", "reload", "look", "numbers"], id: int = 0) -> None:
        """Tell it."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(link.line(Order(do, id)))

    async def ask(self, do: Literal["look", "numbers"]) -> Told | None:
        """Its answer; None when it ends first, or does not answer in time."""
        if self.databases is None or self.closed.is_set():
            return None
        self._count += 1
        id = self._count
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._asked[id] = answer
        self.order(do, id)
        try:
            await asyncio.wait([answer], timeout=ANSWER)
        finally:
            del self._asked[id]
        if not answer.done() or answer.cancelled():
            return None
        told = answer.result()
        self.last = told.families
        return told

    def heard(self, told: Told) -> None:
        """It said something."""
        if told.what == "ready":
            self.databases = told.databases
        elif told.what == "closed":
            self.closed.set()
        elif (answer := self._asked.get(told.id)) is not None and not answer.done():
            answer.set_result(told)


class Supervisor:
    """See the module's text. `folder` and `sock` are let go when the workers have closed their doors."""

    def __init__(
        self, config: Config, folder: FolderLock, sock: socket.socket, tracing: Tracing | None, links: Pages | None
    ) -> None:
        self._config = config
        self._links = links
        self._links_port: dict[str, int] = {}
        self._tracing = tracing
        self._folder = folder
        self._sock = sock
        self._port: int = sock.getsockname()[1]
        self._crew: dict[int, Worker] = {}
        self._stop = asyncio.Event()
        self._code = 0
        self._announced = False
        self._metrics_port = 0
        self._gone: list[Family] = []
        """The counters of workers that are gone."""
        self._restarts = 0

    async def run(self) -> int:
        """Serve until stopped; the exit code. Raises OSError when the metrics port is not to be had."""
        where = self._config.metrics
        shown = {"/metrics": self._numbers, "/healthz": front.healthz, "/readyz": self._readyz}
        http, self._metrics_port = await health.serve_http(where.host, where.port, shown)
        if self._links is not None and self._config.links is not None:
            self._links_port["links_port"] = await self._links.start(self._config.links.host, self._config.links.port)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        numbers = range(1, self._config.workers + 1)
        shifts = [spawn(self._keep(number), name=f"worker {number}") for number in numbers]
        looking = spawn(self._look_again(), name="workers' numbers")
        await self._stop.wait()
        doors = [worker.closed.wait() for worker in self._crew.values()]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*doors), CLOSING)
        http.close()
        if self._links is not None:
            self._links.close()
        self._sock.close()
        self._folder.close()
        await asyncio.sleep(0)  # the loop closes what it listened on
        log.info("draining", workers=len(self._crew), seconds=self._config.drain_timeout)
        looking.cancel()
        _, late = await asyncio.wait(shifts, timeout=self._config.drain_timeout + OVERTIME)
        for worker in self._crew.values() if late else ():
            log.error("worker_killed", worker=worker.number, message="it did not end in time")
            worker.kill()
        await asyncio.gather(*shifts)
        if self._links is not None:
            await self._links.drain()
        log.info("stopped", code=self._code)
        return self._code

    def stop(self) -> None:
        """Drain; when called again, stop draining."""
        self._stop.set()
        self._tell("stop")

    def _reload(self) -> None:
        self._tell("reload")
        try:
            if self._links is not None:
                self._links.reload()
        except (OSError, ValueError) as problem:
            log.error("certificate_unusable", reason=str(problem))

    def _tell(self, do: Literal["stop", "reload"]) -> None:
        for worker in self._crew.values():
            worker.order(do)

    # Workers

    async def _keep(self, number: int) -> None:
        """Have this worker run until the server stops."""
        loop = asyncio.get_running_loop()
        pause = PAUSE
        while not self._stop.is_set():
            began = loop.time()
            worker = self._crew[number] = Worker(number)
            try:
                await self._follow(worker)
            except (OSError, ValueError, msgspec.MsgspecError) as problem:  # it could not be started, or made no sense
                log.error("worker_lost", worker=number, reason=str(problem))
                worker.kill()
            code = await worker.end()
            self._gone = metrics.together([self._gone, metrics.counted(worker.last)])
            worker.last = []
            if self._stop.is_set():
                return
            if not self._announced:
                self._code = code if code > 0 else 3
                self.stop()
                return
            pause = PAUSE if loop.time() - began > STEADY else min(pause * 2, LONGEST_PAUSE)
            self._restarts += 1
            log.error("worker_died", worker=number, code=code, again_in=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _follow(self, worker: Worker) -> None:
        """Start it, and hear what it says until it ends."""
        config = self._config
        charter = Charter(worker.number, str(config.file.absolute()), config.text, self._port, self._tracing)
        reader = await worker.start(charter)
        if self._stop.is_set():  # while it was started
            worker.order("stop")
        with contextlib.suppress(ConnectionError):
            while said := await reader.readline():
                worker.heard(msgspec.json.decode(said, type=Told))
                self._announce()

    def _announce(self) -> None:
        known = [worker.databases for worker in self._crew.values() if worker.databases is not None]
        if len(known) == self._config.workers and not self._announced:
            self._announced = True
            log.info(
                "ready",
                port=self._port,
                metrics_port=self._metrics_port,
                **self._links_port,
                host=self._config.listen.host,
                databases={name: all(one[name] for one in known) for name in self._config.databases},
                workers=self._config.workers,
            )

    # What is shown

    async def _ask(self) -> list[tuple[Worker, Told | None]]:
        crew = list(self._crew.values())
        asked: list[Awaitable[Told | None]] = [worker.ask("numbers") for worker in crew]
        return list(zip(crew, await asyncio.gather(*asked), strict=True))

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self._ask()

    async def _numbers(self) -> health.Answer:
        answers = await self._ask()
        here = [told.families if told is not None else metrics.counted(worker.last) for worker, told in answers]
        own = metrics.of_supervisor(self._restarts)
        return 200, metrics.CONTENT_TYPE, metrics.page(metrics.together([own, *here, self._gone]))

    async def _readyz(self) -> health.Answer:
        if self._stop.is_set():
            return front.said("shutting down")
        whys = []
        for asked in asyncio.as_completed([self._why(worker) for worker in self._crew.values()]):
            if (why := await asked) is None:
                return front.said(None)
            whys.append(why)
        return front.said("; ".join(sorted(whys)))

    async def _why(self, worker: Worker) -> str | None:
        """Why it is not ready."""
        told = await worker.ask("look")
        why = "no answer" if told is None else told.why
        return why and f"worker {worker.number}: {why}"
