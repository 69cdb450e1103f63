"""All the sinks of one server: made of what config.yaml says, each with a thread of its own.

Must not know recordings. Invariants: a sink is owed everything from before the first session on, also of the end of
this server; and none of them holds up the loop or the end for longer than `PATIENCE`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog

from proxy.clock import Clock
from proxy.config import Config
from proxy.config_sinks import Sink
from proxy.server.sink_file import FileSink
from proxy.server.sink_http import OtlpSink, WebhookSink
from proxy.server.sink_nats import NatsSink
from proxy.server.sink_objects import Lock, ObjectsSink
from proxy.server.sink_syslog import SyslogSink
from recorder.sinks import courier
from recorder.sinks.courier import Counts, Courier, Take
from recorder.sinks.feed import Feed
from recorder.sinks.parcels import Parcels, PlainParcels

log = structlog.get_logger()

PATIENCE: Final = 3.0
"""Seconds, for all sinks together, to take what the end of a server has added."""


class _Way(Protocol):
    @property
    def take(self) -> Take: ...

    def close(self) -> None: ...


def way(sink: Sink, installation: str, clock: Clock) -> _Way:
    """What carries batches to this sink; nothing is opened yet."""
    if sink.file is not None:
        return FileSink(sink.file, installation)
    if (to := sink.syslog) is not None:
        trust = None if to.tls == "disable" else lambda: _trust(sink.ca, to.cert, to.key)
        return SyslogSink(to.host, to.port, installation, trust=trust, timeout=sink.timeout)

    if sink.objects is not None:
        lock = None
        if (kept := sink.object_lock) is not None:
            lock = Lock(kept.mode.upper(), timedelta(days=kept.days), clock.now)
        return ObjectsSink(sink.objects, installation, timeout=sink.timeout, lock=lock)
    if (nats := sink.nats) is not None:
        safe = None if nats.tls == "disable" else lambda: _trust(sink.ca, nats.cert, nats.key)
        return NatsSink(nats, installation, secret=sink.secret, trust=safe, timeout=sink.timeout)

    def trust_them() -> ssl.SSLContext:
        return _trust(sink.ca)

    if sink.webhook is not None:
        return WebhookSink(
            sink.webhook, installation, secret=sink.secret, trust=trust_them, timeout=sink.timeout, now=clock.now
        )
    return OtlpSink(
        sink.otlp or "", installation, secret=sink.secret, trust=trust_them, timeout=sink.timeout, header=sink.header
    )


def target(sink: Sink) -> str:
    """Where a sink leads to, for people; of an address only the host, as its path may be a secret."""
    if sink.file is not None:
        return str(sink.file)
    if sink.syslog is not None:
        return f"{sink.syslog.host}:{sink.syslog.port}"
    if sink.objects is not None:
        return sink.objects
    if sink.nats is not None:
        return f"{sink.nats.subject}.> of stream {sink.nats.stream} at {', '.join(sink.nats.servers)}"
    parts = urlsplit(sink.webhook or sink.otlp or "")
    return f"{parts.scheme}://{parts.netloc}/…"


def feed_of(config: Config, sink: Sink) -> type[Feed]:
    """Lines, or whole files in the form that they are kept in."""
    if sink.objects is None:
        return Feed
    kept = config.recording
    return Parcels if kept.compress != "none" or kept.recipients else PlainParcels


class Streams:
    """The couriers of one process. Only the leading one delivers."""

    def __init__(self, config: Config, installation: str, clock: Clock) -> None:
        self._directory = config.recording.dir.absolute()
        self._history = {name: sink.history for name, sink in config.sinks.items()}
        self._couriers = {
            name: _courier(config, name, way(sink, installation, clock), clock) for name, sink in config.sinks.items()
        }

    def begin(self) -> None:
        """Before the first session. OSError, RecordError."""
        if (self._directory / ".sinks").exists():
            courier.retire(self._directory, list(self._couriers), log.warning)
        for name, one in self._couriers.items():
            one.begin(history=self._history[name])
        for one in self._couriers.values():
            one.start()

    def lead(self, leads: bool) -> None:
        """Whether this process delivers."""
        for one in self._couriers.values():
            one.lead(leads)

    def counts(self) -> dict[str, Counts]:
        """By sink."""
        return {name: one.counts for name, one in self._couriers.items()}

    def last_words(self, monotonic: Callable[[], float]) -> None:
        """Deliver what is written by now, and end."""
        until = monotonic() + PATIENCE
        for one in self._couriers.values():
            one.finish()
        for one in self._couriers.values():
            one.join(max(0.0, until - monotonic()))


def _courier(config: Config, name: str, to: _Way, clock: Clock) -> Courier:
    return Courier(
        config.recording.dir,
        name,
        to.take,
        sync=config.recording.durability == "fsync",
        now=clock.now,
        monotonic=clock.monotonic,
        tell=log.warning,
        close=to.close,
        feed=feed_of(config, config.sinks[name]),
    )


def _trust(ca: Path | None, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context
