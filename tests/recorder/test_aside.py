"""recorder/aside.py: one request in a process of its own, which does no more than it was asked for."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import msgspec

from recorder import search_feed
from recorder.aside import Fill, Request, Sums
from recorder.journal import Recorder
from recorder.search_feed import Filled
from recorder.summary import Summary
from tests.recorder.support import START, Ticker, end, outcome, start, statement


def record(folder: Path, sessions: int, statements: int) -> None:
    recorder = Recorder(folder, now=Ticker())
    for number in range(sessions):
        session = recorder.open(f"s-{number}", start(f"s-{number}", vendor="acme" if number % 2 else "zeta"))
        for n in range(1, statements + 1):
            session.append(statement(n, f"select 'secret {n}'"))
            session.append(outcome(n))
        session.close(end(statements))
    recorder.close()


def ask(request: Request) -> "subprocess.CompletedProcess[bytes]":
    words = [sys.executable, "-m", "recorder.aside"]
    return subprocess.run(words, input=msgspec.json.encode(request), capture_output=True, timeout=60, check=False)


def test_sums(tmp_path: Path) -> None:
    record(tmp_path, 4, 3)
    day = timedelta(days=1)
    answer = ask(Sums(str(tmp_path), START - day, START + day, vendor="acme", databases=["app"]))
    total = msgspec.json.decode(answer.stdout, type=Summary)
    assert (total.sessions, total.statements, total.vendors) == (2, 6, {"acme": 2})
    assert b"secret" not in answer.stdout
    other = ask(Sums(str(tmp_path), START - day, START + day, databases=["hr"]))
    assert msgspec.json.decode(other.stdout, type=Summary).sessions == 0


def test_the_index_in_bounded_turns(tmp_path: Path) -> None:
    record(tmp_path, 3, 50)
    turns: list[Filled] = []
    while not turns or turns[-1].more:
        turns.append(msgspec.json.decode(ask(Fill(str(tmp_path), 40)).stdout, type=Filled))
    assert [turn.statements for turn in turns if turn.statements] == [40, 40, 40, 30]
    whole = tmp_path / "whole.db"
    search_feed.rebuild(tmp_path, path=whole)
    assert dump(tmp_path / ".index" / "search.db") == dump(whole)


def dump(path: Path) -> list[object]:
    from recorder import search_store

    db = search_store.connect(path, create=False)
    try:
        rows = "select s.*, f.session, f.place, f.done from statement s join file f on f.id = s.file order by s.id"
        return [*db.execute(rows), *db.execute("select * from running"), *db.execute("select rowid from words")]
    finally:
        db.close()


def test_another_process_is_at_it(tmp_path: Path) -> None:
    from recorder import search_store

    record(tmp_path, 1, 1)
    with search_store.filling(search_store.place(tmp_path), patience=0) as ours:
        assert ours
        assert ask(Fill(str(tmp_path), 10)).stdout == b"null"


def test_what_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".index").write_text("a file")
    answer = ask(Fill(str(tmp_path), 10))
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert len(answer.stderr.splitlines()) == 1
