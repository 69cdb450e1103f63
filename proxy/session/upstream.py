"""Logging in to the upstream, daypass in the client's role.

SCRAM-SHA-256(-PLUS), md5, and a clear-text password inside TLS only. Protocol 3.0 is asked for whatever
the client speaks: every server and every pooler in between knows it, nothing that a client sees differs, and the
upstream's cancel key never leaves daypass. The server may be hostile or broken: messages
are bounded in size and number, a wrong signature ends the login, and its words reach the client only where they are
about what the client itself asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from proxy.clock import Clock
from proxy.scram import ClientExchange, ScramError
from proxy.session.channel import Channel
from proxy.wire import build, framing, upstream
from proxy.wire.framing import ProtocolViolation

LONGEST_MESSAGE: Final = 65_536
MOST_MESSAGES: Final = 500
LONGEST_KEY: Final = 4
"""Bytes of a cancel key in protocol 3.0, which is what is asked for."""
MOST_RELAYED: Final = 256 * 1024
"""Bytes of ParameterStatus and notices that a start-up may hold."""
ABOUT_THE_REQUEST: Final = ("22023", "42704", "0A000", "3D000", "53300", "57P03")
"""SQLSTATEs whose text may be passed on: bad parameter values, no such database, too many connections, starting up."""


class UpstreamRefused(Exception):
    """The upstream let nobody in. `text` may be told to the client, `truth` is for the record and the log."""

    def __init__(self, text: str, truth: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.truth = truth or text


@dataclass(slots=True)
class Ready:
    """An upstream session at its first ReadyForQuery. `relayed` are its ParameterStatus and notices, for the client."""

    pid: int = 0
    secret: bytes = b""
    relayed: bytearray = field(default_factory=bytearray)
    settings: dict[str, str] = field(default_factory=dict)


async def log_in(channel: Channel, parameters: dict[str, str], password: str, clock: Clock) -> Ready:
    """Start up and authenticate. Raises UpstreamRefused, and ConnectionError when the upstream goes away."""
    channel.write(build.startup(parameters))
    try:
        await _authenticate(channel, parameters["user"], password, clock)
        return await _ready(channel)
    except ScramError as broken:
        raise UpstreamRefused("it did not prove that it knows daypass's password", str(broken)) from None
    except ProtocolViolation as broken:
        raise UpstreamRefused("it sent something that makes no sense", broken.text) from None


async def _next(channel: Channel) -> tuple[int, bytes]:
    kind, body = await channel.message(LONGEST_MESSAGE)
    if kind == framing.ERROR:
        found = upstream.report(body)
        truth = f"{found.sqlstate}: {found.text}"
        if found.sqlstate in ABOUT_THE_REQUEST:
            raise UpstreamRefused(found.text, truth)
        raise UpstreamRefused(f"it refused daypass's login (SQLSTATE {found.sqlstate})", truth)
    return kind, body


async def _authenticate(channel: Channel, user: str, password: str, clock: Clock) -> None:
    exchange: ClientExchange | None = None
    verified = False
    # A login is a handful of messages; a server that goes on asking is not one.
    for _ in range(10):
        kind, body = await _next(channel)
        if kind == framing.NOTICE:
            continue
        if kind != framing.AUTHENTICATION:
            raise ProtocolViolation(f"a message of type {framing.printable(kind)} before authentication was over")
        what, data = upstream.authentication(body)
        if what == upstream.OK:
            if exchange is not None and not verified:
                raise ScramError("the server ended the exchange without its signature")
            return
        if not password:
            raise UpstreamRefused("it asks for a password and daypass is configured to send none")
        if what == upstream.SASL and exchange is None:
            binding = channel.tls.binding if channel.tls is not None else None
            offered = upstream.mechanisms(data)
            exchange = ClientExchange(password, nonce=clock.random(18), binding=binding, offered=offered)
            channel.write(build.sasl_initial(exchange.mechanism, exchange.first()))
        elif what == upstream.SASL_CONTINUE and exchange is not None:
            channel.write(build.sasl_response(exchange.final(data)))
        elif what == upstream.SASL_FINAL and exchange is not None:
            exchange.verify(data)
            verified = True
        elif what == upstream.MD5 and len(data) == 4 and exchange is None:
            channel.write(build.password(_md5(user, password, data)))
        elif what == upstream.CLEARTEXT and exchange is None:
            if channel.tls is None:
                raise UpstreamRefused("it asks for the password in clear text outside of TLS")
            channel.write(build.password(password.encode()))
        else:
            raise UpstreamRefused(f"it asks for an authentication method that daypass does not speak ({what})")
    raise ProtocolViolation("an authentication that does not end")


def _md5(user: str, password: str, salt: bytes) -> bytes:
    """Postgres's md5 answer: it keeps the password off the wire and no more, and old servers ask for it."""
    inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


async def _ready(channel: Channel) -> Ready:
    ready = Ready()
    for _ in range(MOST_MESSAGES):
        kind, body = await _next(channel)
        if kind == framing.PARAMETER_STATUS:
            name, value = upstream.parameter(body)
            ready.settings[name] = value
            ready.relayed += build.message(b"S", body)
        elif kind == framing.NOTICE:
            ready.relayed += build.message(b"N", body)
        elif kind == framing.BACKEND_KEY_DATA:
            ready.pid, ready.secret = upstream.key(body, LONGEST_KEY)
        elif kind == framing.READY_FOR_QUERY:
            return ready
        else:
            raise ProtocolViolation(f"a message of type {framing.printable(kind)} during start-up")
        if len(ready.relayed) > MOST_RELAYED:
            break
    raise ProtocolViolation("a start-up that does not end")
