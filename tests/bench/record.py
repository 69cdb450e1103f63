"""What the record costs: `make bench-record`, or `python -m tests.bench.record`.

On a statement's way, on the disk, when it is sealed, when it is verified; the real recorder on real files, without
sockets. One line of the table for each figure. More figures are added by a function in `FIGURES`: it gets a folder of
its own and yields rows (what, figure, unit).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from proxy.clock import SystemClock
from recorder.events import Outcome, SessionEnd, SessionStart, Statement
from recorder.forms import Form
from recorder.journal import Recorder, Recording, Turns
from recorder.pack import Form as PackedForm
from recorder.pack import Packer
from recorder.verify import verify
from tests.bench import record_read

SQL = "SELECT abalance FROM pgbench_accounts WHERE aid = $1"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """How much is done. `count` statements, `seconds` for each group, `mib` in the recording that is sealed,
    `events` in the one that is jumped in, `statements` in the search index."""

    count: int = 20_000
    seconds: float = 2.0
    mib: int = 1024
    sessions: tuple[int, ...] = (1, 16, 200)
    events: int = 1_000_000
    statements: int = 1_000_000


USUAL = Options()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    figure: float
    unit: str


Figures = Callable[[Path, Options], Iterator[Row]]


def recorder_in(folder: Path, durability: str, turns: Turns | None = None) -> Recorder:
    clock = SystemClock()
    return Recorder(folder, durability=durability, now=clock.now, microseconds=clock.microseconds, turns=turns)


def start(session: str) -> SessionStart:
    return SessionStart(
        session=session, grant="g-1", person="Ana", vendor="Acme", user="g-1", database="bench", policy="bench",
        policy_revision="ab" * 32, client_address="127.0.0.1",
    )  # fmt: skip


def form() -> Form:
    """What is recorded of a prepared statement that runs again."""
    return Form(
        Statement(
            n=1,
            sql=SQL,
            params=["1"],
            verdict="allow",
            rule=None,
            rewritten=None,
            kind="select",
            protocol="extended",
            name="P_0",
            portal="",
            tables=["public.pgbench_accounts"],
        )
    )


def outcome(n: int) -> Outcome:
    return Outcome(n=n, rows=1, bytes=14, ms=0.125, sqlstate=None, tag="SELECT 1")


def on_the_way(folder: Path, options: Options) -> Iterator[Row]:
    """A statement and its outcome, one session, in this process's own time."""
    shown = form()
    for durability, count in (("write", options.count), ("fsync", max(200, options.count // 40))):
        recorder = recorder_in(folder / durability, durability)
        recording = recorder.open("s-1", start("s-1"))
        size = recording.path.stat().st_size
        best = float("inf")
        for _ in range(3):
            gc.collect()
            began = time.perf_counter()
            for n in range(count):
                recording.append_encoded(shown.fill(n, ["1234567"]))
                recording.flush()
                recording.append(outcome(n))
            best = min(best, time.perf_counter() - began)
        recording.flush()
        if durability == "write":
            yield Row(
                "a statement's bytes, raw, with its outcome", (recording.path.stat().st_size - size) / count / 3, "B"
            )
        yield Row(f"a statement on its way, {durability}, alone", best / count * 1e6, "µs")
        recording.close(SessionEnd(reason="client", detail=None, statements=count * 3))
        recorder.close()


def groups(folder: Path, options: Options) -> Iterator[Row]:
    """Sessions that each ask again as soon as the disk has what they asked."""
    for sessions in options.sessions:
        statements, syncs, waited = asyncio.run(_group(folder / str(sessions), sessions, options.seconds))
        yield Row(f"group commit, {sessions} sessions", statements, "statements/s")
        yield Row(f"group commit, {sessions} sessions, syncs", syncs, "syncs/s")
        yield Row(f"group commit, {sessions} sessions, p50", waited * 1e6, "µs")


async def _group(folder: Path, sessions: int, seconds: float) -> tuple[float, float, float]:
    loop = asyncio.get_running_loop()
    recorder = recorder_in(folder, "fsync", Turns(loop.call_soon, loop.call_soon_threadsafe))
    recordings = [recorder.open(f"s-{number}", start(f"s-{number}")) for number in range(sessions)]
    shown, waits, stop, ended = form(), [], loop.time() + seconds, loop.create_future()
    running = sessions

    def ask(recording: Recording, n: int) -> None:
        nonlocal running
        if loop.time() > stop:
            running -= 1
            if not running:
                ended.set_result(None)
            return
        began = time.perf_counter()

        def told() -> None:
            waits.append(time.perf_counter() - began)
            recording.append(outcome(n))
            ask(recording, n + 1)

        recording.append_encoded(shown.fill(n, ["1234567"]))
        recording.commit(told)

    before, began = recorder.syncs, time.perf_counter()
    for recording in recordings:
        ask(recording, 1)
    await ended
    took = time.perf_counter() - began
    syncs = recorder.syncs - before
    for recording in recordings:
        assert recording.broken is None, recording.broken
        recording.close(SessionEnd(reason="client", detail=None, statements=0))
    recorder.close()
    return len(waits) / took, syncs / took, statistics.median(waits)


def big(folder: Path, options: Options) -> Iterator[Row]:
    """The end of a very long session, and what it takes to verify it."""
    recorder = recorder_in(folder, "write")
    recording = recorder.open("s-1", start("s-1"))
    shown, wanted, n = form(), options.mib * MIB, 0
    while recording.path.stat().st_size < wanted:
        for _ in range(2000):
            n += 1
            recording.append_encoded(shown.fill(n, ["1234567"]))
            recording.append(outcome(n))
        recording.flush()
    began = time.perf_counter()
    recording.close(SessionEnd(reason="client", detail=None, statements=n))
    held_up = time.perf_counter() - began
    recorder.close()
    yield Row(f"sealing {options.mib} MiB: others wait", held_up * 1000, "ms")
    yield Row(f"sealing {options.mib} MiB: in all", (time.perf_counter() - began) * 1000, "ms")
    began = time.perf_counter()
    report = verify(folder)
    took = time.perf_counter() - began
    assert report.ok
    yield Row("verify", options.mib * MIB / 1e6 / took, "MB/s")
    yield Row("verify", 2 * n / took, "lines/s")
    yield from _stored(folder, n)


def _stored(folder: Path, statements: int) -> Iterator[Row]:
    """The same recording compressed, as a server does it a minute later."""
    began = time.perf_counter()
    (done,) = Packer(folder, PackedForm(), SystemClock().now).round()
    took = time.perf_counter() - began
    yield Row("bytes per statement, sealed", done.plain_bytes / statements, "bytes")
    yield Row("bytes per statement, stored (zstd)", done.bytes / statements, "bytes")
    yield Row("storing (in a thread)", done.plain_bytes / 1e6 / took, "MB/s")
    began = time.perf_counter()
    assert verify(folder).ok
    yield Row("verify stored", done.plain_bytes / 1e6 / (time.perf_counter() - began), "MB/s of what it holds")


def jumps(folder: Path, options: Options) -> Iterator[Row]:
    """Replay: places all over a long recording."""
    return (Row(*figure) for figure in record_read.seeking(folder, options.events))


def searches(folder: Path, options: Options) -> Iterator[Row]:
    """The search index: made, and asked."""
    return (Row(*figure) for figure in record_read.searching(folder, options.statements))


FIGURES: dict[str, Figures] = {"way": on_the_way, "groups": groups, "big": big, "jumps": jumps, "search": searches}
"""What can be asked for by name, in the order of the table."""


def report(rows: list[Row], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_row(row.what, f"{row.figure:,.{2 if row.figure < 100 else 0}f}", row.unit)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-record ARGS=…", description=__doc__)
    parser.add_argument("--figures", default=",".join(FIGURES), help="which of them, by name")
    parser.add_argument("--count", type=int, default=USUAL.count, help="statements")
    parser.add_argument("--seconds", type=float, default=USUAL.seconds, help="for each group commit")
    parser.add_argument("--mib", type=int, default=USUAL.mib, help="size of the recording that is sealed and verified")
    parser.add_argument("--sessions", default="1,16,200")
    parser.add_argument("--events", type=int, default=USUAL.events, help="in the recording that is jumped in")
    parser.add_argument("--statements", type=int, default=USUAL.statements, help="in the search index")
    parser.add_argument("--dir", type=Path, help="where the disk is that is to be measured")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    asked = parser.parse_args()
    if unknown := set(asked.figures.split(",")) - FIGURES.keys():
        parser.error(f"--figures: {', '.join(sorted(unknown))}: the names are {', '.join(FIGURES)}")
    sessions = tuple(map(int, asked.sessions.split(",")))
    options = Options(asked.count, asked.seconds, asked.mib, sessions, asked.events, asked.statements)
    rows: list[Row] = []
    for name in asked.figures.split(","):
        with tempfile.TemporaryDirectory(prefix="daypass-record-", dir=asked.dir) as folder:
            rows += FIGURES[name](Path(folder), options)
    report(rows, Console(width=120, highlight=False))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
