"""What Prometheus sees. Counters on the hot path are plain integers; they are read when somebody scrapes.

Several workers are one server to whoever looks: their numbers are put together here, each in the way that its family
says. Names and meanings are listed in docs/reference/metrics.md, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recorder.sinks.courier import Counts as SinkCounts

if TYPE_CHECKING:  # a supervisor shows numbers and has no sessions
    from proxy.session.talk import Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Family(msgspec.Struct, frozen=True):
    """One metric: its values by the value of its one label, or by "". `over` puts those of several workers together."""

    name: str
    kind: Literal["gauge", "counter"]
    text: str
    over: Literal["sum", "min", "max"]
    values: dict[str, float]
    label: str = ""


@dataclass(slots=True)
class Gauges:
    """Where the values that are not counted come from."""

    sessions: Callable[[], int]
    pending: Callable[[], int]
    dropped: Callable[[], int]
    ready: Callable[[], bool]
    recording: Callable[[], bool]
    clock: Callable[[], float]
    free: Callable[[], int]
    reserved: Callable[[], int]
    syncs: Callable[[], int]
    databases: Callable[[], dict[str, bool]]
    slowed: Callable[[], int] = lambda: 0
    removals: Callable[[], int] = lambda: 0
    sinks: Callable[[], dict[str, SinkCounts]] = dict


@dataclass(slots=True)
class NoticeCounts:
    """What became of notifications, by sink."""

    delivered: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    backlog: dict[str, int] = field(default_factory=dict)

    def families(self) -> list[Family]:
        """As they are now."""
        backlog = {name: float(count) for name, count in self.backlog.items()}
        return [
            _labelled("daypass_notices_delivered", "Notices that arrived, by sink.", "sink", self.delivered),
            _labelled("daypass_notices_failed", "Tries that failed, by sink.", "sink", self.failed),
            _labelled("daypass_notices_given_up", "Notices that nobody got, by sink.", "sink", self.given_up),
            Family("daypass_notices_waiting", "gauge", "Notices not delivered yet.", "max", backlog, "sink"),
        ]


@dataclass(slots=True)
class Counts:
    """Counters that are not on the hot path."""

    logins: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    definers: dict[str, int] = field(default_factory=dict)
    alerts: dict[str, int] = field(default_factory=dict)
    notices: NoticeCounts = field(default_factory=NoticeCounts)
    observing: int = 0
    reloads: dict[str, int] = field(default_factory=lambda: {"good": 0, "bad": 0})

    def login(self, outcome: str) -> None:
        """One login, by its outcome."""
        self.logins[outcome] = self.logins.get(outcome, 0) + 1

    def alert(self, kind: str) -> None:
        """One alert."""
        self.alerts[kind] = self.alerts.get(kind, 0) + 1


class Metrics:
    """All numbers of one process."""

    def __init__(self, tally: Tally, counts: Counts, gauges: Gauges) -> None:
        self._tally = tally
        self._counts = counts
        self._gauges = gauges

    def families(self) -> list[Family]:
        """As they are now."""
        tally, counts, gauges = self._tally, self._counts, self._gauges
        ready = gauges.ready()
        return [
            _gauge("daypass_up", "1 while the process lives.", 1, "max"),
            _gauge("daypass_ready", "1 when sessions can be served and recorded.", ready, "max"),
            _gauge("daypass_workers", "Workers that can serve and record sessions.", ready, "sum"),
            _gauge("daypass_recording_healthy", "1 while recordings can be written.", gauges.recording(), "min"),
            _gauge("daypass_clock_apart_seconds", "How far the wall clock was set.", abs(gauges.clock()), "max"),
            _gauge("daypass_recording_free_bytes", "Bytes free for recordings.", gauges.free(), "min"),
            _gauge("daypass_recording_reserve_bytes", "Bytes kept for session ends.", gauges.reserved(), "min"),
            _counter("daypass_recording_syncs", "Group commits.", gauges.syncs()),
            _gauge("daypass_sessions", "Open sessions.", gauges.sessions(), "sum"),
            _gauge("daypass_logins_pending", "Connections that are not sessions yet.", gauges.pending(), "sum"),
            Family(
                "daypass_database_known",
                "gauge",
                "1 when the catalog is known.",
                "min",
                {name: float(known) for name, known in gauges.databases().items()},
                "database",
            ),
            Family(
                "daypass_open_definers",
                "gauge",
                "SECURITY DEFINER functions that everybody may run.",
                "max",
                dict(counts.definers),
                "database",
            ),
            _gauge("daypass_observing_policies", "Policies that refuse nothing.", counts.observing, "max"),
            _counter("daypass_connections_dropped", "Silent connections dropped to make room.", gauges.dropped()),
            _counter("daypass_statements", "Statements recorded.", tally.statements),
            _counter("daypass_rows", "Rows passed to clients.", tally.rows),
            _counter("daypass_client_bytes", "Bytes received from clients in sessions.", tally.client_bytes),
            _counter("daypass_upstream_bytes", "Bytes received from databases in sessions.", tally.upstream_bytes),
            _labelled("daypass_denied", "Statements refused, by rule.", "rule", tally.denied),
            _labelled("daypass_logins", "Logins, by outcome.", "outcome", counts.logins),
            _gauge("daypass_removals_pending", "Ended grants not yet proven to be gone.", gauges.removals(), "max"),
            _counter("daypass_logins_slowed", "Answers to proofs that waited, after failures.", gauges.slowed()),
            _labelled("daypass_alerts", "Alerts, by what they are about.", "alert", counts.alerts),
            _labelled("daypass_policy_reloads", "Readings of the policy files.", "result", counts.reloads),
            *counts.notices.families(),
            *_of_sinks(gauges.sinks()),
        ]


def _of_sinks(sinks: dict[str, SinkCounts]) -> list[Family]:
    waiting = {name: float(each.backlog) for name, each in sinks.items()}
    delivered = {name: each.delivered for name, each in sinks.items()}
    errors = {name: each.errors for name, each in sinks.items()}
    skipped = {name: each.skipped for name, each in sinks.items()}
    return [
        Family("daypass_sink_backlog_bytes", "gauge", "Lines that a sink is owed.", "max", waiting, "sink"),
        _labelled("daypass_sink_delivered", "Events that a sink has taken.", "sink", delivered),
        _labelled("daypass_sink_errors", "Batches that a sink has not taken.", "sink", errors),
        _labelled("daypass_sink_skipped", "Recordings that a sink did not get whole.", "sink", skipped),
    ]


def of_supervisor(restarts: int) -> list[Family]:
    """What is true even while no worker answers."""
    return [
        _gauge("daypass_up", "1 while the process lives.", 1, "max"),
        _gauge("daypass_ready", "1 when sessions can be served and recorded.", 0, "max"),
        _gauge("daypass_workers", "Workers that can serve and record sessions.", 0, "sum"),
        _counter("daypass_worker_restarts", "Workers that died and were started again.", restarts),
    ]


def together(processes: Iterable[Iterable[Family]]) -> list[Family]:
    """The numbers of several processes as those of one server."""
    found: dict[str, Family] = {}
    for families in processes:
        for family in families:
            before = found.get(family.name)
            if before is not None:
                values = dict(before.values)
                for key, value in family.values.items():
                    values[key] = _OVER[family.over]((values[key], value)) if key in values else value
                family = msgspec.structs.replace(family, values=values)  # noqa: PLW2901
            found[family.name] = family
    return list(found.values())


def counted(families: Iterable[Family]) -> list[Family]:
    """What stays true of a process that is gone: its counters."""
    return [family for family in families if family.kind == "counter"]


def page(families: Iterable[Family]) -> bytes:
    """The text of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            kind = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
            metric = kind(family.name, family.text, labels=[family.label] if family.label else [])
            for key, value in family.values.items():
                metric.add_metric([key] if family.label else [], value)
            yield metric


_OVER: Final[dict[str, Callable[[Iterable[float]], float]]] = {"sum": sum, "min": min, "max": max}


def _gauge(name: str, text: str, value: float, over: Literal["sum", "min", "max"]) -> Family:
    return Family(name, "gauge", text, over, {"": float(value)})


def _counter(name: str, text: str, value: float) -> Family:
    return Family(name, "counter", text, "sum", {"": float(value)})


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Family:
    return Family(name, "counter", text, "sum", dict(values), label)
