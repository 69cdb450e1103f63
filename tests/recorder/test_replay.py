"""Replay (with recorder.scene and recorder.grid): what stands on the screen, when, and that a recording cannot play
with the terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from recorder import timeline
from recorder.events import (
    Cancel,
    Event,
    GrantEvent,
    Login,
    Notice,
    Outcome,
    Recovered,
    SessionEnd,
    Statement,
)
from recorder.journal import Recorder
from recorder.replay import Player, visible
from tests.recorder.support import Ticker, start

GOLDEN = """\
session s-1  sealed
jane (acme) by grant g-7k3m9x2q to app
psql from 203.0.113.7:50412, TLSv1.3
policy vendor-readonly abababababab, started 2026-11-23 09:00:00 UTC

              NOTICE:  this session is recorded
[0:00:00.750] app=> select *
              app-> from customers where id = $1;
              $1 = 'DE', $2 = NULL
              masked: email is masked
              2 rows · 310 B · 4.2 ms
[0:00:01.250] app=*> delete from app.customers
              ✗ REFUSED by rule statement: DELETE changes data
[0:00:01.750] app=!> select 1
[0:00:02.000] app=!> selec
              [3] 1 row · 0.1 ms
              ERROR 42601 · 0.3 ms
              ERROR:  syntax error at or near "selec"
[0:00:03.000] app=> copy (select 1) to stdout
              COPY 1000 · 12,000 B · 9.0 ms
[0:00:03.500] app=> select pg_sleep(1)
              held, and approved: too dear
[0:00:03.750] app=> select ssn
              would be refused by rule column: hidden
[0:00:04.000] app=> begin
              BEGIN · 0.1 ms
[0:00:04.500] cancel requested
[0:00:04.750] ended: expired (the grant ended)
              8 statements, 2 refused, 1,003 rows
