"""config.yaml: its model, its mistakes with file and line, its JSON Schema.

Knows files and values, nothing of what is built from them. Unknown keys are errors, several mistakes are reported at
once, and no value that could be a secret is repeated in a message. A secret is only ever a reference (an environment
variable or a file), read when it is needed and not before. `proxy.policy.load` reads its files with the same tools.
"""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from proxy.config_access import BesideFile, Name, People, Precheck, Requests, Reviews
from proxy.config_access import Section as _Model
from proxy.config_access import beside as _beside
from proxy.config_notify import Digest, Notify, check_address
from proxy.config_sinks import Sink, SinkName
from proxy.units import Duration, Size, format_duration, format_size, parse_duration, parse_size
from proxy.yaml_file import Finding, FindingsError, Lines, findings, line_of, nearest, parse_yaml, read_text, read_yaml

__all__ = [
    "Config",
    "ConfigError",
    "Credential",
    "Database",
    "Duration",
    "Finding",
    "Lines",
    "Size",
    "checkpoint_file",
    "findings",
    "format_duration",
    "format_size",
    "is_loopback",
    "load",
    "nearest",
    "parse_duration",
    "parse_size",
    "parse_yaml",
    "read_yaml",
    "schema",
    "server_certificate",
    "warnings",
]

ConfigError = FindingsError
"""config.yaml (or a secret it refers to) cannot be used; `findings` says why, all of it."""


def _state_url(value: str, info: ValidationInfo) -> str:
    scheme, separator, rest = value.partition("://")
    if separator and scheme == "sqlite":
        name = urllib.parse.unquote(rest.removeprefix("/"))
        if not rest.startswith("/") or not name or "?" in name:
            raise ValueError("write sqlite:///state.db (beside this file) or sqlite:////absolute/path/state.db")
        path = _beside(Path(name), info)
        return f"sqlite:///{path}"
    if separator and scheme in {"postgresql", "postgres"}:
        if not urllib.parse.urlsplit(value).path.strip("/"):
            raise ValueError("the database's name is missing: postgresql://user@host:5432/NAME")
        return value
    raise ValueError("expected sqlite:///FILE or postgresql://USER@HOST/NAME")


_RESULTS = r"^(none|counts|digest|full|sample:[1-9][0-9]{0,8})$"


def _results(value: str) -> str:
    if not re.match(_RESULTS, value):
        guess = nearest(value, ["none", "counts", "digest", "full", "sample:10"])
        raise ValueError(
            "expected none, counts, digest, sample:N or full" + (f" (did you mean {guess}?)" if guess else "")
        )
    return value


def _workers(value: Any) -> Any:
    return len(os.sched_getaffinity(0)) if value == "auto" else value


def _recipient(value: str) -> str:
    import pyrage  # noqa: PLC0415 - most configs name none

    try:
        if value.startswith("ssh-"):
            pyrage.ssh.Recipient.from_str(value)
        else:
            pyrage.x25519.Recipient.from_str(value)
    except pyrage.RecipientError:
        raise ValueError("expected a public key of age (age1…) or ssh (ssh-ed25519 …, ssh-rsa …)") from None
    return value


Port = Annotated[int, Field(ge=1, le=65535)]
OpenPort = Annotated[int, Field(ge=0, le=65535, description="0 takes a free one")]
Results = Annotated[
    str, AfterValidator(_results), WithJsonSchema({"type": "string", "pattern": _RESULTS, "examples": ["counts"]})
]


class Tls(_Model):
    """TLS towards clients."""

    mode: Literal["require", "allow", "disable"] = "require"
    cert: BesideFile | None = None
    key: BesideFile | None = None
    client_ca: BesideFile | None = None


class Listen(_Model):
    """Where clients connect."""

    host: Name = "127.0.0.1"
    port: OpenPort = 6432
    tls: Tls = Tls()


class Credential(_Model):
    """How daypass logs in upstream: `shared` lets every session use `user`; `ephemeral` makes a role for each grant."""

    mode: Literal["ephemeral", "shared"]
    user: Name
    password_env: Name | None = None
    password_file: BesideFile | None = None
    _where: tuple[str, int, str] = PrivateAttr(default=("config.yaml", 0, "credential"))

    def password(self) -> str:
        """The secret, read now. Empty means that none is sent. Raises ConfigError that names the reference."""
        file, line, key = self._where
        if self.password_env is not None:
            value = os.environ.get(self.password_env)
            if value is None:
                message = f"the environment variable {self.password_env} is not set (set it empty to send no password)"
                raise ConfigError([Finding(file, line, f"{key}.password_env", message)])
            return value
        if self.password_file is not None:
            try:
                return self.password_file.read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                message = f"{self.password_file} cannot be read: {why}"
                raise ConfigError([Finding(file, line, f"{key}.password_file", message)]) from None
        return ""


class Database(_Model):
    """One Postgres database behind daypass. `dbname` is the entry's own name unless it is given."""

    host: Name
    port: Port = 5432
    dbname: str = ""
    tls: Literal["verify-full", "verify-ca", "require", "disable"] = "verify-full"
    ca: BesideFile | None = None
    credential: Credential


