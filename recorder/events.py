"""What can happen, as frozen values: one struct per kind of line in a recording.

Field names are the JSON keys, and `event` is the tag. Keys that `docs/reference/record.md` promises are always
written; the others are left out where they hold their default. Knows nothing about files, chains or time: `seq`, `at`
and `prev` belong to the line (`chain`).

Invariant: a key keeps its meaning for ever; a new fact gets a new key.
"""

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    """Base of all events; never written itself."""


class SessionStart(Event, frozen=True, kw_only=True, omit_defaults=True, tag="session.start"):
    """The first line of a session's recording: who, by which grant, from where, to what. `signing`: the agreements that
    are to be accepted in it; such a session has no upstream."""

    session: str
    grant: str
    person: str
    vendor: str
    user: str
    database: str
    policy: str
    policy_revision: str
    client_address: str
    application_name: str = ""
    tls: str | None = None
    cipher: str | None = None
    client_certificate: str | None = None
    upstream_pid: int | None = None
    startup: dict[str, str] = {}
    driver: str = ""
    results: str = "counts"
    literals: str = "keep"
    signing: list[str] = []


class Statement(Event, frozen=True, kw_only=True, omit_defaults=True, tag="statement"):
    """One statement as the client sent it, with its verdict; written before anything goes upstream."""

    n: int
    sql: str
    params: list[Any] | None
    verdict: str
    rule: str | None
    rewritten: str | None
    reason: str = ""
    kind: str = ""
    protocol: str = "simple"
    name: str | None = None
    portal: str | None = None
    tx: str = "I"
    tables: list[str] = []
    functions: list[str] = []
    columns: tuple[str, ...] = ()


class Outcome(Event, frozen=True, kw_only=True, omit_defaults=True, tag="outcome"):
    """How statement `n` ended. `bytes` are those of its rows on the wire, `ms` its time; `sqlstate` None means
    success. `sent` is false where nothing of the statement went upstream, `counted` where rows are not recorded.
    `error` to `position` are the server's error as the client was told it."""

    n: int
    rows: int
    bytes: int
    ms: float
    sqlstate: str | None
    tag: str | None = None
    sent: bool = True
    counted: bool = True
    first_ms: float | None = None
    plan_cost: float | None = None
    digest: str | None = None
    error: str = ""
    detail: str = ""
    hint: str = ""
    position: int | None = None


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A column of a result: its name, and its type's name and oid where they are known."""

    name: str
    type: str = ""
    oid: int = 0
    format: str = "text"


class Rows(Event, frozen=True, kw_only=True, omit_defaults=True, tag="rows"):
    """Rows that the client was shown of statement `n`, as it was shown them: the next ones of its result, of which
    `first` is the number of the first. One of `values`, `copy` and `piece`."""

    n: int
    first: int = 1
    columns: tuple[Column, ...] | None = None
    values: list[list[Any]] | None = None
    copy: list[Any] | None = None
    piece: str | None = None
    more: bool = False


class HoldEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="hold"):
    """A statement waits for another person's yes (`state` waiting, with what was asked), or no longer does: approved,
    denied, timeout, cancelled or unavailable. Written before anything of it goes upstream."""

    hold: str
    state: str
    sql: str | None = None
    params: list[Any] | None = None
    rule: str | None = None
    reason: str = ""
    by: str = ""


class Notice(Event, frozen=True, kw_only=True, omit_defaults=True, tag="notice"):
    """What the client was told beside the answers to statements, by daypass itself or by the server."""

    severity: str
    sqlstate: str
    text: str
    detail: str = ""
    hint: str = ""
    source: str = "daypass"
    rule: str | None = None


class Notification(Event, frozen=True, kw_only=True, omit_defaults=True, tag="notification"):
    """What the client heard on a channel that it listens to; `pid` is the backend that told it."""

    channel: str
    pid: int
    bytes: int
    payload: str | None = None


class Cancel(Event, frozen=True, kw_only=True, omit_defaults=True, tag="cancel"):
    """The client asked to cancel the running statement, and the request was passed on."""


class SessionEnd(Event, frozen=True, kw_only=True, omit_defaults=True, tag="session.end"):
    """The last line of a session's recording: why it ended, and its sums."""

    reason: str
    detail: str | None
    statements: int
    refused: int = 0
    rows: int = 0
    bytes: int = 0


class Login(Event, frozen=True, kw_only=True, omit_defaults=True, tag="login"):
    """A login that opened no session (or any login, if the caller wants): the true reason, which the client may not
    have been told."""

    user: str
    client_address: str
    outcome: str
    reason: str
    grant: str | None = None
    database: str | None = None


class GrantEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="grant"):
    """A step in a grant's life. Never holds a token. Times in `detail` are RFC 3339 UTC."""

    action: str
    grant: str
    by: str
    detail: dict[str, Any] = {}


class AccessEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="access"):
    """A step of access that is not a grant's own: of a request, an agreement, a person, a precheck, a review, …
    `action` begins with what it is about; `where` is from where it was taken. Times in `detail` are RFC 3339 UTC."""

    action: str
    by: str
    where: str = ""
    detail: dict[str, Any] = {}


class Recovered(Event, frozen=True, kw_only=True, omit_defaults=True, tag="recovered"):
    """A writer died here. What stood after the last whole line (`bytes` of it, from byte `offset`) was cut aside into
    `file`."""

    detail: str
    offset: int
    bytes: int = 0
    sha256: str | None = None
    file: str | None = None


AnyEvent = (
    SessionStart | Statement | Outcome | Rows | HoldEvent | Notice | Notification | Cancel | SessionEnd | Login
    | GrantEvent | AccessEvent | Recovered
)  # fmt: skip

_encoder = msgspec.json.Encoder(enc_hook=repr)


def encode(event: Event) -> bytes:
    """The event as one JSON object without newline. Never fails on hostile content: what JSON cannot hold is written
    as text."""
    try:
        return _encoder.encode(event)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        fields = {name: _plain(getattr(event, name)) for name in event.__struct_fields__}
        return _encoder.encode({"event": type(event).__struct_config__.tag, **fields})


def encode_values(values: list[Any]) -> bytes:
    """A list as JSON, whatever is in it, as `encode` writes it."""
    try:
        return _encoder.encode(values)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return _encoder.encode(_plain(values))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    return _plain(repr(value))
