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
    try:
        process = await asyncio.create_subprocess_exec(
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
            out, words, code = await asyncio.gather(
                _read(process.stdout, longest), _last_words(process.stderr), process.wait()
            )
    except TimeoutError:
        return Ran(b"", f"{name} took longer than {seconds:g} s")
    except _TooMuchError:
        return Ran(b"", f"{name} printed more than {longest} bytes")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if code:
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        return Ran(out, f"{name} {how}{f': {words}' if words else ''}")
    return Ran(out, None)


class _TooMuchError(Exception):
    pass


async def _read(stream: asyncio.StreamReader | None, longest: int) -> bytes:
    data = b""
    while stream is not None and (piece := await stream.read(65_536)):
        data += piece
        if len(data) > longest:
            raise _TooMuchError
    return data


async def _last_words(stream: asyncio.StreamReader | None) -> str:
    """The last line of what it says; the rest is read and forgotten, so that it can go on."""
    tail = b""
    while stream is not None and (piece := await stream.read(65_536)):
        tail = (tail + piece)[-4096:]
    lines = tail.decode("utf-8", "replace").strip().splitlines()
    return "".join(c for c in lines[-1] if c.isprintable())[:LONGEST_WORDS] if lines else ""
