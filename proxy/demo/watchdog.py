"""Ends a process and removes a folder when *we* are gone, however we went.

A shell holds the read end of a pipe; the kernel closes the write end with us, also after SIGKILL. An orderly end
says so on the pipe first. It must not know what it guards.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

SCRIPT = """
read word && exit 0
kill -"$3" "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"""


class Watchdog:
    """Guards process `pid` and `folder`; `how` is the signal that ends the process."""

    def __init__(self, pid: int, folder: Path, how: signal.Signals = signal.SIGTERM) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, "daypass-watchdog", str(pid), str(folder), how.name.removeprefix("SIG")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end the guard before the guarded
        )

    def release(self) -> None:
        """The process has ended in order; the folder stays."""
        with contextlib.suppress(BrokenPipeError):
            self._shell.communicate(b"done\n")
        self._shell.wait()
