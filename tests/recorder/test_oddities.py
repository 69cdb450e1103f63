"""recorder.oddities: most of it is seen through the sums (test_summary); here the thresholds."""

from pathlib import Path

from recorder import index, oddities
from recorder.oddities import MANY_REFUSALS, MANY_ROWS, Odd, Watch
from tests.recorder.support import START, outcome, sealed


def test_thresholds(tmp_path: Path) -> None:
    sealed(tmp_path)
    (session,) = index.sessions(tmp_path)
    watch = Watch(session)
    for _ in range(MANY_REFUSALS - 1):
        watch.refused("table", START)
    watch.outcome(outcome(1, MANY_ROWS - 1), START)
    assert watch.found() == []
    watch.refused("column", START)
    watch.outcome(outcome(2, MANY_ROWS), START)
    assert [odd.text for odd in watch.found()] == [
        "10 statements were refused in one session (table 9, column 1)",
        "one statement gave 100,000 rows",
    ]


def test_sums() -> None:
    assert oddities.of_all({"a": 1, "b": 1}, {"g": 1, "h": 1}, 0) == []
    assert oddities.of_all({"a": 1}, {"g": 1}, 1) == [Odd("logins", "1 login was refused")]