"""


def s(n: int, sql: str, verdict: str = "allow", rule: str | None = None, reason: str = "", tx: str = "I") -> Statement:
    return Statement(
        n=n, sql=sql, params=None, verdict=verdict, rule=rule, rewritten=None, reason=reason, tx=tx
    )  # fmt: skip


def o(
    n: int, rows: int = 0, size: int = 0, ms: float = 0.1, sqlstate: str | None = None, tag: str | None = None
) -> Outcome:
    return Outcome(n=n, rows=rows, bytes=size, ms=ms, sqlstate=sqlstate, tag=tag)


SCENE: list[Event] = [
    Notice(severity="NOTICE", sqlstate="00000", text="this session is recorded"),
    Statement(
        n=1,
        sql="select *\nfrom customers where id = $1;",
        params=["DE", None],
        verdict="mask",
        rule="columns",
        rewritten="select * from (select id) customers where id = $1;",
        reason="email is masked",
    ),
    o(1, 2, 310, 4.21, tag="SELECT 2"),
    s(2, "delete from app.customers", "deny", "statement", "DELETE changes data", "T"),
    o(2, sqlstate="42501"),
    s(3, "select 1", tx="E"),
    s(4, "selec", tx="E"),
    o(3, 1, tag="SELECT 1"),
    o(4, ms=0.3, sqlstate="42601"),
    Notice(severity="ERROR", sqlstate="42601", text='syntax error at or near "selec"'),
    s(5, "copy (select 1) to stdout"),
    o(5, 1000, 12000, 9, tag="COPY 1000"),
    s(6, "select pg_sleep(1)", "hold", "plan", "too dear"),
    s(7, "select ssn", "allow", "observe.column", "hidden"),
    s(8, "begin"),
    o(8, tag="BEGIN"),
    Cancel(),
    SessionEnd(reason="expired", detail="the grant ended", statements=8, refused=2, rows=1003),
]


def record(directory: Path, scene: list[Event]) -> Path:
    recorder = Recorder(directory, now=Ticker())
    recording = recorder.open("s-1", start())
    for event in scene:
        recording.append(event)
    recording.flush()
    recorder.close()
    return recording.path


def show(path: Path, *, color: bool = False, rewritten: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=color, color_system="standard" if color else None, width=40)
    Player(console, wait=False, rewritten=rewritten).play(timeline.read(path), state="sealed")
    return out.getvalue()


def test_golden(tmp_path: Path) -> None:
    assert show(record(tmp_path, SCENE)) == GOLDEN


def test_in_observe_mode_only_what_would_be_refused_is_said_to_be(tmp_path: Path) -> None:
    scene: list[Event] = [
        s(1, "select 1", "allow", "observe.allow"),
        s(2, "select email", "allow", "observe.mask", "email is masked"),
        s(3, "insert into t values ($1)", "allow", "observe.allow", "a message of 9 bytes, not kept"),
        s(4, "delete from t", "allow", "observe.write", "DELETE changes data"),
    ]
    below = [line.strip() for line in show(record(tmp_path, scene)).splitlines()[5:] if not line.startswith("[")]
    assert below == [
        "would be masked: email is masked",
        "a message of 9 bytes, not kept",
        "would be refused by rule write: DELETE changes data",
    ]


def test_what_ran_is_shown_on_demand(tmp_path: Path) -> None:
    path = record(tmp_path, SCENE)
    assert "ran as" not in show(path)
    assert "ran as: select * from (select id) customers" in show(path, rewritten=True)


def test_refusals_stand_out_in_colour(tmp_path: Path) -> None:
    text = show(record(tmp_path, SCENE), color=True)
    assert "\x1b[1;31m" in text
    assert "\x1b[1;31m              ✗ REFUSED" in text.replace("\x1b[0m", "")


def test_a_pipe_and_no_color_get_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in show(record(tmp_path, SCENE))
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    Player(Console(file=out, force_terminal=True), wait=False).play(
        timeline.read(tmp_path / "2026/11/s-1.jsonl"), state="sealed"
    )
    assert "\x1b[31m" not in out.getvalue()
    assert "\x1b[1;31m" not in out.getvalue()


def test_no_control_character_reaches_the_terminal(tmp_path: Path) -> None:
    bad = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eabc"
    scene: list[Event] = [
        s(1, f"select '{bad}' [bold]x[/bold]", "deny", "r", bad),
        Notice(severity="ERROR", sqlstate="1", text=bad),
        o(1, sqlstate=bad),
        Login(user=bad, client_address=bad, outcome="refused", reason=bad),
        GrantEvent(action="created", grant=bad, by="ops", detail={bad: bad}),
        Recovered(detail=bad, offset=1, bytes=3),
        SessionEnd(reason=bad, detail=bad, statements=1),
    ]
    text = show(record(tmp_path, scene))
    assert not set(text) & set("\x1b\x07\r\x9b\u202e")
    assert r"\x1b]0;owned\x07" in text
    assert "[bold]x[/bold]" in text
    assert "INTERRUPTED" in text


def test_visible() -> None:
    assert visible("a\tb\nc é 你 '") == "a\tb\nc é 你 '"
    assert visible("\x00\x7f\u2028") == r"\x00\x7f\u2028"


def waits(path: Path, **options: float) -> list[float]:
    slept: list[float] = []
    player = Player(Console(file=io.StringIO()), sleep=slept.append, **options)  # type: ignore[arg-type]
    player.play(timeline.read(path), state="open")
    return slept


def test_its_own_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=(clock := Ticker(step=0)))
    recording = recorder.open("s-1", start())
    for pause in (1.0, 60.0, 0.0):
        clock.at += pause * (clock.step.__class__(seconds=1))
        recording.append(s(1, "select 1"))
    recorder.close()
    assert waits(recording.path) == [1.0, 2.0]
    assert waits(recording.path, speed=4) == [0.25, 0.5]
    assert waits(recording.path, max_idle=90, speed=2) == [0.5, 30.0]
    assert waits(recording.path, max_idle=0) == [0, 0]


@pytest.mark.parametrize("bad", [{"speed": 0}, {"speed": -1}, {"max_idle": -1}])
def test_impossible_speeds(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="speed must be above 0"):
        Player(Console(), **bad)  # type: ignore[arg-type]


def test_results_as_psql_shows_them(tmp_path: Path) -> None:
    from recorder.events import Column, Rows

    columns = (Column(name="id", type="int4"), Column(name="note"))
    long = "x" * 60
    many = [[str(n), None] for n in range(3, 150)]
    scene: list[Event] = [
        s(1, "select"),
        Rows(n=1, columns=columns, values=[["1", "a\nb\x1b[2J"], ["2", long]]),
        Rows(n=1, first=3, values=many),
        o(1, 149, 10, tag="SELECT 149"),
        s(2, "select"),
        Rows(n=2, piece="AAAA", more=True),
        Rows(n=2, piece="AAAA"),
        o(2, 5, tag="SELECT 5"),
    ]
    lines = [line.strip() for line in show(record(tmp_path, scene)).splitlines()]
    assert lines[6:10] == [
        "id |                   note",
        "---+-----------------------------------------",
        r"1 | a↵b\x1b[2J",
        f"2 | {'x' * 39}…",
    ]
    assert "100 |" in lines
    assert "101 |" not in lines
    assert "(more rows are recorded; export has them all)" in lines
    assert "149 rows · 10 B · 0.1 ms" in lines
    assert "(a row too long to be shown)" in lines
    assert "5 rows · 1 of them recorded · 0.1 ms" in lines


def test_holds_and_sessions_that_only_sign(tmp_path: Path) -> None:
    from recorder.events import HoldEvent

    scene: list[Event] = [
        HoldEvent(hold="h-1", state="waiting", sql="select \x1b", rule="plan", reason="too dear"),
        HoldEvent(hold="h-1", state="denied", by="ops"),
    ]
    lines = show(record(tmp_path, scene)).splitlines()
    assert lines[-3:] == [
        "[0:00:00.500] hold h-1 waiting (rule plan): too dear",
        r"              select \x1b",
        "[0:00:00.750] hold h-1 denied by ops",
    ]
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-2", start("s-2", signing=["nda-2026"]))
    recorder.close()
    assert "to sign: nda-2026" in show(recording.path)
