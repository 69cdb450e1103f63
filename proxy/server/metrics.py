"""What Prometheus sees. Counters on the hot path are plain integers; they are read when somebody scrapes.

Names and meanings are listed in docs/reference/metrics.md, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.session.talk import Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Gauges:
    """Where the values that are not counted come from."""

    sessions: Callable[[], int]
    pending: Callable[[], int]
    dropped: Callable[[], int]
    ready: Callable[[], bool]
    recording: Callable[[], bool]
    databases: Callable[[], dict[str, bool]]


@dataclass(slots=True)
class Counts:
    """Counters that are not on the hot path."""

    logins: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    definers: dict[str, int] = field(default_factory=dict)
    observing: int = 0
    reloads: dict[str, int] = field(default_factory=lambda: {"good": 0, "bad": 0})

    def login(self, outcome: str) -> None:
        """One login, by its outcome."""
        self.logins[outcome] = self.logins.get(outcome, 0) + 1


class Metrics(Collector):
    """All of daypass's metrics."""

    def __init__(self, tally: Tally, counts: Counts, gauges: Gauges) -> None:
        self._tally = tally
        self._counts = counts
        self._gauges = gauges
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def page(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        tally, counts, gauges = self._tally, self._counts, self._gauges
        yield _gauge("daypass_up", "1 while the process lives.", 1)
        yield _gauge("daypass_ready", "1 when sessions can be served and recorded.", gauges.ready())
        yield _gauge("daypass_recording_healthy", "1 while recordings can be written.", gauges.recording())
        yield _gauge("daypass_sessions", "Open sessions.", gauges.sessions())
        yield _gauge("daypass_logins_pending", "Connections that are not sessions yet.", gauges.pending())
        known = GaugeMetricFamily("daypass_database_known", "1 when the catalog is known.", labels=["database"])
        for name, good in gauges.databases().items():
            known.add_metric([name], good)
        yield known
        doors = GaugeMetricFamily(
            "daypass_open_definers", "SECURITY DEFINER functions that everybody may run.", labels=["database"]
        )
        for name, number in counts.definers.items():
            doors.add_metric([name], number)
        yield doors
        yield _gauge("daypass_observing_policies", "Policies that refuse nothing.", counts.observing)
        yield _counter("daypass_connections_dropped", "Silent connections dropped to make room.", gauges.dropped())
        yield _counter("daypass_statements", "Statements recorded.", tally.statements)
        yield _counter("daypass_rows", "Rows passed to clients.", tally.rows)
        yield _counter("daypass_client_bytes", "Bytes received from clients in sessions.", tally.client_bytes)
        yield _counter("daypass_upstream_bytes", "Bytes received from databases in sessions.", tally.upstream_bytes)
        yield _labelled("daypass_denied", "Statements refused, by rule.", "rule", tally.denied)
        yield _labelled("daypass_logins", "Logins, by outcome.", "outcome", counts.logins)
        yield _labelled("daypass_policy_reloads", "Readings of the policy files.", "result", counts.reloads)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
