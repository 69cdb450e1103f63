"""The part of config.yaml that says where the record is streamed to: files, syslog, webhooks, OpenTelemetry, NATS,
objects.

Only shapes, and which of them are safe; `server` streams. Invariant: no secret stands in the file itself, and none
crosses a network in the clear.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from proxy.config_access import BesideFile, Name, Section
from proxy.config_notify import Secret, check_address, on_this_machine
from proxy.units import Duration


def _name(value: str) -> str:
    """It names a file in the recordings folder."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", value):
        raise ValueError("a sink's name has 1 to 63 of a-z, 0-9, - and _, and begins with a letter or digit")
    return value


SinkName = Annotated[str, AfterValidator(_name)]


class Syslog(Section):
    """A receiver of RFC 5424 messages."""

    host: Name
    port: int = Field(default=6514, ge=1, le=65535)
    tls: Literal["require", "disable"] = "require"
    cert: BesideFile | None = None
    key: BesideFile | None = None

    @model_validator(mode="after")
    def _fits(self) -> Syslog:
        if (self.cert is None) != (self.key is None):
            raise ValueError("syslog.cert and syslog.key: both or neither")
        return self


class Nats(Section):
    """A stream of NATS JetStream. The secret of the sink is the password of `user`, or else a token."""

    servers: list[Annotated[str, Field(pattern=r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$")]] = Field(
        min_length=1
    )
    stream: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    subject: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")] = "daypass"
    tls: Literal["require", "disable"] = "require"
    cert: BesideFile | None = None
    key: BesideFile | None = None
    user: Name | None = None
    credentials: BesideFile | None = None

    @model_validator(mode="after")
    def _fits(self) -> Nats:
        if (self.cert is None) != (self.key is None):
            raise ValueError("nats.cert and nats.key: both or neither")
        return self

    @property
    def here(self) -> bool:
        """Whether all servers are on this machine."""
        return all(on_this_machine(re.sub(r":[0-9]+$", "", one).strip("[]")) for one in self.servers)


class ObjectLock(Section):
    """How long S3 lets nobody delete or replace an object: with `governance` who has a right of its own may."""

    mode: Literal["governance", "compliance"]
    days: int = Field(ge=1, le=36_500)


_KINDS = ("file", "syslog", "webhook", "otlp", "nats", "objects")


class Sink(Secret):
    """One place that the record is streamed to: a file, a syslog receiver, a webhook, an OTLP collector, a stream of
    NATS, objects."""

    file: BesideFile | None = None
    syslog: Syslog | None = None
    webhook: Name | None = None
    otlp: Name | None = None
    nats: Nats | None = None
    objects: Annotated[str, Field(pattern=r"^(s3|gs|az|file)://[^?#@]+$")] | None = None
    object_lock: ObjectLock | None = None
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "Authorization"
    ca: BesideFile | None = None
    timeout: Duration = Field(default=10.0, gt=0, le=300)
    history: bool = False

    @model_validator(mode="after")
    def _one(self) -> Sink:
        if sum(getattr(self, key) is not None for key in _KINDS) != 1:
            raise ValueError("one of file, syslog, webhook, otlp, nats and objects")
        for what, address in (("webhook", self.webhook), ("otlp", self.otlp)):
            if address is not None:
                check_address(what, address)
        if self.webhook is None and self.otlp is None and self.nats is None and self.has_secret:
            raise ValueError("secret_env and secret_file are for webhook, otlp and nats")
        if self.object_lock is not None and not (self.objects or "").startswith("s3://"):
            raise ValueError("object_lock is for objects at s3://")
        if self.nats is not None:
            self._who(self.nats)
        return self

    def _who(self, nats: Nats) -> None:
        if nats.user is not None and not self.has_secret:
            raise ValueError("nats.user needs its password: secret_env or secret_file")
        if nats.credentials is not None and self.has_secret:
            raise ValueError("nats.credentials or a secret, not both")
        if nats.tls == "disable" and self.has_secret and not nats.here:
            raise ValueError("nats.tls: disable would send the secret in the clear; write require")

    @property
    def kind(self) -> str:
        """The key that says what it is."""
        return next(key for key in _KINDS if getattr(self, key) is not None)
