"""recorder/pglog.py: lines as Postgres writes them, in both forms; tests/live/test_reconcile.py has the real ones."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recorder import pglog
from recorder.pglog import LogError

BEGAN = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
SESSION = f"{int(BEGAN.timestamp()):x}.4d2"


def row(message: str, *, user: str = "vendor_ro", zone: int = 0, pid: int = 1234, severity: str = "LOG") -> list[str]:
    """A csvlog line of Postgres 18, one second after its backend's start, in a zone so many hours east."""
    start = (BEGAN + timedelta(hours=zone)).strftime("%Y-%m-%d %H:%M:%S CET")
    at = (BEGAN + timedelta(hours=zone, seconds=1)).strftime("%Y-%m-%d %H:%M:%S.250 CET")
    head = [at, user, "app", str(pid), "10.0.0.1:50412", SESSION, "3", "SELECT", start, "3/7", "0", severity, "00000"]
    return [*head, message, "", "", "", "", "", "", "", "", "psql", "client backend", "", "0"]


def csvlog(*rows: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def jsonlog(*rows: list[str]) -> str:
    names = {
        "timestamp": 0,
        "user": 1,
        "dbname": 2,
        "session_id": 5,
        "session_start": 8,
        "error_severity": 11,
        "message": 13,
    }
    lines = [
        {name: one[at] for name, at in names.items()} | {"pid": int(one[3]), "application_name": "psql"} for one in rows
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def read(tmp_path: Path, text: str, name: str = "a.csv") -> pglog.Log:
    path = tmp_path / name
    path.write_text(text)
    return pglog.read([path], pids={1234}, users=set())


@pytest.mark.parametrize("form", [csvlog, jsonlog])
@pytest.mark.parametrize("zone", [0, 1, -5])
def test_statements_and_their_time(tmp_path: Path, form: object, zone: int) -> None:
    assert callable(form)
    rows = [
        row("connection authorized: user=vendor_ro", zone=zone),
        row("statement: select 1;\nselect 'two, three'", zone=zone),
        row("execute <unnamed>: select $1", zone=zone),
        row("execute fetch from p/c: select 2", zone=zone),
        row("division by zero", zone=zone, severity="ERROR"),
    ]
    log = read(tmp_path, form(*rows))
    (backend,) = log.backends.values()
    assert (backend.pid, backend.user, backend.application, backend.started) == (1234, "vendor_ro", "psql", BEGAN)
    assert [(ran.simple, ran.text) for ran in backend.ran] == [
        (True, "select 1;\nselect 'two, three'"),
        (False, "select $1"),
        (False, "select 2"),
    ]
    assert {ran.at for ran in backend.ran} == {BEGAN + timedelta(seconds=1.25)}
    assert (log.first, log.last, log.lines, log.unreadable) == (backend.ran[0].at, backend.ran[0].at, 5, 0)


def test_pgaudit(tmp_path: Path) -> None:
    text = "AUDIT: SESSION,1,1,READ,SELECT,,,\"select a, b\nfrom t where c = 'x'\",<not logged>"
    lines = [
        row(text),
        row("AUDIT: SESSION,2,1,READ,SELECT,,,<previously logged>,<none>"),
        row("AUDIT: OBJECT,1,1,READ"),
    ]
    (backend,) = read(tmp_path, csvlog(*lines)).backends.values()
    assert [(ran.audit, ran.text) for ran in backend.ran] == [(True, "select a, b\nfrom t where c = 'x'")]


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csvlog(row("statement: select 1", user="other", pid=99)))
    assert pglog.read([path], pids={1}, users={"none"}).backends == {}
    assert len(pglog.read([path], pids=set(), users={"other"}).backends) == 1
    assert len(pglog.read([path], pids={99}, users=set()).backends) == 1


def test_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, text in (("b.csv", "statement: select 2"), ("a.csv", "statement: select 1")):
        (tmp_path / name).write_text(csvlog(row(text)))
    (backend,) = pglog.read([*tmp_path.iterdir()], pids={1234}, users=set()).backends.values()
    assert [ran.text for ran in backend.ran] == ["select 1", "select 2"]


def test_what_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="log_destination"):
        read(tmp_path, "2026-11-23 09:00:00 UTC [12] LOG:  statement: select 1\n")
    assert read(tmp_path, "").lines == 0


def test_broken_lines_are_counted(tmp_path: Path) -> None:
    good = csvlog(row("statement: select 1"))
    bad_time = row("statement: select 2")
    bad_time[5] = "nonsense"
    log = read(tmp_path, "half,a,line\n" + good + csvlog(bad_time))
    assert (log.unreadable, len(log.backends)) == (2, 1)
    log = read(tmp_path, jsonlog(row("statement: select 1")) + "{half\n", "a.json")
    assert (log.unreadable, len(log.backends)) == (1, 1)
