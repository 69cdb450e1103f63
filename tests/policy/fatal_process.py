"""A judging process in which some texts do what no text should: hang, crash, eat memory, print, end the mother."""

from __future__ import annotations

import ctypes
import os
import signal

from proxy.policy import worker_process
from proxy.policy.judge import Judge
from proxy.policy.judgement import Judgement

_honest = Judge.uncached


def _uncached(self: Judge, sql: bytes) -> Judgement:
    if b"spin" in sql:
        while True:
            pass
    if b"sleep" in sql:
        signal.pause()
    if b"segfault" in sql:
        ctypes.string_at(0)
    if b"memory" in sql:
        bytearray(2 << 30)
    if b"raise" in sql:
        raise KeyboardInterrupt
    if b"print" in sql:
        print("not a frame")
    if b"killed" in sql:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"orphan" in sql:
        os.kill(os.getppid(), signal.SIGKILL)
    return _honest(self, sql)


if __name__ == "__main__":
    Judge.uncached = _uncached  # type: ignore[method-assign]
    worker_process.mother()
