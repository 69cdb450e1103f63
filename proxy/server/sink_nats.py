"""A sink that is a stream of NATS JetStream, such as the one to a fleet's recorder.

Each recording has a subject of its own, and a message leaves when the one before it was acknowledged, so a stream holds
each recording in order whatever is refused or lost. Invariants: taken means that the stream has said so for each;
what it has already is not sent again, however late; nothing is said before the server has shown its certificate.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import re
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.config_sinks import Nats
from recorder.sinks.courier import NotTaken
from recorder.sinks.feed import Item

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

MSG_ID: Final = "Nats-Msg-Id"
TOLD: Final = 300
CLOSING: Final = 0.5
"""Seconds for a polite end."""
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-+END ")


class NatsSink:
    """Publishes to `to.stream`. `secret` and `trust` are asked for each batch, so that new ones count without a
    restart; without `trust` there is no TLS."""

    def __init__(
        self,
        to: Nats,
        installation: str,
        *,
        secret: Callable[[], str | None],
        trust: Callable[[], ssl.SSLContext] | None,
        timeout: float,
    ) -> None:
        self._to = to
        self._installation = installation
        self._secret = secret
        self._trust = trust
        self._timeout = timeout
        # The library upgrades its connection in a way that asyncio remarks on, at the end of each.
        logging.getLogger("asyncio").addFilter(_no_remark)
        self._sure: frozenset[str] = frozenset()
        """The recordings of which we know what the stream has. Of others it may have more than we know: of the process
        before us, or since an acknowledgement was lost."""

    def take(self, items: Sequence[Item]) -> None:
        """A `courier.Take`."""
        import nats.errors  # noqa: PLC0415  (only where there is such a sink)
        import nats.js.errors  # noqa: PLC0415

        sure, self._sure = self._sure, frozenset()
        secret: str | None = None
        try:
            secret = self._secret()
            asyncio.run(self._deliver(items, secret, sure))
        except nats.js.errors.NoStreamResponseError:
            subject = f"{self._to.subject}.>"
            hint = f"nats stream add {self._to.stream} --subjects '{subject}'"
            raise NotTaken(f"no stream takes {subject}: make one ({hint}), and turn JetStream on") from None
        except nats.errors.MaxPayloadError:
            raise NotTaken("an event is larger than the server takes: raise its max_payload") from None
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as problem:
            raise NotTaken(_safe(self._why(problem), secret)) from None
        ended = {item.recording for item in items if item.event == "session.end"}
        self._sure = (sure | {item.recording for item in items}) - ended

    async def _deliver(self, items: Sequence[Item], secret: str | None, sure: frozenset[str]) -> None:
        client = await self._connect(secret)
        try:
            stream = client.jetstream(timeout=self._timeout)
            groups: dict[str, list[Item]] = {}
            for item in items:
                groups.setdefault(item.recording, []).append(item)
            ends = await asyncio.gather(
                *(self._publish(stream, name, group, doubtful=name not in sure) for name, group in groups.items()),
                return_exceptions=True,
            )
            for end in ends:
                if isinstance(end, BaseException):
                    raise end
        finally:
            await _end(client)

    async def _publish(self, stream: JetStreamContext, recording: str, items: list[Item], *, doubtful: bool) -> None:
        subject = f"{self._to.subject}.{self._installation}.{recording}"
        ids = [self.id(item) for item in items]
        known = await self._last(stream, subject) if doubtful else None
        begin = ids.index(known) + 1 if known in ids else 0
        for item, id_ in zip(items[begin:], ids[begin:], strict=True):
            await stream.publish(
                subject, item.framed(self._installation), stream=self._to.stream, headers={MSG_ID: id_}
            )

    async def _last(self, stream: JetStreamContext, subject: str) -> str | None:
        """The id of the last message under `subject`: as the stream forgets ids after a while, it alone does not keep
        out what comes again after a long absence."""
        import nats.js.errors  # noqa: PLC0415

        try:
            found = await stream.get_last_msg(self._to.stream, subject)
        except nats.js.errors.NotFoundError as problem:
            if problem.err_code == _NO_STREAM:
                raise nats.js.errors.NoStreamResponseError from None
            return None
        return (found.headers or {}).get(MSG_ID)

    def id(self, item: Item) -> str:
        """Of a message. It holds the line's digest: two hosts of one installation each have an event 7 of theirs."""
        return f"{self._installation}:{item.id}:{hashlib.sha256(item.line).hexdigest()[:16]}"

    async def _connect(self, secret: str | None) -> Client:
        from nats.aio.client import Client  # noqa: PLC0415
        from nats.errors import Error, SecureConnWantedError  # noqa: PLC0415

        safe = self._trust is not None

        class Careful(Client):
            def _connect_command(self) -> bytes:
                # The server alone says whether there is TLS, before anything proves who it is.
                if safe and not self._server_info.get("tls_required"):
                    raise SecureConnWantedError
                return super()._connect_command()

        to, said = self._to, list[Exception]()

        async def heard(problem: Exception) -> None:
            said.append(problem)

        who: dict[str, Any] = {}
        if to.credentials is not None:
            jwt, key = credentials(to.credentials)
            who = {
                "user_jwt_cb": jwt.encode,
                "signature_cb": lambda nonce: base64.b64encode(key.sign(nonce.encode())),
            }
        elif secret is not None:
            who = {"user": to.user, "password": secret} if to.user is not None else {"token": secret}
        client = Careful()
        try:
            async with asyncio.timeout(self._timeout * 2):
                await client.connect(
                    [f"{'tls' if safe else 'nats'}://{server}" for server in to.servers],
                    error_cb=heard,
                    name="daypass",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=max(1, round(self._timeout)),
                    tls=self._trust() if self._trust is not None else None,
                    **who,
                )
            if not client.is_connected:  # closed before it answered: the library takes that for a beginning
                raise ConnectionResetError("the server closed the connection: it may not know this client")
        except (Error, OSError, TimeoutError) as problem:
            await _end(client)
            told = [one for one in said if isinstance(one, Error)] or said or [problem]
            raise told[-1] from None
        return client

    def _why(self, problem: Exception) -> str:
        import nats.errors  # noqa: PLC0415
        import nats.js.errors  # noqa: PLC0415

        where = ", ".join(self._to.servers)
        if isinstance(problem, nats.js.errors.APIError):
            return f"{where}: stream {self._to.stream}: {problem.code} {problem.description}"
        if isinstance(problem, nats.errors.SecureConnWantedError):
            return f"{where}: the server offers no TLS, and nothing is sent without"
        if isinstance(problem, TimeoutError):
            return f"{where}: no answer within {self._timeout:g} s; may this user publish here, and read the stream?"
        why = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        return f"{where}: {why or type(problem).__name__}"

    def close(self) -> None:
        """Nothing is kept open."""


