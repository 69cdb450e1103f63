"""`make bench-crowd`: many clients at once. Idle sessions, logins in one instant, half-open connections, a slow reader.

Thousands of backends are stood in for by `tests.bench.backends`; the slow reader's result comes from a real server.
It prints figures and the bounds that they are meant to keep; it exits with 1 where one is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
import yaml
from rich.console import Console
from rich.table import Table

from proxy.demo.postgres import PostgresServer
from proxy.demo.served import Served, initialised
from proxy.scram import ClientExchange
from proxy.wire import build, framing, upstream
from tests.bench.targets import Target, programs
from tests.live.raw import Raw

POLICY = {
    "name": "bench",
    "databases": ["bench"],
    "search_path": ["public"],
    "tables": {"public.*": {}},
    "functions": {"allow": []},
}


def configured(port: int, password: str, user: str, home: Path, *, workers: int = 1) -> Served:
    """daypass in front of the server at `port`, not started."""
    folder = home / "daypass"
    initialised(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["listen"] = {"host": "127.0.0.1", "port": 0, "tls": {"mode": "disable"}}
    config["metrics"] = {"host": "127.0.0.1", "port": 0}
    config["limits"] = {"connections": 6000}
    config["workers"] = workers
    credential = {"mode": "shared", "user": user, "password_env": "BENCH_PASSWORD"}
    entry = {"host": "127.0.0.1", "port": port, "dbname": "postgres", "tls": "disable", "credential": credential}
    config["databases"] = {"bench": entry}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for example in (folder / "policies").glob("*.yaml"):
        example.unlink()
    (folder / "policies" / "bench.yaml").write_text(yaml.safe_dump(POLICY))
    return Served(folder, home, {"BENCH_PASSWORD": password})


@contextlib.contextmanager
def daypass(port: int, password: str, user: str, home: Path) -> Iterator[Target]:
    """daypass in front of the server at `port`."""
    served = configured(port, password, user, home)
    try:
        served.start()
        grant = served.grant(
            person="bench@example.com", vendor="b", database="bench", policy="bench", length="2h", reason="benchmark"
        )
        yield Target("daypass", served.port, grant["user"], grant["token"], (served.pid,))
    finally:
        served.close()


def memory(target: Target) -> int:
    """Resident bytes of the proxy."""
    status = Path(f"/proc/{target.pids[0]}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) << 10


async def _message(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    kind, length = framing.TYPE_AND_LENGTH(await reader.readexactly(5), 0)
    return chr(kind), await reader.readexactly(length - 4)


async def log_in(target: Target) -> asyncio.StreamWriter:
    """One whole login."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(build.startup({"user": target.user, "database": "bench"}))
    _, body = await _message(reader)
    offered = upstream.mechanisms(upstream.authentication(body)[1])
    exchange = ClientExchange(target.password, nonce=b"0123456789abcdefgh", binding=None, offered=offered)
    writer.write(build.sasl_initial(exchange.mechanism, exchange.first()))
    _, body = await _message(reader)
    writer.write(build.sasl_response(exchange.final(upstream.authentication(body)[1])))
    while True:
        kind, body = await _message(reader)
        if kind == "Z":
            return writer
        assert kind != "E", upstream.report(body)


async def log_in_all(target: Target, count: int, at_once: int) -> list[asyncio.StreamWriter]:
    gate = asyncio.Semaphore(at_once)

    async def one() -> asyncio.StreamWriter:
        async with gate:
            return await log_in(target)

    return list(await asyncio.gather(*(one() for _ in range(count))))


def idle(target: Target, count: int) -> tuple[float, float]:
    """(bytes for each session, CPU in percent of one core) of `count` idle sessions."""

    async def run() -> tuple[float, float]:
        before = memory(target)
        writers = await log_in_all(target, count, 50)
        await asyncio.sleep(2)
        each = (memory(target) - before) / count
        began, used = time.monotonic(), target.cpu_us()
        await asyncio.sleep(10)
        percent = (target.cpu_us() - used) / 1e4 / (time.monotonic() - began)
        for writer in writers:
            writer.close()
        return each, percent

    found = uvloop.run(run())
    time.sleep(3)
    return found


