"""Numbers of several processes put together: sums where they add up, the worst where one is enough."""

from __future__ import annotations

from proxy.server import metrics
from proxy.server.metrics import Counts, Family, Gauges, Metrics
from proxy.session.talk import Tally
from recorder.sinks.courier import Counts as SinkCounts


def process(*, sessions: int, recording: bool = True, known: bool = True, denied: dict[str, int]) -> list[Family]:
    tally, counts = Tally(), Counts()
    tally.statements = 10 * sessions
    tally.denied = denied
    counts.definers = {"shop": sessions}
    gauges = Gauges(
        sessions=lambda: sessions,
        pending=lambda: 1,
        dropped=lambda: 2,
        ready=lambda: recording and known,
        recording=lambda: recording,
        clock=lambda: 0.0,
        free=lambda: 1000 * sessions,
        reserved=lambda: 100 * sessions,
        syncs=lambda: sessions,
        databases=lambda: {"shop": known},
        sinks=lambda: {"siem": SinkCounts(delivered=5 * sessions, errors=1, skipped=2, backlog=sessions)},
    )
    return Metrics(tally, counts, gauges).families()


def lines(families: list[Family]) -> dict[str, float]:
    text = metrics.page(families).decode()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")}


def test_one_process_is_shown_as_it_is() -> None:
    shown = lines(process(sessions=3, denied={"table": 2}))
    assert shown["daypass_sessions"] == 3
    assert shown['daypass_denied_total{rule="table"}'] == 2
    assert shown['daypass_database_known{database="shop"}'] == 1
    assert shown["daypass_workers"] == 1
    assert shown["daypass_recording_free_bytes"] == 3000


def test_several_are_one_server() -> None:
    one = process(sessions=3, denied={"table": 2})
    two = process(sessions=4, denied={"table": 1, "write": 5}, recording=False)
    shown = lines(metrics.together([metrics.of_supervisor(7), one, two]))
    assert shown["daypass_sessions"] == 7
    assert shown["daypass_statements_total"] == 70
    assert shown['daypass_denied_total{rule="table"}'] == 3
    assert shown['daypass_denied_total{rule="write"}'] == 5
    assert shown["daypass_recording_healthy"] == 0
    assert shown["daypass_ready"] == 1
    assert shown["daypass_recording_reserve_bytes"] == 300
    assert shown["daypass_recording_syncs_total"] == 7
    assert shown["daypass_workers"] == 1
    assert shown['daypass_open_definers{database="shop"}'] == 4
    assert shown['daypass_sink_delivered_total{sink="siem"}'] == 35
    assert shown['daypass_sink_errors_total{sink="siem"}'] == 2
    assert shown['daypass_sink_skipped_total{sink="siem"}'] == 4
    assert shown['daypass_sink_backlog_bytes{sink="siem"}'] == 4
    assert shown["daypass_up"] == 1
    assert shown["daypass_worker_restarts_total"] == 7


def test_of_a_process_that_is_gone_only_counters_stay() -> None:
    gone = metrics.counted(process(sessions=3, denied={"table": 2}))
    shown = lines(metrics.together([metrics.of_supervisor(1), gone]))
    assert shown["daypass_statements_total"] == 30
    assert "daypass_sessions" not in shown
    assert shown["daypass_ready"] == 0
