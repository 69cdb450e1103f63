"""Recordings with everything in them, for whatever shows or exports them."""

from __future__ import annotations

from pathlib import Path

from recorder.events import (
    Cancel,
    Column,
    Event,
    Notice,
    Notification,
    Outcome,
    Rows,
    SessionEnd,
    Statement,
)
from recorder.journal import Recorder
from tests.recorder.support import Ticker, start

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=http://evil.example/x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "=HYPERLINK(\"http://evil.example\")",
    "\t=1+1",
    "@SUM(1)",
    "-2+3",
    "+cmd|' /C calc'!A0",
    "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eabc",
    "-- x\nselect 'out of the comment'; drop table t",
    "*/ select 'out' /*",
    "x\rselect 'out by a carriage return'",
    "'; select 'out of the literal'; --",
    "\\'; select 'out by a backslash'; --",
    "\\! touch pwned",
    "]]>&#60;b&gt;",
    "你好 é 🙂",
]  # fmt: skip


def said(
    n: int, sql: str, verdict: str = "allow", rule: str | None = None, reason: str = "", **more: object
) -> Statement:
    return Statement(
        n=n, sql=sql, verdict=verdict, rule=rule, reason=reason, rewritten=None, kind="select",
        **{"params": None, **more},  # type: ignore[arg-type]
    )  # fmt: skip


def done(n: int, rows: int = 0, sqlstate: str | None = None, **more: object) -> Outcome:
    return Outcome(n=n, rows=rows, bytes=rows * 10, ms=1.25, sqlstate=sqlstate, **more)  # type: ignore[arg-type]


def scene() -> list[Event]:
    """A session in which everything happens once, and everything hostile is said everywhere."""
    events: list[Event] = [
        Notice(severity="NOTICE", sqlstate="00000", text="this session is recorded"),
        said(1, "select id, email from app.customers where country = $1", "mask", "columns", "email is masked",
             params=["DE"], tables=["app.customers"], functions=["lower"], columns=("app.customers.id",)),
        Rows(n=1, columns=(Column(name="id", type="int4"), Column(name="email")),
             values=[["1", "a***@x"], ["2", None]]),
        done(1, 2, tag="SELECT 2", first_ms=0.5),
        said(2, "delete from app.customers", "deny", "statement", "DELETE changes data", tables=["app.customers"]),
        done(2, sqlstate="42501", sent=False),
        said(3, "begin"), done(3, tag="BEGIN"),
        said(4, "selec", tx="T"), done(4, sqlstate="42601", error='syntax error at or near "selec"'),
        said(5, "commit", tx="E"), done(5, tag="ROLLBACK"),
        said(6, "copy app.orders to stdout", tables=["app.orders"]),
        Rows(n=6, copy=["1\t2", "3\t4"]), done(6, 2000, tag="COPY 2000"),
        Notification(channel="news", pid=5, bytes=3),
    ]  # fmt: skip
    n = 6
    for text in HOSTILE:
        n += 1
        events += [
            said(n, text, "deny", text, text, params=[text], tables=[text], functions=[text], name=text),
            done(n, sqlstate="42501", error=text),
            Notice(severity="ERROR", sqlstate=text, text=text),
        ]
    events += [
        said(n + 1, "select pg_sleep(9)"),
        Cancel(),
        SessionEnd(reason="expired", detail="the grant ended", statements=n + 1, refused=1 + len(HOSTILE), rows=2002),
    ]
    return events


def record(folder: Path, events: list[Event] | None = None, session: str = "s-1", **changes: str) -> Path:
    """The recording of a scene."""
    recorder = Recorder(folder, now=Ticker())
    recording = recorder.open(session, start(session, **changes))
    for event in scene() if events is None else events:
        if isinstance(event, SessionEnd):
            recording.close(event)
        else:
            recording.append(event)
    recorder.close()
    return recording.path
