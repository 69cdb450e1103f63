"""`serve --trace-wire`: what is said on both sides of each session, written to a file as it is said.

One file a connection, mode 0600, named by its session once there is one. A channel is wrapped only where somebody
asked for this; a session knows nothing of it. What the lines look like is `proxy.wire.trace`'s.
Invariant: a trace that cannot be written ends the trace and never the session: it is a tool, not the record.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from proxy.clock import Clock
from proxy.config import Database
from proxy.session.channel import Channel, Tls
from proxy.session.opening import Desk, Upstreams
from proxy.wire import framing
from proxy.wire.trace import Conversation

log = structlog.get_logger()


class Traces:
    """The folder of traces. `steady` leaves out times and what else differs from run to run."""

    def __init__(self, folder: Path, clock: Clock, *, steady: bool = False) -> None:
        """Raises OSError when the folder cannot be made."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._clock = clock
        self._steady = steady
        self._count = itertools.count(1)

    def wrap(self, channel: Channel, desk: Desk) -> tuple[Channel, Desk]:
        """The same connection and the same house, with a trace of what is said."""
        trace = _Trace(self._folder, f"{self._clock.now():%Y%m%d-%H%M%S}-{os.getpid()}-{next(self._count)}")
        trace.now = None if self._steady else self._clock.now
        upstreams = _Upstreams(desk.upstreams, trace, steady=self._steady)
        client = _Traced(channel, trace, "client", Conversation(steady=self._steady), ours=False)
        return client, replace(desk, upstreams=upstreams, named=trace.named)


class _Trace:
    """One file. Closed when the last channel that writes to it has ended."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._path = folder / f"{name}.trace"
        self._file: int | None = None
        self._users = 0
        self.now: Callable[[], object] | None = None
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
        except OSError as problem:
            self._fail(problem)

    def named(self, session: str) -> None:
        """The session has a name now, and so has the file."""
        path = self._folder / f"{session}.trace"
        try:
            self._path.rename(path)
            self._path = path
        except OSError as problem:
            self._fail(problem)

    def write(self, lane: str, lines: list[str]) -> None:
        """Add lines of one lane."""
        if self._file is None or not lines:
            return
        begin = f"{self.now()}\t{lane}\t" if self.now is not None else f"{lane}\t"
        data = "".join(f"{begin}{line}\n" for line in lines).encode()
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as problem:
            self._fail(problem)

    def enter(self) -> None:
        """One more channel writes here."""
        self._users += 1

    def leave(self) -> None:
        """One channel has ended."""
        self._users -= 1
        if not self._users:
            self._close()

    def _fail(self, problem: OSError) -> None:
        log.error("trace_failed", file=str(self._path), reason=problem.strerror)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _Upstreams:
    """The way to the databases, with a trace of what is said there."""

    def __init__(self, inner: Upstreams, trace: _Trace, *, steady: bool) -> None:
        self._inner = inner
        self._trace = trace
        self._steady = steady

    async def dial(self, database: Database) -> Channel:
        channel = await self._inner.dial(database)
        return _Traced(channel, self._trace, "upstream", Conversation(steady=self._steady), ours=True)

    def cancel(self, database: Database, pid: int, secret: bytes, done: Callable[[], object] = lambda: None) -> None:
        self._inner.cancel(database, pid, secret, done)


class _Traced:
    """A channel with a trace. `ours` says that daypass is the client on it."""

    def __init__(self, inner: Channel, trace: _Trace, lane: str, said: Conversation, *, ours: bool) -> None:
        self._inner = inner
        self._trace = trace
        self._lane = lane
        self._sent, self._heard = (said.client, said.server) if ours else (said.server, said.client)
        self._ended = False
        self.hold = inner.hold
        trace.enter()
        tls = f"{inner.tls.version} {inner.tls.cipher}" if inner.tls is not None else "no TLS"
        trace.write(lane, [f"# {tls}"])

    @property
    def tls(self) -> Tls | None:
        return self._inner.tls

    @property
    def address(self) -> str:
        return self._inner.address

    async def exactly(self, count: int) -> bytes:
        data = await self._inner.exactly(count)
        self._trace.write(self._lane, self._heard(data))
        return data

    async def message(self, limit: int) -> tuple[int, bytes]:
        kind, body = await self._inner.message(limit)
        head = bytes((kind,)) + (len(body) + framing.HEADER - 1).to_bytes(4, "big")
        self._trace.write(self._lane, self._heard(head + body))
        return kind, body

    def write(self, data: bytes) -> None:
        if not self._ended:
            self._trace.write(self._lane, self._sent(data))
        self._inner.write(data)

    def close(self) -> None:
        self._inner.close()
        self._end()

    def carry(self, data: Callable[[bytes], None], lost: Callable[[], None], blocked: Callable[[bool], None]) -> None:
        def heard(chunk: bytes) -> None:
            if not self._ended:
                self._trace.write(self._lane, self._heard(chunk))
            data(chunk)

        def gone() -> None:
            self._end()
            lost()

        self._inner.carry(heard, gone, blocked)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._trace.leave()
