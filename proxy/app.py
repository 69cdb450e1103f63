"""The composition root: the one place that builds concrete objects and gives them to each other.

`run` opens state and record, makes the server and runs it until a signal stops it; `work` does the same as one worker
of a supervisor, which starts this module as a process. Everything else in daypass takes what it needs as arguments.
Exit codes: 0 stopped in order, 2 configuration, 3 something that is needed cannot be reached or is in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import hmac
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import uvloop

from proxy.access.agreements import Agreements, Texts
from proxy.access.alerts import Alerts
from proxy.access.digests import Digests
from proxy.access.grants import Grants
from proxy.access.holds import Holds
from proxy.access.hosts import Hosts, host_name
from proxy.access.kills import Kills
from proxy.access.lead import Lead
from proxy.access.outbox import Outbox
from proxy.access.removals import Removals
from proxy.access.stages import Stages
from proxy.access.store import Store, StoreError
from proxy.access.timekeeping import Steady, TimeFacts, boot
from proxy.access.tokens import Tokens
from proxy.access.witnesses import Witnesses
from proxy.clock import Clock, SystemClock
from proxy.config import Config, checkpoint_file, load, server_certificate
from proxy.policy.load import Policies
from proxy.policy.worker import Workers
from proxy.server import digest, indexer, logs, pages, tls
from proxy.server.channel import SocketChannel
from proxy.server.dial import Dialler
from proxy.server.digest import Digester
from proxy.server.front import Front, OwnPages
from proxy.server.indexer import Indexer
from proxy.server.link import Charter, Link, Tracing, summoned
from proxy.server.listener import Listener
from proxy.server.metrics import Counts, Gauges, Metrics
from proxy.server.notify import Notifier
from proxy.server.post import Post
from proxy.server.server import Server
from proxy.server.streams import Streams
from proxy.server.tracing import Traces
from proxy.server.watch import Watch
from proxy.session.commons import Commons
from proxy.session.ephemeral import Keeper
from proxy.session.holding import Holding
from proxy.session.judging import Bench
from proxy.session.keeping import Keeping
from proxy.session.opening import Desk, open_session
from proxy.session.patience import LONGEST, Patience
from proxy.session.proofs import Proofs
from proxy.session.registry import Registry
from proxy.session.removal import Removal
from proxy.session.renewing import Renewing
from proxy.session.sharing import Sharing
from proxy.session.steward import Steward
from proxy.session.talk import Tally
from proxy.session.telling import teller
from proxy.session.timekeeper import Timekeeper
from proxy.session.witnessing import Witnessing
from proxy.tasks import spawn
from recorder import treelog
from recorder.journal import Recorder, RecordError, Turns
from recorder.pack import Form
from recorder.upkeep import Upkeep
from recorder.witness import Witness

log = structlog.get_logger()


def run(config: Config, tracing: Tracing | None = None) -> int:
    """Be the whole server in one process, until stopped; returns the exit code."""
    return _run_until_stopped(config, None, tracing)


def work() -> int:
    """Be one worker of a supervisor, which is at the other end of standard input; returns the exit code."""
    try:
        sock, charter = summoned()
    except OSError:
        return 3
    logs.as_json(charter.worker)
    return _run_until_stopped(load(Path(charter.config), charter.text), (sock, charter), charter.tracing)


def _run_until_stopped(config: Config, boss: tuple[socket.socket, Charter] | None, tracing: Tracing | None) -> int:
    # A session takes three descriptors, and many systems start a service with 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clock, traces = SystemClock(), None
    if tracing is not None:
        try:
            traces = Traces(Path(tracing.folder), clock, steady=tracing.steady)
        except OSError as problem:
            log.error("trace_failed", file=tracing.folder, reason=problem.strerror)
            return 2
        log.warning("tracing", dir=tracing.folder, message="every statement and VALUE is written there; never for long")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, clock, boss, traces))


async def _serve(
    config: Config, clock: Clock, boss: tuple[socket.socket, Charter] | None, traces: Traces | None
) -> int:
    try:
        store = await Store.open(config.state)
    except StoreError as problem:
        log.error("state_unavailable", reason=str(problem))
        return 3
    try:
        loop = asyncio.get_running_loop()
        identity, _ = await store.identity()
        with contextlib.ExitStack() as closing:
            streams = Streams(config, identity, clock)
            closing.callback(streams.last_words, clock.monotonic)
            upkeep = _upkeep(config, clock)
            closing.callback(upkeep.last_words)
            recorder = Recorder(
                config.recording.dir,
                durability=config.recording.durability,
                now=clock.now,
                microseconds=clock.microseconds,
                fatal=lambda reason: log.error("recording_unwritable", reason=reason),
                lock=boss is None,
                free_floor=config.recording.min_free,
                reserved=config.recording.reserve,
                turns=Turns(loop.call_soon, loop.call_soon_threadsafe),
                installation=identity,
            )
            closing.callback(recorder.close)
            for found in recorder.recovered:
                log.warning("recording_recovered", what=str(found))
            streams.begin()
            commons = Commons(_common_ground(config))
            closing.callback(commons.close)
            return await _run(
                config, clock, store, recorder, upkeep, streams, commons, _certificate(config), boss, traces
            )
    except RecordError as problem:
        log.error("recording_unavailable", reason=str(problem))
        return 3
    except StoreError as problem:
        log.error("state_unavailable", reason=str(problem))
        return 3
    except (ssl.SSLError, ValueError) as problem:
        log.error("certificate_unusable", reason=str(problem))
        return 2
    except OSError as problem:
        log.error("cannot_serve", reason=str(problem))
        return 3
    finally:
        await store.close()


async def _run(
    config: Config,
    clock: Clock,
    store: Store,
    recorder: Recorder,
    upkeep: Upkeep,
    streams: Streams,
    commons: Commons,
    certificate: tls.Certificate | None,
    boss: tuple[socket.socket, Charter] | None,
    traces: Traces | None,
) -> int:
    identity, secret = await store.identity()
    emit = teller(config.recording.dir, clock.now, installation=identity)
    facts, started = TimeFacts(store, clock, emit), boot()
    kept = await facts.read()
    steady = Steady(clock, kept, started)
    grants = Grants(store, steady)
    keeper = Keeper(config, identity, secret)
    bench = Bench(Policies(config.policies), secret, identity, keeper.is_for)
    registry = Registry(steady, commons)
    tally, counts = Tally(), Counts()
    alerts = Alerts(store, steady, emit)
    room = max(1, config.limits.connections // (2 * config.workers))
    patience = Patience(clock, room=room, most=min(LONGEST, config.login_timeout / 3))
    workers = Workers()
    starting = spawn(workers.start(), name="judging processes")
    tokens, dialler = Tokens(store, steady, emit), Dialler()
    hosts = Hosts(store, host_name(commons.folder))
    proofs = Proofs(
        config=config,
        clock=steady,
        grants=grants,
        tokens=tokens,
        keeper=keeper,
        bench=bench,
        commons=commons,
        hosts=hosts,
        doors=dialler,
        port=lambda: listener.port,
    )
    removals = Removals(store, steady, emit)
    removal = Removal(Stages(store, steady, emit), removals, alerts, proofs, steady, counts.alert)
    holding = Holding(Holds(store, steady, emit), steady)
    agreements = Agreements(store, steady, Texts(config.agreements), emit)
    steward = Steward(config, store, steady, emit, bench.terms, withdrawn=bench.withdrawn, counted=counts.alert)
    directory = config.recording.dir.absolute()
    place = treelog.maker(directory) or identity
    digests = Digests(store, steady, emit, place)
    watch = Watch(
        config=config,
        recorder=recorder,
        upkeep=upkeep,
        registry=registry,
        grants=grants,
        kills=Kills(store, clock),
        bench=bench,
        keeper=keeper,
        counts=counts,
        timekeeper=Timekeeper(steady, facts, registry, started, kept.accepted),
        steward=steward,
        removal=removal,
        holding=holding,
        renewing=Renewing(registry, bench, agreements),
        notifier=Notifier(config.notify, Outbox(store, clock), clock, identity, counts.notices),
        witnessing=Witnessing(Witnesses(store), alerts, directory, place, counts.alert),
        more=[
            ("digests", digest.EVERY, _if(commons.leads, Digester(config.digests, directory, digests, steady).round)),
            ("index", indexer.EVERY, _if(commons.leads, Indexer(config.recording, clock.monotonic).round)),
        ],
        lead=Lead(store, clock),
        hosts=hosts,
        streams=streams,
    )
    post = Post(commons.folder, commons.place, cancel=registry.cancel_here, look=watch.look_at)
    registry.elsewhere = post.ask_to_cancel
    watch.catalog_changed = post.ask_to_look
    watch.reload_policies()
    server = Server(config, recorder, registry, bench, watch, steady)
    desk = Desk(
        config=config,
        clock=steady,
        grants=grants,
        agreements=agreements,
        tokens=tokens,
        patience=patience,
        sharing=Sharing(commons, alerts, counts.alert),
        workers=workers,
        holding=holding,
        recorder=recorder,
        judging=bench,
        upstreams=dialler,
        keeper=keeper,
        registry=registry,
        tally=tally,
        accepting=server.accepting,
        counted=counts.login,
        keeping=Keeping(
            config.recording.results,
            config.recording.literals,
            hmac.new(secret, b"daypass record digests", hashlib.sha256).digest(),
        ),
    )

    async def handle(channel: SocketChannel, deadline: float) -> None:
        if traces is None:
            await open_session(channel, desk, deadline)
        else:
            await open_session(*traces.wrap(channel, desk), deadline)

    listener = Listener(config, certificate, handle, port=None if boss is None else boss[1].port)
    gauges = Gauges(
        sessions=lambda: len(registry),
        pending=lambda: listener.pending,
        slowed=lambda: patience.slowed,
        dropped=lambda: listener.refused,
        ready=lambda: server.ready() is None,
        recording=recorder.healthy,
        clock=steady.apart,
        free=lambda: recorder.free,
        reserved=lambda: recorder.reserved,
        syncs=lambda: recorder.syncs,
        databases=lambda: {name: bench.catalog(name) is not None for name in config.databases},
        removals=lambda: removal.pending,
        sinks=streams.counts,
    )

    links = pages.of(config, store, clock, emit) if boss is None else None

    def reload() -> None:
        watch.reload_policies()
        try:
            listener.certificate = _certificate(config)
            if links is not None:
                links.reload()
        except (OSError, ssl.SSLError, ValueError) as problem:
            log.error("certificate_unusable", reason=str(problem))

    front: Front
    if boss is not None:
        front = Link(boss[0], stop=server.stop, reload=reload)
    else:
        front = OwnPages(config, links)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, server.stop)
        loop.add_signal_handler(signal.SIGINT, server.stop)
        loop.add_signal_handler(signal.SIGHUP, reload)
    # What exists now lives as long as the process: the collector need not look at it again and again.
    gc.freeze()
    # What a statement makes is freed by its counts; cycles are rare, and looking for them is not free.
    gc.set_threshold(50_000, 20, 20)
    post.open()
    try:
        await server.run(listener, front, Metrics(tally, counts, gauges).families)
    finally:
        post.close()
        if links is not None:
            await links.drain()
        await watch.save_spent()
        await keeper.close()
        starting.cancel()
        await workers.close()
    return 0


def _common_ground(config: Config) -> Path:
    """The folder of what the processes of one installation share while they run. Beside the state where that is a file,
    so that a folder of recordings holds nothing that is no file."""
    if config.state.startswith("sqlite:///"):
        state = Path(config.state.removeprefix("sqlite:///"))
        return state.with_name(f"{state.name}-run")
    return config.recording.dir.absolute() / ".run"


def _if(leads: Callable[[], bool], what: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """A round of the one process that leads on this host's folder."""

    async def lead() -> None:
        if leads():
            await what()

    return lead


def _upkeep(config: Config, clock: Clock) -> Upkeep:
    kept = config.recording
    witness = checkpoint_file(config)
    return Upkeep(
        kept.dir,
        form=Form(kept.compress == "zstd", kept.recipients),
        retain=kept.retention,
        now=clock.now,
        ships=[Witness(witness, kept.dir)] if witness is not None else [],
    )


def _certificate(config: Config) -> tls.Certificate | None:
    files = server_certificate(config)
    return tls.load(*files, config.listen.tls.client_ca) if files is not None else None


if __name__ == "__main__":
    sys.exit(work())
