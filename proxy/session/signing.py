"""A signing session: what a right token opens while its grant waits for agreements to be accepted.

The same relay, gate and record as any session's; in the upstream's place stands the notary, and the judge allows
nothing but signing. Knows no sockets. Invariant: nothing is dialled and no role is made for it, so that whatever else
may fail, no statement of it reaches a database.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Final

import structlog

from proxy.access.agreements import AgreementError, Text
from proxy.access.model import Grant
from proxy.policy.judge import Judges
from proxy.policy.model import Limits
from proxy.policy.signing import HOW, SigningJudge
from proxy.session import beginning
from proxy.session.channel import Channel
from proxy.session.gate import Bounds
from proxy.session.notary import Files, Notary
from proxy.session.refusals import LoginRefused, refusal
from proxy.session.registry import LONG_SECRET_BYTES, SECRET_BYTES, Session
from proxy.session.relay import Relay
from proxy.session.talk import IDLE
from proxy.wire import build, startup
from proxy.wire.startup import Startup

if TYPE_CHECKING:
    from proxy.session.opening import Desk

log = structlog.get_logger()

LONGEST_STATEMENT: Final = 16 * 1024
LONGEST_VALUES: Final = 16 * 1024
NO_PROCESS: Final = 1 << 30
"""Above every process id that a database server's machine gives."""


async def pending(desk: Desk, grant: Grant) -> list[Text]:
    """What the grant's person has to accept first. Raises LoginRefused where a text is not there, StoreError."""
    names = desk.judging.agreements(grant)
    try:
        texts = await desk.agreements.pending(grant.person, names)
    except AgreementError as problem:
        log.error("agreement_missing", grant=grant.id, reason=str(problem))
        missing = ", ".join(desk.agreements.texts.missing(names))
        raise LoginRefused(refusal("agreement missing", grant=grant.id, names=missing), str(problem)) from None
    await desk.agreements.keep(texts)
    return texts


def begun(grant: Grant, now: datetime) -> Grant:
    """The grant as if nothing but its agreements were waited for: a person may sign before its time comes."""
    return dataclasses.replace(grant, starts_at=min(grant.starts_at, now), checked_at=grant.checked_at or now)


async def begin(
    channel: Channel, desk: Desk, grant: Grant, judge: Judges, asked: Startup, unsigned: list[Text]
) -> None:
    """Open the recording, tell the client what to do, and start carrying. The seat is taken."""
    signs_for = [f"{text.name} {text.sha256}" for text in unsigned]
    name, recording = await beginning.record(channel, desk, grant, judge, asked, signing=signs_for)
    agreements, names = desk.agreements, desk.judging.agreements(grant)

    async def accept(text: Text, typed: str) -> None:
        await agreements.accept(
            text, person=grant.person, name=typed, how="psql", address=channel.address, by=grant.person,
            grant=grant.id, session=name,
        )  # fmt: skip
        log.info("agreement_accepted", session=name, grant=grant.id, agreement=text.name, sha256=text.sha256)

    signs = SigningJudge(judge.policy, Limits().model_copy(update={"idle": judge.limits.idle}))
    signs.waits_for = unsigned[0].title

    def waits_for(words: str) -> None:
        signs.waits_for = words

    settings = _settings(grant, judge, asked)
    notary = Notary(Files(lambda: agreements.pending(grant.person, names), accept), settings, waits_for)

    def ended(_busy: bool) -> None:
        desk.registry.sessions.pop(name, None)
        desk.registry.leave_seat(grant.id)
        log.info("session_end", session=name, grant=grant.id, reason=relay.reason)

    relay = Relay(
        client=channel,
        upstream=notary,
        judge=signs,
        recording=recording,
        monotonic=desk.clock.monotonic,
        tally=desk.tally,
        bounds=Bounds(statement=LONGEST_STATEMENT, values=LONGEST_VALUES),
        on_end=ended,
    )
    notary.serve(relay)
    pid = NO_PROCESS | int.from_bytes(desk.clock.random(4), "big") >> 2
    length = LONG_SECRET_BYTES if asked.spoken >= startup.LONG_KEYS_MINOR else SECRET_BYTES
    session = Session(
        id=name,
        grant=grant,
        relay=relay,
        pid=pid,
        secret=desk.registry.secret(pid, length),
        deadline=desk.clock.monotonic(),
        cancel_upstream=lambda done: done(),
        address=channel.address,
        signing=True,
    )
    desk.registry.add(session)
    hello = [build.AUTHENTICATION_OK]
    hello += [build.parameter_status(_REPORTED[key], settings[key]) for key in _REPORTED]
    hello += [build.key_data(pid, session.secret), build.notice(text=_welcome(grant, unsigned, name), hint=HOW)]
    channel.write(b"".join((*hello, build.ready(IDLE))))
    desk.registry.follow(session, desk.judging.terms(grant), opening=True)
    log.info("signing_session_start", session=name, grant=grant.id, address=channel.address, database=grant.database)
    desk.counted("ok")
    channel.carry(relay.client_data, relay.client_lost, relay.client_blocked)


_REPORTED: Final = {
    key.lower(): key
    for key in (
        "application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "integer_datetimes",
        "IntervalStyle", "is_superuser", "server_encoding", "server_version", "session_authorization",
        "standard_conforming_strings", "TimeZone",
    )
}  # fmt: skip


def _settings(grant: Grant, judge: Judges, asked: Startup) -> dict[str, str]:
    """What SHOW tells, and what drivers want to be told: of the server that the grant's real sessions will have."""
    number = judge.parts[0].catalog.server_version_num
    return {
        "application_name": asked.parameters.get("application_name", ""),
        "bytea_output": "hex",
        "client_encoding": "UTF8",
        "client_min_messages": "notice",
        "datestyle": "ISO, MDY",
        "default_transaction_read_only": "on",
        "extra_float_digits": "1",
        "integer_datetimes": "on",
        "intervalstyle": "postgres",
        "is_superuser": "off",
        "server_encoding": "UTF8",
        "server_version": f"{number // 10_000}.{number % 10_000}",
        "server_version_num": str(number),
        "session_authorization": grant.id,
        "standard_conforming_strings": "on",
        "timezone": "UTC",
        "transaction_isolation": "read committed",
        "transaction_read_only": "on",
    }


def _welcome(grant: Grant, unsigned: list[Text], session: str) -> str:
    titles = ", ".join(text.title for text in unsigned)
    return (
        f"daypass: before grant {grant.id} opens anything, {grant.person} has to accept: {titles}. "
        f"This session is for that alone; it is recorded as {session}."
    )
