"""Runs a program of the owner's for a while, and takes what it prints, up to a size.

Knows nothing of what it is for. Invariants: it is over when `run` returns, and so is what it started; it never gets a
terminal, a shell or a secret of daypass's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 4 << 20
"""Bytes that a program may print."""
LONGEST_WORDS: Final = 200
"""Characters that are kept of what it says on standard error."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How it went. `problem` says why it failed, in one line; None where it ended with exit code 0."""

    out: bytes
    problem: str | None


async def run(
    argv: Sequence[str], *, seconds: float, environment: Mapping[str, str], longest: int = LONGEST
) -> Ran:  # fmt: skip
    """Runs `argv` (no shell) for at most `seconds`. Never raises."""
    name = os.path.basename(argv[0])
    loop = asyncio.get_running_loop()
    try:
        transport, heard = await loop.subprocess_exec(
            lambda: _Heard(longest),
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,  # what it starts ends with it
        )
    except OSError as error:
        return Ran(b"", f"{name} cannot be run: {error.strerror}")
    try:
        async with asyncio.timeout(seconds):
            await heard.over.wait()
    except TimeoutError:
        return Ran(b"", f"{name} took longer than {seconds:g} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        await heard.exited.wait()
        transport.close()  # who left its group may hold the other ends of the pipes: nobody waits for it
    if len(heard.out) > longest:
        return Ran(b"", f"{name} printed more than {longest} bytes")
    if code := transport.get_returncode():
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        words = _last_words(heard.tail)
        return Ran(bytes(heard.out), f"{name} {how}{f': {words}' if words else ''}")
    return Ran(bytes(heard.out), None)


class _Heard(asyncio.SubprocessProtocol):
    """What it prints, up to one piece above `longest` bytes, and the end of what it says on standard error.

    `over`: it and its pipes are closed, or it printed too much. `exited`: itself is, whoever holds its pipes.
    """

    def __init__(self, longest: int) -> None:
        self.out, self.tail = bytearray(), b""
        self.over, self.exited = asyncio.Event(), asyncio.Event()
        self._longest = longest

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            self.tail = (self.tail + data)[-4096:]
        elif len(self.out) <= self._longest:
            self.out += data
            if len(self.out) > self._longest:
                self.over.set()

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


def _last_words(tail: bytes) -> str:
    """The last line of what it said, fit to be shown."""
    lines = tail.decode("utf-8", "replace").strip().splitlines()
    return "".join(c for c in lines[-1] if c.isprintable())[:LONGEST_WORDS] if lines else ""
