"""One running server process: the door, the pulse, what it shows, and the two ways to stop.

The first `stop` (SIGTERM) accepts nothing new, lets go of everything that a successor needs, and gives open sessions
`drain_timeout`; what is left then is ended with 57P01. The second ends it at once. Knows nothing of how its parts are
made: `proxy.app` does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from proxy.access.timekeeping import Steady
from proxy.config import Config
from proxy.server.front import Front, Views
from proxy.server.listener import Listener
from proxy.server.metrics import Family
from proxy.server.watch import Watch
from proxy.session.judging import Bench
from proxy.session.refusals import Refusal, refusal
from proxy.session.registry import Registry
from recorder.journal import Recorder

log = structlog.get_logger()

FIRST_LOOK: Final = 5.0
"""Seconds that the start waits for the catalogs, so that `ready` means ready where the databases answer."""
LAST_WORDS: Final = 1.0
"""Seconds for the last messages to reach the clients."""


class Server:
    """See the module's text. `run` returns when the server has stopped."""

    def __init__(
        self, config: Config, recorder: Recorder, registry: Registry, bench: Bench, watch: Watch, clock: Steady
    ) -> None:
        self._config = config
        self._recorder = recorder
        self._registry = registry
        self._bench = bench
        self._watch = watch
        self._clock = clock
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._listening = False

    # Questions that others ask

    def accepting(self) -> Refusal | None:
        """Why no new session may begin now; None when it may."""
        if self._stop.is_set():
            return refusal("shutdown")
        if not self._recorder.healthy():
            return refusal("recording" if self._recorder.roomy() else "no room")
        if not self._recorder.roomy():
            return refusal("no room")
        if self._clock.apart():
            return refusal("clock")
        return None

    def ready(self) -> str | None:
        """Why /readyz says no; None when it says yes."""
        if self._stop.is_set():
            return "shutting down"
        if not self._listening:
            return "starting"
        if not self._recorder.healthy():
            return f"recording: {self._recorder.fault}"
        if self._watch.fault is not None:
            return f"state: {self._watch.fault}"
        if apart := self._clock.apart():
            return f"clock: it was set by {apart:+.0f} s; `daypass clock accept` if it is right"
        if not self._bench.ready:
            return "no database's catalog could be read yet"
        return None

    # Life

    def stop(self) -> None:
        """Drain; when called again, stop draining."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()
        self._watch.looked_enough()

    async def run(self, listener: Listener, front: Front, families: Callable[[], list[Family]]) -> None:
        """Serve until stopped. Raises OSError when a port is not to be had."""
        await front.open(Views(ready=self.ready, look=self._look, families=families))
        self._watch.start()
        try:
            await self._watch.first_look(FIRST_LOOK)
            if not self._stop.is_set():
                port = await listener.start()
                self._listening = True
                front.ready(port, {name: self._bench.catalog(name) is not None for name in self._config.databases})
            await self._stop.wait()
            listener.close()
            front.close()
            self._recorder.let_go()
            self._registry.commons.resign()
            await asyncio.sleep(0)  # the loop closes what it listened on
            await self._drain()
            await listener.drop_pending()
        finally:
            listener.close()
            front.close()
            await self._watch.stop()

    def _look(self) -> str | None:
        # A disk that filled up since the last statement is found here, not by the next statement.
        self._recorder.probe()
        return self.ready()

    async def _drain(self) -> None:
        log.info("draining", sessions=len(self._registry), seconds=self._config.drain_timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.drain_timeout
        while len(self._registry) and not self._hurry.is_set() and (left := deadline - loop.time()) > 0:
            try:
                await asyncio.wait_for(self._hurry.wait(), min(left, 0.05))
            except TimeoutError:
                continue
        left_over = len(self._registry)
        for session in self._registry:
            session.finish(refusal("shutdown"), "the proxy is shutting down")
        if left_over:
            # Give the last words a moment on the wire.
            await asyncio.sleep(LAST_WORDS if not self._hurry.is_set() else 0.1)
        log.info("stopped", ended=left_over)
