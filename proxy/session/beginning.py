"""The end of an opening: the session has its upstream, is recorded, is told to its client, and carries.

Also the parts of it that a signing session shares. Invariant: a session is recorded before its client hears that it is
open.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from proxy.access.model import Grant
from proxy.policy.judge import Judges
from proxy.session import about, driver
from proxy.session.channel import Channel
from proxy.session.cost import Costs
from proxy.session.gate import Bounds
from proxy.session.keeping import DEFAULT, Keeping
from proxy.session.registry import LONG_SECRET_BYTES, SECRET_BYTES, Session
from proxy.session.relay import Relay
from proxy.session.sharing import peer_of
from proxy.session.talk import IDLE, Aids
from proxy.session.upstream import Ready
from proxy.wire import build, startup
from proxy.wire.startup import Startup
from recorder import events
from recorder.journal import RecordError, Recording

if TYPE_CHECKING:
    from proxy.session.opening import Desk

log = structlog.get_logger()


async def begin(
    channel: Channel,
    server: Channel,
    desk: Desk,
    grant: Grant,
    judge: Judges,
    ready: Ready,
    asked: Startup,
    spent: tuple[int, int],
    costs: Costs | None,
) -> None:
    """Open the recording, tell the client, and start carrying."""
    file = desk.judging.terms(grant)
    observe = judge.policy.mode == "observe"
    peer = peer_of(channel.address, asked.parameters, channel.tls)
    asked_for = [(part.policy.recording.results, part.policy.recording.literals) for part in judge.parts]
    keeping = desk.keeping.joined(asked_for)
    name, recording = await record(channel, desk, grant, judge, asked, keeping, upstream_pid=ready.pid)
    database = desk.config.databases[grant.database]

    def stop_upstream(done: Callable[[], object] = lambda: None) -> None:
        desk.upstreams.cancel(database, ready.pid, ready.secret, done)

    def ended(busy: bool) -> None:
        desk.registry.sessions.pop(name, None)
        desk.registry.leave_seat(grant.id)
        desk.sharing.closed(grant, peer)
        desk.holding.cancel(name)
        if busy:
            stop_upstream()
        if costs is not None:
            costs.close()
        log.info("session_end", session=name, grant=grant.id, reason=relay.reason)

    relay = Relay(
        client=channel,
        upstream=server,
        judge=judge,
        recording=recording,
        monotonic=desk.clock.monotonic,
        tally=desk.tally,
        bounds=Bounds(statement=desk.config.limits.statement_bytes),
        on_end=ended,
        observe=observe,
        aids=Aids(
            spent=desk.registry.spent(grant.id, *spent),
            heavy=desk.workers.judge,
            costs=costs,
            own=lambda name: about.answer(name, session.grant.ends(session.file), relay.talk, desk.clock.now()),
            hold=lambda statement, values: desk.holding.approval(relay, grant, statement, values),
            keeping=keeping,
        ),
        cancel=stop_upstream,
    )
    session = Session(
        id=name,
        grant=grant,
        relay=relay,
        pid=ready.pid,
        secret=desk.registry.secret(
            ready.pid, LONG_SECRET_BYTES if asked.spoken >= startup.LONG_KEYS_MINOR else SECRET_BYTES
        ),
        deadline=desk.clock.monotonic(),
        cancel_upstream=stop_upstream,
        unhold=lambda: desk.holding.cancel(name),
        address=channel.address,
    )
    desk.registry.add(session)
    hello = [build.AUTHENTICATION_OK, bytes(ready.relayed), build.key_data(ready.pid, session.secret)]
    relay.at_login(bytes(ready.relayed))
    if judge.policy.greeting and not observe:
        hello.append(relay.greeting(_greeting(grant, grant.ends(file), name)))
    channel.write(b"".join((*hello, build.ready(IDLE))))
    desk.registry.follow(session, file, opening=True)
    if observe:
        log.warning("session_observed", session=name, grant=grant.id, policy=judge.policy.name)
    log.info("session_start", session=name, grant=grant.id, address=channel.address, database=grant.database)
    desk.counted("ok")
    desk.sharing.opened(grant, peer)
    server.carry(relay.upstream_data, relay.upstream_lost, relay.upstream_blocked)
    channel.carry(relay.client_data, relay.client_lost, relay.client_blocked)


async def record(
    channel: Channel,
    desk: Desk,
    grant: Grant,
    judge: Judges,
    asked: Startup,
    keeping: Keeping = DEFAULT,
    *,
    upstream_pid: int | None = None,
    signing: Sequence[str] = (),
) -> tuple[str, Recording]:
    """The new session's name, and its recording. Raises RecordError."""
    now, tls = desk.clock.now(), channel.tls
    name = f"s-{now:%Y%m%d-%H%M%S}-{base64.b32encode(desk.clock.random(5)).decode().lower()}"
    start = events.SessionStart(
        session=name,
        grant=grant.id,
        person=grant.person,
        vendor=grant.vendor,
        user=grant.id,
        database=grant.database,
        policy=judge.policy.name,
        policy_revision=judge.policy.revision,
        client_address=channel.address,
        application_name=asked.parameters.get("application_name", ""),
        tls=tls.version if tls is not None else None,
        cipher=tls.cipher if tls is not None else None,
        client_certificate=tls.subject if tls is not None else None,
        upstream_pid=upstream_pid,
        startup=dict(asked.parameters),
        signing=list(signing),
        driver=driver.guess(asked.parameters),
        results=keeping.results,
        literals=keeping.literals,
    )
    recording = await _recording(desk, start)
    desk.named(name)
    return name, recording


async def _recording(desk: Desk, start: events.SessionStart) -> Recording:
    """A recording for the session, when it is as safe as the configuration asks for. Raises RecordError."""
    waiting: asyncio.Future[Recording | RecordError] = asyncio.get_running_loop().create_future()

    def opened(result: Recording | RecordError) -> None:
        if not waiting.done():
            waiting.set_result(result)
        elif isinstance(result, Recording):
            # The login was given up while the disk took its time.
            with contextlib.suppress(RecordError):
                result.close(
                    events.SessionEnd(reason="login timeout", detail="the recording came too late", statements=0)
                )

    desk.recorder.open_soon(start.session, start, opened)
    result = await waiting
    if isinstance(result, RecordError):
        raise result
    return result


def _greeting(grant: Grant, ends: datetime, session: str) -> str:
    until = f"{ends:%Y-%m-%d %H:%M} UTC"
    vendor = f" ({grant.vendor})" if grant.vendor else ""
    return (
        f"daypass: {grant.person}{vendor}, database {grant.database}, policy {grant.policy}, until {until}. "
        f"This session is recorded as {session}."
    )
