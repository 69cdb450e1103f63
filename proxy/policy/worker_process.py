"""The other side of `worker`: a process that judges one heavy text at a time, each in a fork that lives for it alone.

The mother has the parsers imported and keeps a few judges. For each text she forks; the fork has so much CPU time,
real time and memory, all kept by the kernel, and its death, of whatever cause, is an answer like any other. She never
parses what a client sent, holds no sockets and no environment of the server's, and ends when her standard input does.
Frames both ways: a 4-byte length, a kind byte, a body.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import struct
import sys
from collections import OrderedDict
from typing import Final, NoReturn

import msgspec
import structlog

from proxy import catalog
from proxy.policy.judge import Judge
from proxy.policy.judgement import Judgement
from proxy.policy.load import parse

# From the server: a judge; a text for a judge. To the server: ready; the verdict; no such judge; out of time; died.
JUDGE, TEXT, READY, VERDICT, UNKNOWN, TIMEOUT, DIED = (bytes((c,)) for c in b"JTRVUOD")
HEADER: Final = struct.Struct(">I")
LIMITS: Final = struct.Struct(">dd32s")
"""Ahead of a text: seconds of CPU time, seconds of real time, the judge's mark."""
KEPT_JUDGES: Final = 8
MEMORY: Final = 512 << 20
"""Bytes that a fork may have beside what the mother has."""
# Plain tracebacks: structlog's own choice for terminals shows local variables, a mask's key among them.
_LOGGING: Final = (
    structlog.processors.add_log_level,
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(),
)
_OUT_OF_TIME = (signal.SIGPROF, signal.SIGALRM)


class Charter(msgspec.Struct, frozen=True, array_like=True):
    """What a judge is made from."""

    mark: bytes
    policy: str
    catalog: bytes
    key: str
    views: str | None

    @classmethod
    def of(cls, judge: Judge) -> Charter:
        bound = judge.bound
        return cls(judge.mark, judge.policy.text, judge.catalog.dump(), bound.key, bound.views)

    def judge(self) -> Judge:
        """Raises PolicyError and ValueError."""
        return Judge(parse(self.policy, "policy"), catalog.load(self.catalog), key=self.key, views=self.views)


def frame(kind: bytes, body: bytes = b"") -> bytes:
    return HEADER.pack(len(body) + 1) + kind + body


def mother() -> None:
    """Serve standard input and output until the former ends."""
    # What is printed by accident must not stand between frames.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    structlog.configure(processors=_LOGGING, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    # A terminal's Ctrl-C and a service manager's TERM are the server's business: it ends us by closing the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    judges: OrderedDict[bytes, Judge] = OrderedDict()
    _settle()
    replies.write(frame(READY))
    requests = os.fdopen(0, "rb", closefd=False)
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        body = requests.read(HEADER.unpack(header)[0])
        if body[:1] == JUDGE:
            charter = msgspec.msgpack.decode(body[1:], type=Charter)
            judges[charter.mark] = judge = charter.judge()
            judge.uncached(b"select 1")  # the parsers make some of their tables on first use
            while len(judges) > KEPT_JUDGES:
                judges.popitem(last=False)
            _settle()
            answer = frame(READY)
        else:
            cpu, real, mark = LIMITS.unpack_from(body, 1)
            if mark in judges:
                judges.move_to_end(mark)
                answer = _in_a_fork(judges[mark], body[1 + LIMITS.size :], cpu, real)
            else:
                answer = frame(UNKNOWN)
        # A write to a pipe may take a part only.
        view = memoryview(answer)
        while view:
            view = view[replies.write(view) :]


def _settle() -> None:
    """What is here now, every fork shares: looking for garbage in it would only copy it."""
    gc.collect()
    gc.freeze()


def _in_a_fork(judge: Judge, sql: bytes, cpu: float, real: float) -> bytes:
    """One text's answer, framed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _fork(judge, sql, cpu, real, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0:
        return frame(VERDICT, found)
    if -status in _OUT_OF_TIME:
        return frame(TIMEOUT)
    return frame(DIED, str(status).encode())


def _fork(judge: Judge, sql: bytes, cpu: float, real: float, writer: int) -> NoReturn:
    """Judge, answer, end. The kernel ends it earlier where a limit does."""
    status = 1
    try:
        gc.disable()
        for number in _OUT_OF_TIME:
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, cpu)
        signal.setitimer(signal.ITIMER_REAL, real)
        os.close(0)
        _limit_memory()
        judgement = judge.uncached(sql)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(msgspec.msgpack.encode(judgement))
        status = 0
    finally:
        os._exit(status)


def _limit_memory() -> None:
    with contextlib.suppress(OSError, ValueError):  # a kernel without the limit, or a harder one in force
        with open("/proc/self/statm", "rb") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def verdict(body: bytes) -> Judgement:
    """The judgement of a VERDICT's body. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(body, type=Judgement)


if __name__ == "__main__":
    mother()
