"""Makes recordings for the recorder's tests: real files, written by the real recorder, in a time that a test owns."""

import queue
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recorder.events import Outcome, SessionEnd, SessionStart, Statement
from recorder.journal import Recorder, Recording, Turns

START = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)


class Ticker:
    """A clock that moves on by `step` seconds with every look."""

    def __init__(self, start: datetime = START, step: float = 0.25) -> None:
        self.at = start
        self.step = timedelta(seconds=step)

    def __call__(self) -> datetime:
        self.at += self.step
        return self.at


class Hand:
    """An event loop that a test turns: `turns` for a recorder, whose threads are real ones."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.turns = Turns(self._calls.put, self._calls.put)

    def until(self, there: Callable[[], object]) -> None:
        """Run what comes until something is the case; ten seconds at most between two calls."""
        while not there():
            self._calls.get(timeout=10)()

    def settle(self, recorder: Recorder) -> None:
        """Run what comes until the recorder waits for nothing more."""
        done: list[object] = []
        for _ in range(3):  # what is asked for may ask for more
            keeper = recorder._common.keeper
            assert keeper is not None
            keeper.do(lambda: None, done.append)
            count = len(done) + 1
            self.until(lambda count=count: len(done) >= count)  # type: ignore[misc]
        group = recorder._common.group
        assert group is not None
        self.until(lambda: not (group._busy or group._asked))


def start(session: str = "s-1", **changes: Any) -> SessionStart:
    facts: dict[str, Any] = {
        "session": session,
        "grant": "g-7k3m9x2q",
        "person": "jane",
        "vendor": "acme",
        "user": "g-7k3m9x2q",
        "database": "app",
        "policy": "vendor-readonly",
        "policy_revision": "ab" * 32,
        "client_address": "203.0.113.7:50412",
        "application_name": "psql",
        "tls": "TLSv1.3",
    }
    return SessionStart(**{**facts, **changes})


def statement(n: int = 1, sql: str = "select 1", *, verdict: str = "allow", rule: str | None = None) -> Statement:
    return Statement(n=n, sql=sql, params=None, verdict=verdict, rule=rule, rewritten=None, kind="select")


def outcome(n: int = 1, rows: int = 1) -> Outcome:
    return Outcome(n=n, rows=rows, bytes=rows * 12, ms=1.5, sqlstate=None, tag=f"SELECT {rows}")


def end(statements: int = 1) -> SessionEnd:
    return SessionEnd(reason="client", detail=None, statements=statements, rows=statements)


def play(recorder: Recorder, session: str = "s-1", statements: int = 2) -> Recording:
    """A session with some statements, flushed and still open."""
    recording = recorder.open(session, start(session))
    for n in range(1, statements + 1):
        recording.append(statement(n, f"select {n}"))
        recording.flush()
        recording.append(outcome(n))
    recording.flush()
    return recording


def sealed(directory: Path, *sessions: str, statements: int = 2) -> list[Path]:
    """A folder with these sessions, all sealed, its recorder closed again; their files."""
    recorder = Recorder(directory, now=Ticker())
    paths = []
    for session in sessions or ("s-1",):
        recording = play(recorder, session, statements)
        recorder.checkpoint()
        recording.close(end(statements))
        paths.append(recording.path)
    recorder.close()
    return paths
