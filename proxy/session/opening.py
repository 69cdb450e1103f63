"""How a session begins, told in its order: start-up, token, grant, upstream, ready.

Reads like the story that it is; what each step means lies in its own file. Every no is recorded with its true
reason, and told as `refusals` has it. Invariants: before the token is proven nothing about a grant is told; a
session is recorded before its client hears that it is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from proxy.access.agreements import Agreements, Text
from proxy.access.grants import Grants, admission
from proxy.access.model import Grant, Terms
from proxy.access.store import StoreError
from proxy.access.tokens import Tokens, TokenUsed
from proxy.clock import Clock
from proxy.config import Config, Database
from proxy.policy.ddl import RolePlan
from proxy.policy.judge import Judges
from proxy.policy.worker import Workers
from proxy.session import backend, beginning, login, parameters, signing
from proxy.session.channel import Channel, ChannelClosed
from proxy.session.cost import Costs
from proxy.session.ephemeral import Keeper, connections
from proxy.session.holding import Holding
from proxy.session.keeping import DEFAULT, Keeping
from proxy.session.patience import Patience
from proxy.session.refusals import LoginRefused, Refusal, refusal
from proxy.session.registry import Registry
from proxy.session.sharing import Sharing
from proxy.session.talk import Tally
from proxy.wire import build, startup
from proxy.wire.framing import ProtocolViolation
from proxy.wire.startup import Startup
from recorder import events
from recorder.journal import Recorder, RecordError

log = structlog.get_logger()

LONGEST_USER: Final = 63


class Judging(Protocol):
    """Where a grant's judge comes from."""

    def for_grant(self, grant: Grant) -> Judges:
        """The judge of the grant's database and policy. Raises LoginRefused where there is none."""

    def terms(self, grant: Grant) -> Terms | None:
        """What the file of the grant's policy says now; None where there is none any more."""

    def plan(self, grant: Grant) -> RolePlan:
        """The role plan of the policy that a grant pins."""

    def settings(self, grant: Grant) -> dict[str, str]:
        """The upstream settings that the grant's policy pins."""

    def agreements(self, grant: Grant) -> tuple[str, ...]:
        """The agreements that the grant's policy asks for, as it was pinned or as it is now. Raises LoginRefused."""


class Upstreams(Protocol):
    """The way to the databases."""

    async def dial(self, database: Database) -> Channel:
        """A connection, inside TLS where the configuration says so. Raises UpstreamRefused."""

    def cancel(self, database: Database, pid: int, secret: bytes, done: Callable[[], object] = ...) -> None:
        """Stop what a backend is doing, in the background; `done` is called when that is over."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What an opening needs of the house. `accepting` says why no new session may begin, or nothing."""

    config: Config
    clock: Clock
    grants: Grants
    agreements: Agreements
    tokens: Tokens
    patience: Patience
    sharing: Sharing
    workers: Workers
    holding: Holding
    recorder: Recorder
    judging: Judging
    upstreams: Upstreams
    keeper: Keeper
    registry: Registry
    tally: Tally
    accepting: Callable[[], Refusal | None]
    counted: Callable[[str], None]
    """Called with the outcome of each login: `ok`, or the reason of the refusal."""
    keeping: Keeping = DEFAULT
    """How much of sessions is recorded."""
    named: Callable[[str], None] = lambda _: None
    """Called with the name of the session that this connection has become."""


async def open_session(channel: Channel, desk: Desk, deadline: float) -> None:
    """Take a connection from its first packet to its first ReadyForQuery. Never raises; `deadline` is loop time."""
    who = _Who()
    no: LoginRefused | None = None
    try:
        async with asyncio.timeout_at(deadline):
            await _open(channel, desk, who)
        return
    except LoginRefused as refused:
        no = refused
    except startup.UnsupportedProtocol as broken:
        no = LoginRefused(refusal("version", text=broken.text))
    except ProtocolViolation as broken:
        no = LoginRefused(refusal("protocol", text=broken.text))
    except TimeoutError:
        no = LoginRefused(refusal("login timeout", seconds=desk.config.login_timeout))
    except ChannelClosed:
        # libpq hangs up and comes again when it has to ask for a password: nothing has gone wrong.
        log.info("client_left", address=channel.address, user=who.user, step=who.step)
    except RecordError as broken:
        no = LoginRefused(refusal("recording"), str(broken))
    except StoreError as broken:
        no = LoginRefused(refusal("state"), str(broken))
    except TokenUsed:
        no = LoginRefused(refusal("token used", grant=who.grant))
    except asyncio.CancelledError:
        channel.close()
        raise
    except Exception:
        log.exception("opening_bug", address=channel.address, step=who.step)
        no = LoginRefused(refusal("bug"))
    if no is not None:
        _refuse(channel, desk, who, no)
    channel.close()


@dataclass(slots=True)
class _Who:
    """What is known of the peer so far, for the record."""

    user: str = ""
    database: str = ""
    grant: str | None = None
    step: str = "start-up"


