"""Proving the token: SCRAM-SHA-256(-PLUS) with the client, daypass in the server's role.

Only whether the proof is right is decided here; whether a right proof opens a session is `opening`'s question.
Invariant: an unknown user goes through the same exchange with the same number of messages of the same length as a
known one, and ends in the same words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy.access.model import Grant
from proxy.clock import Clock
from proxy.scram import ScramError, ServerExchange, Verifier
from proxy.session.channel import Channel
from proxy.session.refusals import LoginRefused, refusal
from proxy.wire import build, framing
from proxy.wire.framing import ProtocolViolation

LONGEST_MESSAGE = 65_536


async def prove(
    channel: Channel,
    user: str,
    grant: Grant | None,
    verifier: Verifier,
    clock: Clock,
    pause: Callable[[bool], Awaitable[None]],
) -> Grant:
    """The grant whose token the client has. Raises LoginRefused when it has none.

    `pause` is called with whether the proof was right, before that is told.
    """
    binding = channel.tls.binding if channel.tls is not None else None
    exchange = ServerExchange(verifier, nonce=clock.random(18), binding=binding)
    channel.write(build.sasl(exchange.mechanisms))
    try:
        mechanism, first = _initial(await _response(channel))
        if mechanism not in exchange.mechanisms:
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        channel.write(build.sasl_continue(exchange.first(mechanism, first)))
        final = exchange.final(await _response(channel))
    except ScramError as broken:
        # Malformed is malformed whoever it comes from: this tells nothing about the user.
        raise LoginRefused(refusal("protocol", text=f"malformed SCRAM message: {broken}"), str(broken)) from None
    right = final is not None and grant is not None
    await pause(right)
    if final is None or grant is None:
        truth = "wrong token" if grant is not None else "unknown user"
        raise LoginRefused(refusal("password", user=user), truth)
    channel.write(build.sasl_final(final))
    return grant


async def _response(channel: Channel) -> bytes:
    kind, body = await channel.message(LONGEST_MESSAGE)
    if kind != framing.PASSWORD:
        raise ProtocolViolation(f"expected SASL response, got message type {kind}")
    return body


def _initial(body: bytes) -> tuple[str, bytes]:
    """(mechanism, first message) of a SASLInitialResponse."""
    nul = body.find(0)
    if nul < 0 or len(body) - nul - 1 < 4:
        raise ProtocolViolation("malformed SASL initial response")
    size = int.from_bytes(body[nul + 1 : nul + 5], "big", signed=True)
    rest = body[nul + 5 :]
    if size != len(rest):
        raise ProtocolViolation("malformed SASL initial response")
    return body[:nul].decode("ascii", "replace"), rest
