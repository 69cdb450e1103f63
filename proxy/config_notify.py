"""The part of config.yaml that says who is told of steps, and gets digests: webhooks, mailboxes, commands.

Only shapes, and which of them are safe; `server` tells. Invariant: no secret stands in the file itself, and none
crosses a network in the clear.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from proxy.config_access import BesideFile, Name, Section
from proxy.units import Duration


class Smtp(Section):
    """A mail for each step."""

    host: Name
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "disable"] = "starttls"
    user: Name | None = None
    sender: Annotated[str, Field(alias="from", min_length=3)]
    to: list[Name] = Field(min_length=1)


class Secret(Section):
    """A secret by reference."""

    secret_env: Name | None = None
    secret_file: BesideFile | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> Secret:
        if self.secret_env is not None and self.secret_file is not None:
            raise ValueError("secret_env or secret_file, not both")
        return self

    @property
    def has_secret(self) -> bool:
        """Whether one is named."""
        return self.secret_env is not None or self.secret_file is not None

    def secret(self) -> str | None:
        """The secret, read now; None where there is none. Raises ValueError that names the reference."""
        if self.secret_env is not None:
            value = os.environ.get(self.secret_env)
            if not value:
                raise ValueError(f"the environment variable {self.secret_env} is not set")
            return value
        if self.secret_file is not None:
            try:
                text = self.secret_file.read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise ValueError(f"{self.secret_file} cannot be read: {why}") from None
            if not text:
                raise ValueError(f"{self.secret_file} is empty")
            return text
        return None


class Notify(Secret):
    """One place that is told of steps: a webhook, a mailbox or a command. `events` are globs of step names."""

    webhook: Name | None = None
    form: Literal["json", "slack"] = "json"
    smtp: Smtp | None = None
    command: list[Name] = Field(default=[])
    events: list[Name] = Field(default=["*"])
    ca: BesideFile | None = None
    timeout: Duration = Field(default=10.0, gt=0, le=300)

    @model_validator(mode="after")
    def _fits(self) -> Notify:
        if sum((self.webhook is not None, self.smtp is not None, bool(self.command))) != 1:
            raise ValueError("one of webhook, smtp and command")
        if self.webhook is not None:
            check_address("webhook", self.webhook)
            if "{secret}" in self.webhook and not self.has_secret:
                raise ValueError("webhook: {secret} needs a secret_env or secret_file")
        if self.command and self.has_secret:
            raise ValueError("a command is given no secret; it reads what it needs itself")
        mail = self.smtp
        if mail is not None and mail.user is not None:
            if not self.has_secret:
                raise ValueError("smtp.user needs its password: secret_env or secret_file")
            if mail.tls == "disable" and not on_this_machine(mail.host):
                raise ValueError("smtp.tls: disable would send the password in the clear; write starttls or tls")
        return self


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("a time zone of the IANA list, such as Europe/Berlin") from None
    return value


class Digest(Section):
    """What was done in each day or week, for some of `notify`: of all databases, of some, or of one vendor alone."""

    every: Literal["day", "week"]
    day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] | None = None
    at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "08:00"
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    vendor: Name | None = None
    databases: list[Name] = Field(default=[])
    to: list[Name] = Field(min_length=1)
    empty: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Digest:
        if self.every == "day" and self.day is not None:
            raise ValueError("day is for every: week")
        return self


def check_address(what: str, address: str) -> None:
    """Raises ValueError where it is no address that may be sent to; `what` is the key."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
        parts.port  # noqa: B018 - raises on a port that is none
    except ValueError:
        host = None
    if not host or parts.scheme not in {"https", "http"} or (parts.scheme == "http" and not on_this_machine(host)):
        raise ValueError(f"{what}: an https:// address (http:// only on this machine)")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{what}: no password in the address; a signature is made with secret_env or secret_file")


def on_this_machine(host: str) -> bool:
    """Whether what is sent there crosses no network."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