class Recording(_Model):
    """Where sessions are recorded, and how much of them."""

    dir: BesideFile = Field(default=Path("recordings"), validate_default=True)
    durability: Literal["write", "fsync"] = "write"
    results: Results = "counts"
    literals: Literal["keep", "hash", "drop"] = "keep"
    min_free: Size = Field(default=64 << 20, ge=0)
    reserve: Size = Field(default=8 << 20, ge=0, le=1 << 30)
    compress: Literal["zstd", "none"] = "zstd"
    recipients: tuple[Annotated[str, AfterValidator(_recipient)], ...] = ()
    retention: Duration | None = Field(default=None, ge=3600)
    index: Literal["background", "search"] = "background"


class Metrics(_Model):
    """/metrics, /healthz and /readyz."""

    host: Name = "127.0.0.1"
    port: OpenPort = 9187


def _base_url(value: str) -> str:
    check_address("url", value)
    if not re.fullmatch(r"[!-~]+", value) or "?" in value or "#" in value:
        raise ValueError("url: printable ASCII, without spaces, ? and #: https://access.example.com")
    return value.rstrip("/")


class Links(_Model):
    """The page on which people accept agreements by a one-time link; `url` is how they reach it."""

    host: Name = "127.0.0.1"
    port: OpenPort = 8443
    url: Annotated[str, AfterValidator(_base_url)]


class Limits(_Model):
    """What one client may cost before anybody knows who it is, and how long a statement may be."""

    statement_bytes: Size = Field(default=1 << 20, ge=1024, le=1 << 28)
    connections: int = Field(default=1000, ge=1, le=100_000)


class Config(_Model):
    """The whole of config.yaml. Paths are resolved, durations are seconds, sizes bytes."""

    listen: Listen = Listen()
    state: Annotated[str, AfterValidator(_state_url)] = Field(default="sqlite:///state.db", validate_default=True)
    policies: BesideFile = Field(default=Path("policies"), validate_default=True)
    databases: dict[str, Database] = Field(min_length=1)
    recording: Recording = Recording()
    metrics: Metrics = Metrics()
    workers: Annotated[
        int,
        BeforeValidator(_workers),
        Field(ge=1, le=256),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 256}, {"const": "auto"}]}),
    ] = 1
    login_timeout: Duration = Field(default=10.0, gt=0, le=600)
    drain_timeout: Duration = Field(default=10.0, ge=0, le=86_400)
    limits: Limits = Limits()
    people: People = People()
    agreements: BesideFile = Field(default=Path("agreements"), validate_default=True)
    links: Links | None = None
    requests: Requests = Requests()
    prechecks: dict[str, Precheck] = Field(default={})
    reviews: Reviews = Reviews()
    notify: dict[str, Notify] = Field(default={})
    digests: dict[str, Digest] = Field(default={})
    sinks: dict[SinkName, Sink] = Field(default={})
    _file: Path = PrivateAttr(default=Path("config.yaml"))
    _lines: Lines = PrivateAttr(default_factory=dict)
    _text: str = PrivateAttr(default="")

    @property
    def file(self) -> Path:
        """The file that this was read from."""
        return self._file

    @property
    def text(self) -> str:
        """What the file said."""
        return self._text

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """An entry without `dbname` means the database of its own name; an absent section is one of defaults."""
        if not isinstance(data, dict):
            return data
        # An absent section goes through validation too: its relative paths start at the file's folder.
        filled = {"listen": {}, "recording": {}, "metrics": {}, "limits": {}, **data}
        if isinstance(data.get("databases"), dict):
            filled["databases"] = {
                name: {**entry, "dbname": entry.get("dbname") or name} if isinstance(entry, dict) else entry
                for name, entry in data["databases"].items()
            }
        return filled

    def finding(self, path: tuple[str | int, ...], message: str) -> Finding:
        """A finding about a key of this file, with its line."""
        return Finding(str(self._file), line_of(self._lines, path), ".".join(map(str, path)), message)

    def shown(self) -> dict[str, Any]:
        """The effective values, in the file's own notation and without a secret."""
        data = self.model_dump(mode="json", by_alias=True)
        data["state"] = _without_password(self.state)
        return data


def load(path: Path, text: str | None = None) -> Config:
    """Reads and checks config.yaml, or `text` as if it stood there. Raises ConfigError with every mistake."""
    if text is None and not path.is_file():
        raise ConfigError([Finding(str(path), 0, "", "there is no such file; `daypass init DIR` makes one")])
    text = read_text(path) if text is None else text
    data, lines = parse_yaml(text, path)
    base = path.absolute().parent
    try:
        config = Config.model_validate(data, context={"base": base})
    except ValidationError as error:
        raise ConfigError(findings(path, lines, error, Config)) from None
    config._file, config._lines, config._text = path, lines, text
    for name, database in config.databases.items():
        where = ("databases", name, "credential")
        database.credential._where = (str(path), line_of(lines, where), ".".join(where))
    found = list(_cross_checks(config))
    if found:
        raise ConfigError(sorted(found, key=lambda f: f.line))
    return config