def _no_remark(record: logging.LogRecord) -> bool:
    return "eof_received() has no effect" not in record.msg


async def _end(client: Client) -> None:
    """Never raises, and never waits for a server: everything was acknowledged, or is sent again."""
    import nats.errors  # noqa: PLC0415

    line = client._transport
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(CLOSING):
            await client.close()  # it never returns where TLS did not come about
    for name in ("_io_writer", "_bare_io_writer"):
        if (writer := getattr(line, name, None)) is not None:
            writer.transport.abort()
    await asyncio.sleep(0)


_NO_STREAM: Final = 10059


def credentials(file: Path) -> tuple[str, Ed25519PrivateKey]:
    """The JWT and the key of a `.creds` file, as `nsc` makes it. ValueError says what is wrong with it."""
    try:
        blocks = dict(_BLOCK.findall(file.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "not UTF-8 text"
        raise ValueError(f"{file} cannot be read: {why}") from None
    jwt, seed = blocks.get("NATS USER JWT"), blocks.get("USER NKEY SEED")
    try:
        raw = base64.b32decode((seed or "") + "=" * (-len(seed or "") % 8))
        # two bytes of kind, the seed, two bytes of checksum
        return jwt or "", Ed25519PrivateKey.from_private_bytes(raw[2:-2])
    except ValueError:
        raise ValueError(f"{file} holds no credentials of NATS: a user's JWT and NKEY seed") from None


def _safe(text: str, secret: str | None) -> str:
    if secret:
        text = text.replace(secret, "***")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:TOLD]
