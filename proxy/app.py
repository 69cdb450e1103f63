"""The composition root: the one place that builds concrete objects and gives them to each other.

`serve` reads the configuration, opens state and record, makes the server and runs it until a signal stops it.
Everything else in daypass takes what it needs as arguments. Exit codes: 0 stopped in order, 2 configuration,
3 something that is needed cannot be reached or is in use.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import structlog
import uvloop

from proxy.access.grants import Grants
from proxy.access.store import Store, StoreError
from proxy.clock import Clock, SystemClock
from proxy.config import Config, ConfigError, load, not_yet, warnings
from proxy.policy.load import Policies
from proxy.policy.worker import Workers
from proxy.server import tls
from proxy.server.channel import SocketChannel
from proxy.server.dial import Dialler
from proxy.server.listener import Listener
from proxy.server.metrics import Counts, Gauges, Metrics
from proxy.server.server import Server
from proxy.server.tracing import Traces
from proxy.server.watch import Watch
from proxy.session.ephemeral import Keeper
from proxy.session.judging import Bench
from proxy.session.opening import Desk, open_session
from proxy.session.registry import Registry
from proxy.session.talk import Tally
from proxy.tasks import spawn
from recorder.journal import Recorder, RecordError

log = structlog.get_logger()


def serve(config_path: Path, trace_wire: Path | None = None, *, trace_steady: bool = False) -> int:
    """Run the proxy in the foreground; returns the exit code. `trace_wire` is the folder for traces, if any."""
    _log_as_json()
    try:
        config = load(config_path)
        refused = not_yet(config)
        if refused:
            raise ConfigError(refused)
    except ConfigError as broken:
        for finding in broken.findings:
            log.error("config_broken", file=finding.file, line=finding.line, key=finding.key, message=finding.message)
        return 2
    for finding in warnings(config):
        log.warning("config_warning", file=finding.file, line=finding.line, key=finding.key, message=finding.message)
    if config.workers != 1:
        log.warning("one_worker", asked=config.workers, message="this version serves with one process")
    clock, traces = SystemClock(), None
    if trace_wire is not None:
        try:
            traces = Traces(trace_wire, clock, steady=trace_steady)
        except OSError as problem:
            log.error("trace_failed", file=str(trace_wire), reason=problem.strerror)
            return 2
        log.warning(
            "tracing", dir=str(trace_wire), message="every statement and VALUE is written there; never for long"
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, clock, traces))


async def _serve(config: Config, clock: Clock, traces: Traces | None) -> int:
    try:
        store = await Store.open(config.state)
    except StoreError as problem:
        log.error("state_unavailable", reason=str(problem))
        return 3
    recorder: Recorder | None = None
    try:
        recorder = Recorder(
            config.recording.dir,
            durability=config.recording.durability,
            now=clock.now,
            microseconds=clock.microseconds,
            fatal=lambda reason: log.error("recording_unwritable", reason=reason),
        )
        for found in recorder.recovered:
            log.warning("recording_recovered", what=str(found))
        certificate = _certificate(config)
        return await _run(config, clock, store, recorder, certificate, traces)
    except RecordError as problem:
        log.error("recording_unavailable", reason=str(problem))
        return 3
    except (ssl.SSLError, ValueError) as problem:
        log.error("certificate_unusable", reason=str(problem))
        return 2
    except OSError as problem:
        log.error("cannot_serve", reason=str(problem))
        return 3
    finally:
        if recorder is not None:
            recorder.close()
        await store.close()


async def _run(
    config: Config,
    clock: Clock,
    store: Store,
    recorder: Recorder,
    certificate: tls.Certificate | None,
    traces: Traces | None,
) -> int:
    grants = Grants(store, clock)
    identity, secret = await store.identity()
    keeper = Keeper(config, identity, secret)
    bench = Bench(Policies(config.policies), secret, identity, keeper.is_for)
    registry = Registry(clock)
    tally, counts = Tally(), Counts()
    workers = Workers()
    starting = spawn(workers.start(), name="judging processes")
    watch = Watch(
        config=config, recorder=recorder, registry=registry, grants=grants, bench=bench, keeper=keeper, counts=counts
    )
    watch.reload_policies()
    server = Server(config, recorder, registry, bench, watch)
    desk = Desk(
        config=config,
        clock=clock,
        grants=grants,
        workers=workers,
        recorder=recorder,
        judging=bench,
        upstreams=Dialler(),
        keeper=keeper,
        registry=registry,
        tally=tally,
        accepting=server.accepting,
        counted=counts.login,
    )

    async def handle(channel: SocketChannel, deadline: float) -> None:
        if traces is None:
            await open_session(channel, desk, deadline)
        else:
            await open_session(*traces.wrap(channel, desk), deadline)

    listener = Listener(config, certificate, handle)
    gauges = Gauges(
        sessions=lambda: len(registry),
        pending=lambda: listener.pending,
        dropped=lambda: listener.refused,
        ready=lambda: server.ready() is None,
        recording=recorder.healthy,
        databases=lambda: {name: bench.catalog(name) is not None for name in config.databases},
    )

    def reload() -> None:
        watch.reload_policies()
        try:
            listener.certificate = _certificate(config)
        except (OSError, ssl.SSLError, ValueError) as problem:
            log.error("certificate_unusable", reason=str(problem))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.add_signal_handler(signal.SIGINT, server.stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    # What exists now lives as long as the process: the collector need not look at it again and again.
    gc.freeze()
    try:
        await server.run(listener, Metrics(tally, counts, gauges))
    finally:
        await watch.save_spent()
        await keeper.close()
        starting.cancel()
        await workers.close()
    return 0


def _certificate(config: Config) -> tls.Certificate | None:
    files = config.listen.tls
    if files.mode == "disable" or files.cert is None or files.key is None:
        return None
    return tls.load(files.cert, files.key, files.client_ca)


def _log_as_json() -> None:
    """One JSON object a line on standard output: it is what `serve` has to say."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _event_first,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _event_first(_logger: Any, _method: str, line: Any) -> Any:
    return {"event": line.pop("event"), **line}
