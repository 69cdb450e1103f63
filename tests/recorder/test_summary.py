"""Sums over many recordings, against what was played; and that no text gets into them."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from recorder.events import Cancel, Event, Login, Outcome, SessionEnd, Statement
from recorder.journal import Recorder
from recorder.summary import Hour, Summary, Use, host, summarise
from tests.recorder.support import START, Ticker, end, start


def ran(n: int, *tables: str, rows: int = 1, ms: float = 1.0, verdict: str = "allow") -> list[Event]:
    return [
        Statement(
            n=n, sql="select 'secret'", params=["secret"], verdict=verdict, rule=None, rewritten=None, kind="select",
            tables=[*tables], functions=["lower"],
        ),
        Outcome(n=n, rows=rows, bytes=rows * 10, ms=ms, sqlstate=None),
    ]  # fmt: skip


def refused(n: int, rule: str, verdict: str = "deny") -> list[Event]:
    return [
        Statement(n=n, sql="drop 'secret'", params=None, verdict=verdict, rule=rule, rewritten=None, tables=["app.t"]),
        Outcome(n=n, rows=0, bytes=0, ms=0.1, sqlstate="42501", sent=False),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clock = Ticker()
    recorder = Recorder(tmp_path, now=clock)
    one = recorder.open("s-1", start("s-1"))
    for event in [*ran(1, "app.a", "app.b", rows=3), *refused(2, "table"), *ran(3, "app.a", verdict="mask"), Cancel()]:
        one.append(event)
    one.append(Statement(n=4, sql="x", params=None, verdict="allow", rule=None, rewritten=None))
    one.append(Outcome(n=4, rows=0, bytes=0, ms=70_000, sqlstate="57014"))
    one.close(end(4))
    clock.at += timedelta(hours=2)
    two = recorder.open(
        "s-2", start("s-2", grant="g-2", person="joe", vendor="zeta", client_address="[2001:db8::1]:99", tls=None)
    )
    for event in [*ran(1, "app.a", rows=200_000), *(e for n in range(2, 13) for e in refused(n, "column"))]:
        two.append(event)
    two.close(SessionEnd(reason="killed", detail="secret", statements=12))
    recorder.installation().append(Login(user="g-2", client_address="1:2", outcome="refused", reason="token"))
    recorder.open("s-3", start("s-3", grant="g-2", person="joe", vendor="zeta")).flush()
    recorder.close()
    return tmp_path


def test_everything(folder: Path) -> None:
    total = summarise(folder)
    assert (total.sessions, total.open, total.statements, total.refused, total.held) == (3, 0, 16, 12, 0)
    assert (total.masked, total.failed, total.cancelled) == (1, 1, 1)
    assert (total.rows, total.bytes) == (200_004, 2_000_040)
    assert total.refusals == {"table": 1, "column": 11}
    assert total.errors == {"57014": 1}
    assert total.tables == {"app.a": Use(3, 200_004), "app.b": Use(1, 3), "app.t": Use(12, 0)}
    assert total.functions == {"lower": 3}
    assert total.hours == {"2026-11-23T09:00:00Z": Hour(4, 1), "2026-11-23T11:00:00Z": Hour(12, 11)}
    assert total.persons == {"jane": 1, "joe": 2}
    assert total.addresses == {"203.0.113.7": 2, "2001:db8::1": 1}
    assert total.applications == {"psql": 3}
    assert total.ends == {"client": 1, "killed": 1}
    assert total.first is not None
    assert total.last is not None
    assert START < total.first < total.last
    assert [(odd.kind, odd.session) for odd in total.unusual] == [
        ("slow", "s-1"),
        ("plaintext", "s-2"),
        ("ended", "s-2"),
        ("refusals", "s-2"),
        ("rows", "s-2"),
        ("interrupted", "s-3"),
        ("logins", None),
    ]


def test_no_text_gets_into_the_sums(folder: Path) -> None:
    assert b"secret" not in msgspec.json.encode(summarise(folder))


@pytest.mark.parametrize(
    ("asked", "sessions", "statements"),
    [
        ({"grant": "g-2"}, 2, 12),
        ({"person": "jane"}, 1, 4),
        ({"vendor": "zeta", "person": "joe"}, 2, 12),
        ({"vendor": "none"}, 0, 0),
        ({"since": START + timedelta(hours=1)}, 2, 12),
        ({"until": START + timedelta(hours=1)}, 1, 4),
        ({"since": START + timedelta(hours=9)}, 0, 0),
    ],
)
def test_a_part(folder: Path, asked: dict[str, str], sessions: int, statements: int) -> None:
    total = summarise(folder, **asked)  # type: ignore[arg-type]
    assert (total.sessions, total.statements) == (sessions, statements)


def test_several_addresses_of_one_grant(folder: Path) -> None:
    total = summarise(folder, grant="g-2")
    assert total.logins_refused == 1
    assert "one grant was used from 2 addresses" in [odd.text for odd in total.unusual]
    assert summarise(folder, person="joe").logins_refused == 0


def test_what_cannot_be_read_is_said(folder: Path) -> None:
    next(folder.glob("*/*/s-1.jsonl")).unlink()
    total = summarise(folder)
    assert ("damaged", "s-1") in [(odd.kind, odd.session) for odd in total.unusual]
    assert total.statements == 12
    assert summarise(folder / "none") == Summary()


def test_columns_where_they_are_recorded(folder: Path) -> None:
    path = next(folder.glob("*/*/s-1.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"kind":"select"', b'"kind":"select","columns":["app.a.id"]'))
    assert summarise(folder).columns == {"app.a.id": 2}


def test_host() -> None:
    assert host("203.0.113.7:5") == "203.0.113.7"
    assert host("[::1]:5") == "::1"
    assert host("local") == "local"