async def _open(channel: Channel, desk: Desk, who: _Who) -> None:
    packet = await _packet(channel)
    if isinstance(packet, startup.Cancel):
        await _cancel(channel, desk, packet)
        return
    if not isinstance(packet, Startup):
        raise ProtocolViolation("unexpected encryption request: one is enough")
    who.user = packet.parameters.get("user", "")
    who.database = packet.parameters.get("database") or who.user
    if channel.tls is None and desk.config.listen.tls.mode == "require":
        raise LoginRefused(refusal("tls required"))
    if desk.config.listen.tls.client_ca is not None and (channel.tls is None or channel.tls.subject is None):
        raise LoginRefused(refusal("certificate required"))
    if not who.user:
        raise LoginRefused(refusal("no user"))
    if packet.negotiates:
        channel.write(build.negotiate(packet.spoken, packet.extensions))

    who.step = "token"
    found, verifier = await desk.grants.login(who.user[:LONGEST_USER])
    who.grant = found.id if found is not None else None

    async def pause(right: bool) -> None:
        await desk.patience.answer(channel.address, who.user[:LONGEST_USER], right=right)

    grant = await login.prove(channel, who.user, found, verifier, desk.clock, pause)

    who.step = "grant"
    if who.database == who.user:
        # What libpq says for somebody who has named no database; a grant is for one.
        who.database = grant.database
    judge, unsigned = await _admit(channel, desk, grant, who.database)
    await desk.tokens.refuse_used(grant)
    observe = judge.policy.mode == "observe"
    wishes = parameters.allowed(packet.parameters, observe=observe)
    limit = grant.seats(judge.limits.sessions)
    if taken := desk.registry.take_seat(grant.id, limit):
        raise LoginRefused(refusal("sessions", grant=grant.id, open=taken, limit=limit))
    try:
        if unsigned:
            await signing.begin(channel, desk, grant, judge, packet, unsigned)
            return
        who.step = "upstream"
        database = desk.config.databases[grant.database]
        beside = judge.limits.plan_cost is not None
        user, password = await backend.credential(desk, grant, database, connections(grant, judge))
        asked = parameters.for_upstream(wishes, desk.judging.settings(grant), user=user, dbname=database.dbname)
        server, ready = await backend.dial(desk, database, asked, password, observe=observe)
        spent = await desk.grants.spent(grant.id)
        who.step = "ready"
        try:
            costs = Costs(backend.beside(desk, database, grant, user, password)) if beside else None
            async with desk.tokens.using(grant, verifier, channel.address):
                await beginning.begin(channel, server, desk, grant, judge, ready, packet, spent, costs)
        except BaseException:
            server.close()
            raise
    except BaseException:
        desk.registry.leave_seat(grant.id)
        raise


async def _packet(channel: Channel) -> startup.Opening:
    head = await channel.exactly(8)
    length, _ = startup.head(head)
    return startup.parse(head + await channel.exactly(length - 8))


async def _cancel(channel: Channel, desk: Desk, asked: startup.Cancel) -> None:
    """Postgres answers a CancelRequest with nothing at all, whether the key fits or not, and closes when it has done
    it: who waits for that may send the next statement, and it is not the one that is cancelled."""
    done = asyncio.Event()
    desk.registry.cancel(asked.pid, asked.secret, done.set)
    await done.wait()
    channel.close()


async def _admit(channel: Channel, desk: Desk, grant: Grant, database: str) -> tuple[Judges, list[Text]]:
    """The proof was right: from here on the client is told the truth. Also what has to be signed first.

    A grant that only waits for its time lets its person in to sign.
    """
    failing = await desk.grants.failing(grant.id) if grant.unchecked else ""
    closed = desk.accepting()
    if closed is not None and closed.reason == "clock":
        raise LoginRefused(closed)
    now, address, file = desk.clock.now(), channel.address, desk.judging.terms(grant)
    no = admission(grant, now=now, database=database, address=address, file=file, failing=failing)
    early = no is not None and no.reason == "waiting"
    if early:
        begun = signing.begun(grant, now)
        early = admission(begun, now=now, database=database, address=address, file=file) is None
    unsigned = await signing.pending(desk, grant) if no is None or early else []
    if no is not None and not unsigned:
        raise LoginRefused(refusal("admission", text=no.text, hint=no.hint), no.reason)
    if closed is not None:
        raise LoginRefused(closed)
    return desk.judging.for_grant(grant), unsigned


def _refuse(channel: Channel, desk: Desk, who: _Who, no: LoginRefused) -> None:
    """Record a login that opened no session, then tell the client."""
    desk.counted(no.refusal.reason)
    log.warning(
        "login_refused",
        address=channel.address,
        user=who.user,
        grant=who.grant,
        reason=no.refusal.reason,
        truth=no.truth,
    )
    if who.user:
        try:
            node = desk.recorder.installation()
            node.append(
                events.Login(
                    user=who.user,
                    client_address=channel.address,
                    outcome="refused",
                    reason=no.truth,
                    grant=who.grant,
                    database=who.database,
                )
            )
            node.commit()
        except RecordError as broken:
            log.error("record_failed", recording="installation", reason=str(broken))
    channel.write(no.refusal.message)
