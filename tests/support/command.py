"""Starts `daypass` in a process of its own, without the second that imports take.

A helper process imports the whole program once and forks for each command: real processes, with arguments,
environment, working directory, exit code and signals of their own. What depends on how an interpreter starts
(tests/cli/test_main.py, the demo) runs the real command line, and so does what reads arguments from /proc.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

NUMBER = struct.Struct("=i")
PR_SET_PDEATHSIG = 1


class Started:
    """A command that runs; the part of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """As poll, after its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("daypass", timeout or 0)
            said = self._status.recv(NUMBER.size)
            self._status.close()
            self.returncode = os.waitstatus_to_exitcode(NUMBER.unpack(said)[0]) if said else -signal.SIGKILL
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Forker:
    """The helper process, from the tests' side."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._control: socket.socket | None = None

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], folder: str, files: Sequence[int]
    ) -> Started:  # fmt: skip
        ours, theirs = socket.socketpair()
        asked = json.dumps({"words": words, "environment": {**environment}, "folder": folder}).encode()
        with self._guard, theirs:
            control = self._control or self._run()
            socket.send_fds(control, [NUMBER.pack(len(asked))], [*files, theirs.fileno()])
            control.sendall(asked)
            (pid,) = NUMBER.unpack(control.recv(NUMBER.size, socket.MSG_WAITALL))
        return Started(pid, ours)

    def _run(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        helper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.command", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._control = ours
        atexit.register(helper.wait)
        atexit.register(ours.close)
        return ours


_forker = _Forker()


def start(
    *words: str | Path,
    stdin: int | None = None,
    stdout: int,
    stderr: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Started:
    """Start `daypass words...` with these open files; without `env` in this process's environment."""
    with Path(os.devnull).open("rb") as nothing:
        files = [nothing.fileno() if stdin is None else stdin, stdout, stderr]
        return _forker.start([*map(str, words)], os.environ if env is None else env, str(cwd or Path.cwd()), files)


def daypass(
    *words: str | Path,
    input: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run `daypass words...` to its end. Raises subprocess.TimeoutExpired."""
    with TemporaryFile("w+") as stdin, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        stdin.write(input)
        stdin.seek(0)
        files = {"stdin": stdin.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        command = start(*words, **files, env=env, cwd=cwd)
        try:
            code = command.wait(timeout)
        except subprocess.TimeoutExpired:
            command.kill()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*map(str, words)], code, out.read(), err.read())


# The helper process


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each wish until nobody wishes any more; what was wished where this is the child."""
    running: dict[int, socket.socket] = {}
    ends, wake = socket.socketpair()
    ends.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    while True:
        ready = select.select([control, ends], [], [])[0]
        if ends in ready:
            ends.recv(4096)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    with running.pop(pid) as told, contextlib.suppress(OSError):
                        told.sendall(NUMBER.pack(status))
        if control not in ready:
            continue
        head, files, _, _ = socket.recv_fds(control, NUMBER.size, 4)
        if not head:
            return None
        asked = control.recv(NUMBER.unpack(head)[0], socket.MSG_WAITALL)
        if not (pid := os.fork()):
            with contextlib.suppress(OSError, AttributeError):  # Linux's: a test run that is killed leaves no server
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ours, theirs in enumerate(files[:3]):
                os.dup2(theirs, ours)
            for socket_ in (control, ends, wake, *running.values()):
                socket_.close()
            os.closerange(3, 1024)
            wish: dict[str, Any] = json.loads(asked)
            return wish
        for file in files[:3]:
            os.close(file)
        running[pid] = socket.socket(fileno=files[3])
        control.sendall(NUMBER.pack(pid))


def _become(wish: dict[str, Any]) -> None:
    """What a new interpreter would find."""
    os.chdir(wish["folder"])
    os.environ.clear()
    os.environ.update(wish["environment"])
    sys.argv = ["daypass", *wish["words"]]
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    random.seed()


def _end(run: Callable[[], None]) -> None:
    """Run it, and end without taking a whole interpreter apart, which would take a quarter of a second."""
    code: object = 0
    try:
        run()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    from proxy.cli.main import MODULES, NOUNS, main

    for noun in NOUNS:
        importlib.import_module(f"proxy.cli.{MODULES.get(noun, noun)}")
    for module in ("proxy.app", "proxy.server.supervisor", "sqlalchemy.dialects.sqlite.aiosqlite", "alembic.command"):
        importlib.import_module(module)
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would be missing in the commands"
    gc.freeze()
    if wish := _serve(socket.socket(fileno=int(sys.argv[1]))):
        _become(wish)
        _end(main)
