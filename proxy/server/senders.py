"""Carries one notice to one sink: a webhook over HTTPS, a mailbox over SMTP, a command's standard input.

Knows nothing of steps, tries and stores. Invariants: a delivery takes no longer than the sink's time-out, whatever the
other side does; certificates are checked, redirects not followed; no secret stands in an argument, an error or a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from proxy.config_notify import Notify, Smtp
from proxy.server.notice import Notice, as_json, as_mail, as_slack, signature
from proxy.tasks import spawn

MOST: Final = 300
"""Bytes of an answer or an error text that are kept."""
TRY_AGAIN: Final = frozenset({408, 425, 429})
PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""What a command sees of this process's environment, where passwords of databases may stand."""


class NotDelivered(Exception):
    """It has not arrived. `lasting`: the sink answered and does not want this one; others may fare better."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


async def deliver(sink: Notify, told: Notice, now: Callable[[], datetime]) -> str:
    """Carries `told` to `sink`; what was answered, in a few words. Raises NotDelivered."""
    try:
        secret = sink.secret()
    except ValueError as problem:
        raise NotDelivered(str(problem)) from None
    try:
        async with asyncio.timeout(sink.timeout):
            if sink.webhook is not None:
                return await _post(sink, sink.webhook, told, secret, now())
            if sink.smtp is not None:
                return await _mail(sink, sink.smtp, told, secret)
            return await _run(sink.command, told)
    except TimeoutError:
        raise NotDelivered(f"no answer within {sink.timeout:g} s") from None
    except NotDelivered as problem:
        text = str(problem) if secret is None else str(problem).replace(secret, "***")
        raise NotDelivered(text[:MOST], lasting=problem.lasting) from None


def target(sink: Notify) -> str:
    """Where a sink leads to, for people; of an address only the host, as its path may be a secret."""
    if sink.webhook is not None:
        parts = urlsplit(sink.webhook)
        return f"{parts.scheme}://{parts.netloc}/…"
    if sink.smtp is not None:
        return f"{', '.join(sink.smtp.to)} by {sink.smtp.host}:{sink.smtp.port}"
    return sink.command[0]


def _trust(sink: Notify) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(sink.ca) if sink.ca is not None else None)
    except (OSError, ssl.SSLError) as problem:
        raise NotDelivered(f"ca: {sink.ca} cannot be used: {problem}") from None


async def _post(sink: Notify, address: str, told: Notice, secret: str | None, now: datetime) -> str:
    import httpx  # noqa: PLC0415  (slow to import, and only where there is a webhook)

    body = as_slack(told) if sink.form == "slack" else as_json(told)
    headers = {"Content-Type": "application/json", "User-Agent": "daypass", "Idempotency-Key": told.id}
    if "{secret}" in address:
        address = address.replace("{secret}", secret or "")
    elif secret is not None:
        headers["Daypass-Signature"] = signature(secret, body, now)
    try:
        async with (
            httpx.AsyncClient(verify=_trust(sink), follow_redirects=False, timeout=sink.timeout) as client,
            client.stream("POST", address, content=body, headers=headers) as answer,
        ):
            code = answer.status_code
            if code < 300:
                return f"{code} {answer.reason_phrase}".strip()
            said = b""
            async for chunk in answer.aiter_raw():
                said += chunk
                if len(said) >= MOST:
                    break
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as problem:
        raise NotDelivered(f"{type(problem).__name__}: {_one_line(str(problem))}".rstrip(": ")) from None
    if code < 400:
        raise NotDelivered(f"{code}: it points to another address, which is not followed", lasting=True)
    text = f"{code} {answer.reason_phrase}: {_one_line(said[:MOST].decode('utf-8', 'replace'))}".rstrip(": ")
    raise NotDelivered(text, lasting=code < 500 and code not in TRY_AGAIN)


async def _mail(sink: Notify, box: Smtp, told: Notice, secret: str | None) -> str:
    import aiosmtplib  # noqa: PLC0415

    client = aiosmtplib.SMTP(
        hostname=box.host,
        port=box.port,
        use_tls=box.tls == "tls",
        start_tls=box.tls == "starttls",
        tls_context=None if box.tls == "disable" else _trust(sink),
        username=box.user,
        password=secret if box.user is not None else None,
        timeout=sink.timeout,
    )
    try:
        async with client:
            refused, said = await client.send_message(as_mail(told, box.sender, box.to))
    except aiosmtplib.SMTPRecipientsRefused as problem:
        text = "; ".join(f"{each.recipient}: {each.code} {each.message}" for each in problem.recipients)
        raise NotDelivered(_one_line(text), lasting=True) from None
    except aiosmtplib.SMTPResponseException as problem:
        # A login that is refused fares no better with the next mail.
        lasting = problem.code >= 500 and not isinstance(problem, aiosmtplib.SMTPAuthenticationError)
        raise NotDelivered(f"{problem.code} {_one_line(problem.message)}", lasting=lasting) from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as problem:
        raise NotDelivered(f"{type(problem).__name__}: {_one_line(str(problem))}") from None
    if refused:
        raise NotDelivered(f"refused for {', '.join(refused)}", lasting=True)
    return _one_line(said)


async def _run(command: list[str], told: Notice) -> str:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"DAYPASS_ACTION": told.action, "DAYPASS_ID": told.id}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise NotDelivered(f"{command[0]} cannot be run: {why}") from None
    said = bytearray()
    reading = spawn(_keep_some(process.stderr, said), name="notify command")
    try:
        await _write(process.stdin, as_json(told) + b"\n")
        code = await process.wait()
        with contextlib.suppress(TimeoutError):  # something that it left behind may hold its standard error open
            await asyncio.wait_for(reading, 0.2)
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    finally:
        reading.cancel()
    if code != 0:
        ended = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
        raise NotDelivered(f"{ended}: {_one_line(said.decode('utf-8', 'replace'))}".rstrip(": "), lasting=code > 0)
    return "exit code 0"


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    """All of it, and the end; a command that does not read it may still say 0."""
    if stream is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stream.write(data)
            await stream.drain()
        stream.close()


async def _keep_some(stream: asyncio.StreamReader | None, said: bytearray) -> None:
    """Reads all, so that the writer never waits, and keeps the beginning."""
    while stream is not None and (chunk := await stream.read(4096)):
        said += chunk[: MOST - len(said)]


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:MOST]