def storm(target: Target, count: int) -> float:
    """Seconds until `count` clients that come in one instant are all logged in."""

    async def run() -> float:
        began = time.monotonic()
        writers = await log_in_all(target, count, count)
        seconds = time.monotonic() - began
        for writer in writers:
            writer.close()
        return seconds

    seconds = uvloop.run(run())
    time.sleep(2)
    return seconds


def half_open(target: Target, count: int) -> tuple[float, float]:
    """(seconds of a login alone, seconds of a login while `count` connections have sent half a start-up)."""

    async def timed() -> float:
        began = time.monotonic()
        (await log_in(target)).close()
        return time.monotonic() - began

    alone = uvloop.run(timed())
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", target.port), timeout=5))
            sock.sendall(b"\0\0\0\x50\0\3")
        beside = uvloop.run(timed())
    return alone, beside


def slow_reader(server: PostgresServer, mebibytes: int, rate: int) -> tuple[float, float]:
    """(MiB that the proxy grows while a client reads `rate` MiB/s of a large result, MiB read)."""
    with (
        tempfile.TemporaryDirectory(prefix="daypass-slow-") as folder,
        daypass(server.port, server.password, server.user, Path(folder)) as target,
        Raw(target.port, timeout=30) as raw,
    ):
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        raw.start(target.user, "bench")
        assert raw.prove(target.password)[-1][0] == "Z"
        before, most, octets, began = memory(target), 0, 0, time.monotonic()
        raw.send(build.query(b"select repeat('x', 1000) from generate_series(1, %d)" % (mebibytes << 10)))
        # The first seconds show whether it reads ahead; the rest would only take longer.
        while time.monotonic() - began < 10:
            octets += len(raw.sock.recv(1 << 16))
            most = max(most, memory(target) - before)
            time.sleep(max(0.0, octets / (rate << 20) - (time.monotonic() - began)))
    return most / (1 << 20), octets / (1 << 20)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-crowd ARGS=…")
    parser.add_argument("--idle", default="1000,5000")
    parser.add_argument("--logins", type=int, default=500)
    parser.add_argument("--half", type=int, default=5000)
    parser.add_argument("--result", type=int, default=1024, help="MiB of the slow reader's result")
    options = parser.parse_args()
    rows: list[tuple[str, str, str, bool]] = []
    with PostgresServer(programs()) as server, tempfile.TemporaryDirectory(prefix="daypass-crowd-") as folder:
        grown, read = slow_reader(server, options.result, 1)
        what = f"{options.result} MiB to a reader of 1 MiB/s, {read:.0f} MiB read"
        rows.append((what, f"grows by {grown:.1f} MiB", "32 MiB", grown <= 32))
        stand_in = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.backends", str(server.port)], stdout=subprocess.PIPE, text=True
        )
        assert stand_in.stdout is not None
        try:
            port = int(stand_in.stdout.readline())
            for count in map(int, options.idle.split(",")):
                # A process of its own: one that has had sessions before has their memory already.
                home = Path(folder) / str(count)
                home.mkdir()
                with daypass(port, server.password, server.user, home) as target:
                    each, percent = idle(target, count)
                text = f"{each / 1000:.1f} KB each, {percent:.2f} % CPU"
                rows.append((f"{count} idle sessions", text, "60 KB, 1 %", each <= 60_000 and percent <= 1))
            with daypass(port, server.password, server.user, Path(folder)) as target:
                seconds = storm(target, options.logins)
                rows.append((f"{options.logins} logins at once", f"{seconds:.2f} s", "5 s", seconds <= 5))
                alone, beside = half_open(target, options.half)
                text = f"a login takes {beside:.3f} s (alone {alone:.3f} s)"
                rows.append((f"{options.half} half-open start-ups", text, "1 s more", beside - alone <= 1))
        finally:
            stand_in.terminate()
            stand_in.wait(10)
    table = Table(box=None, pad_edge=False)
    for column in ("crowd", "figure", "bound", ""):
        table.add_column(column, no_wrap=True)
    for what, figure, bound, kept in rows:
        table.add_row(what, figure, bound, "ok" if kept else "NOT KEPT")
    Console(width=140, highlight=False).print(table)
    return 0 if all(kept for *_, kept in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