def server_certificate(config: Config) -> tuple[Path, Path] | None:
    """The certificate and the key that daypass shows; None where it speaks no TLS."""
    tls = config.listen.tls
    return None if tls.mode == "disable" or tls.cert is None or tls.key is None else (tls.cert, tls.key)


def checkpoint_file(config: Config) -> Path | None:
    """Where the newest checkpoint of the node log is kept beside the state; None where only the state, in Postgres,
    keeps it."""
    if not config.state.startswith("sqlite:///"):
        return None
    state = Path(config.state.removeprefix("sqlite:///"))
    return state.with_name(f"{state.name}-checkpoint")


def schema() -> dict[str, Any]:
    """The JSON Schema of config.yaml, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def is_loopback(host: str) -> bool:
    """Does this host name lead to this machine only? (A name other than `localhost` is not looked up.)"""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")  # a Unix socket's folder


def _cross_checks(config: Config) -> Iterator[Finding]:
    """What no single key can know of itself."""
    tls = config.listen.tls
    if tls.mode != "require" and not is_loopback(config.listen.host):
        message = f"{tls.mode} is for loopback only; on {config.listen.host} tokens need TLS: write mode: require"
        yield config.finding(("listen", "tls", "mode"), message)
    for key, file in (("cert", tls.cert), ("key", tls.key), ("client_ca", tls.client_ca)):
        if tls.mode != "disable" and file is None and key != "client_ca":
            yield config.finding(("listen", "tls", key), f"is needed for mode {tls.mode}: a path to a PEM file")
        elif file is not None and tls.mode != "disable" and not file.is_file():
            yield config.finding(("listen", "tls", key), f"there is no file {file}")
    if tls.client_ca is not None and tls.mode != "require":
        message = f"asks every client for a certificate, which {tls.mode} lets them go without: write mode: require"
        yield config.finding(("listen", "tls", "client_ca"), message)
    if config.links is not None and not is_loopback(config.links.host) and server_certificate(config) is None:
        message = f"names and secrets on {config.links.host} need TLS: set listen.tls.cert and key, or host: 127.0.0.1"
        yield config.finding(("links", "host"), message)
    told = {to for digest in config.digests.values() for to in digest.to}
    for name, notify in config.notify.items():
        if not notify.events and name not in told:
            message = "it is told of nothing: name some events, or name it in a digest's `to`"
            yield config.finding(("notify", name, "events"), message)
    for name, digest in config.digests.items():
        for key, given, known in (("to", digest.to, config.notify), ("databases", digest.databases, config.databases)):
            for at, one in enumerate(given):
                if one not in known:
                    guess = nearest(one, known)
                    message = f"there is no {'notify' if key == 'to' else 'database'} {one}"
                    yield config.finding(
                        ("digests", name, key, at), message + (f" (did you mean {guess}?)" if guess else "")
                    )
    for name, database in config.databases.items():
        if not re.fullmatch(r"[^\s\"'\\/?#%&:@\x00-\x1f]{1,63}", name):
            message = "a database's name has 1 to 63 characters without spaces, quotes, slashes or any of ? # % & : @"
            yield config.finding(("databases", name), message)
        if database.ca is not None and not database.ca.is_file():
            yield config.finding(("databases", name, "ca"), f"there is no file {database.ca}")
        if database.credential.password_env is not None and database.credential.password_file is not None:
            where = ("databases", name, "credential", "password_file")
            yield config.finding(where, "give password_env or password_file, not both")


def warnings(config: Config) -> list[Finding]:
    """What works and deserves a second thought."""
    found = []
    for name, database in config.databases.items():
        if not is_loopback(database.host) and database.tls in {"disable", "require"}:
            what = "passwords and rows cross the network in the clear" if database.tls == "disable" else _REQUIRE
            found.append(config.finding(("databases", name, "tls"), f"{database.tls}: {what}; verify-full is safe"))
    for name, sink in config.sinks.items():
        if sink.syslog is not None and sink.syslog.tls == "disable" and not is_loopback(sink.syslog.host):
            message = "the whole record crosses the network in the clear; write tls: require"
            found.append(config.finding(("sinks", name, "syslog", "tls"), message))
        if sink.nats is not None and sink.nats.tls == "disable" and not sink.nats.here:
            message = "the whole record crosses the network in the clear; write tls: require"
            found.append(config.finding(("sinks", name, "nats", "tls"), message))
    if _without_password(config.state) != config.state:
        message = "a password stands in the file; leave it out and set PGPASSWORD or PGPASSFILE"
        found.append(config.finding(("state",), message))
    return found


_REQUIRE = "the upstream's certificate is not checked, so anybody in between can pose as it"


def _without_password(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    query = re.sub(r"(?i)(^|&)password=[^&]*", r"\1password=***", parts.query)
    netloc = re.sub(r":[^:@]*@", ":***@", parts.netloc)
    if netloc == parts.netloc and query == parts.query:
        return url
    return urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))
