"""The facts of access as values: grants, requests, their terms, the table of legal steps, and the decision at the door.

Pure values and functions of the time that is passed in; no store, no clock. The invariant: a grant has exactly one
state at one moment, and `admission` refuses in every state but `active`.
"""

from __future__ import annotations

import ipaddress
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from proxy.access import hours
from proxy.access.hours import Weekly

State = Literal["waiting", "active", "paused", "expired", "revoked"]
Stage = Literal[
    "requested", "approved", "denied", "withdrawn", "lapsed",
    "waiting", "active", "paused", "ended", "removed", "reviewed",
]  # fmt: skip

STEPS: Final[dict[Stage, frozenset[Stage]]] = {
    "requested": frozenset({"approved", "denied", "withdrawn", "lapsed"}),
    "approved": frozenset({"waiting"}),
    "denied": frozenset(),
    "withdrawn": frozenset(),
    "lapsed": frozenset(),
    "waiting": frozenset({"active", "ended"}),
    "active": frozenset({"paused", "ended"}),
    "paused": frozenset({"active", "ended"}),
    "ended": frozenset({"removed"}),
    "removed": frozenset({"reviewed"}),
    "reviewed": frozenset(),
}
"""Every legal step: of a request to `approved`, and from there of its grant."""


class IllegalStep(Exception):
    """A step that the table does not have."""


def check_step(before: Stage, after: Stage) -> None:
    """Raises IllegalStep where `before` does not lead to `after`."""
    if after not in STEPS[before]:
        raise IllegalStep(f"{before} does not lead to {after}")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a grant was given under, beside its policy's tables and limits; fixed when it is asked for.

    `approvals`: how many other people have to say yes; `approvers`: the groups that they are of (none: anybody).
    `days`, `hours`, `timezone`: as in a policy's window. `max_seconds`: the longest that the policy lets a grant last.
    """

    approvals: int = 0
    approvers: tuple[str, ...] = ()
    agreements: tuple[str, ...] = ()
    prechecks: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    days: str | None = None
    hours: str | None = None
    timezone: str = "UTC"
    max_seconds: float | None = None
    max_sessions: int | None = None
    single_use: bool = False

    @property
    def weekly(self) -> Weekly:
        """When in the week it may be used."""
        return Weekly(self.days, self.hours, self.timezone)

    def encode(self) -> str:
        """As JSON, without what is at its default."""
        plain = Terms()
        return json.dumps({key: value for key, value in asdict(self).items() if value != getattr(plain, key)})

    @classmethod
    def decode(cls, text: str) -> Terms:
        """What `encode` wrote, by this version or another one."""
        data = json.loads(text)
        known: dict[str, Any] = {}
        for key in cls.__slots__:
            if key in data:
                known[key] = tuple(data[key]) if isinstance(data[key], list) else data[key]
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for access. `seconds` is how long; `starts_at` None means from the last approval on."""

    id: str
    person: str
    vendor: str
    database: str
    policy: str
    policy_revision: str
    policy_text: str
    terms: Terms
    purpose: str
    ticket: str | None
    expected_use: str | None
    rollback_note: str | None
    template: str | None
    starts_at: datetime | None
    seconds: int
    bind_ip: str | None
    break_glass: bool
    created_at: datetime
    created_by: str
    lapses_at: datetime
    state: Literal["requested", "approved", "denied", "withdrawn", "lapsed"]
    decided_at: datetime | None = None
    decided_by: str | None = None
    decided_why: str | None = None
    version: int = 0

    def standing(self, now: datetime) -> str:
        """Its state at `now`: one that nobody answered has lapsed, whether that is written down yet or not."""
        return "lapsed" if self.state == "requested" and now >= self.lapses_at else self.state


@dataclass(frozen=True, slots=True)
class Grant:
    """A time-boxed permission for one person on one database under one policy revision.

    `stage` is the last state that is on the record; `state` is what counts at the door. `ended_why`: expired, revoked,
    policy, person or agreement.
    """

    id: str
    person: str
    vendor: str
    database: str
    policy: str
    policy_revision: str
    policy_text: str
    reason: str
    bind_ip: str | None
    created_at: datetime
    created_by: str
    starts_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoke_reason: str | None
    request: str | None = None
    terms: Terms = field(default=Terms())
    stage: Stage = "active"
    version: int = 0
    checked_at: datetime | None = None
    ended_at: datetime | None = None
    ended_why: str | None = None
    removed_at: datetime | None = None
    review_due: datetime | None = None
    reviewed_at: datetime | None = None
    revoked_by: str | None = None

    def state(self, now: datetime, file: Terms | None = None) -> State:
        """Where the grant stands at `now` (wall clock, aware).

        `file`: the terms of its policy's file as it is now. What the grant pins and what the file says must both allow.
        """
        if self.revoked_at is not None:
            return "revoked"
        if now >= self.ends(file):
            return "expired"
        if now < self.starts_at or self.unchecked:
            return "waiting"
        return "active" if hours.inside(self.rules(file), now) else "paused"

    def ends(self, file: Terms | None = None) -> datetime:
        """When it expires; sooner than it says where the file's longest is shorter by now."""
        if file is None or file.max_seconds is None:
            return self.expires_at
        try:
            return min(self.expires_at, self.starts_at + timedelta(seconds=file.max_seconds))
        except OverflowError:
            return self.expires_at

    def rules(self, file: Terms | None = None) -> tuple[Weekly, ...]:
        """The hours that must all allow its use."""
        return (self.terms.weekly,) if file is None else (self.terms.weekly, file.weekly)

    def networks(self, file: Terms | None = None) -> list[tuple[str, ...]]:
        """An address must be in one network of each of these."""
        found = [(self.bind_ip,) if self.bind_ip is not None else (), self.terms.network, file.network if file else ()]
        return [networks for networks in dict.fromkeys(found) if networks]

    def turns(self, now: datetime, file: Terms | None = None) -> datetime | None:
        """When its hours open or close next; None where they do not before it ends."""
        moment = hours.next_change(self.rules(file), now)
        return moment if moment is not None and moment < self.ends(file) else None

    def seats(self, limit: int | None) -> int | None:
        """How many sessions it may have at once, where its policy allows `limit`; None means any number."""
        both = [most for most in (limit, self.terms.max_sessions) if most is not None]
        return min(both, default=None)

    @property
    def unchecked(self) -> bool:
        """Whether it waits for its prechecks."""
        return bool(self.terms.prechecks) and self.checked_at is None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a login with a right token is refused: a short fixed word, what the client is told, and what to do."""

    reason: Literal["revoked", "expired", "waiting", "paused", "database", "address"]
    text: str
    hint: str


def admission(
    grant: Grant, *, now: datetime, database: str, address: str, file: Terms | None = None, failing: str = ""
) -> Refusal | None:
    """May this login open a session? None means yes.

    Only to be asked after a right proof: the answer tells what the grant is. `database` is the name that the client
    asked for, `address` the client's IP address (empty for a Unix socket). `file`: see `Grant.state`. `failing`: which
    of its prechecks do not hold, and why.
    """
    state = grant.state(now, file)
    if state == "revoked":
        why = f" Reason: {grant.revoke_reason}." if grant.revoke_reason else ""
        text = f"grant {grant.id} was revoked at {clock_time(grant.revoked_at or now)}.{why}"
        return Refusal("revoked", text, "Ask the person who gave you access.")
    if state == "expired":
        text = f"grant {grant.id} expired at {clock_time(grant.ends(file))}"
        return Refusal("expired", text, "Ask for a new grant.")
    if state == "waiting" and now >= grant.starts_at:
        text = f"grant {grant.id} waits for a check by the owner: {failing or ', '.join(grant.terms.prechecks)}"
        return Refusal("waiting", text, "Log in again later; the token stays the same.")
    if state == "waiting":
        text = f"grant {grant.id} starts at {clock_time(grant.starts_at)}; it is {clock_time(now)} now"
        return Refusal("waiting", text, "Log in again after that time; the token stays the same.")
    if database != grant.database:
        text = f"grant {grant.id} is for the database {grant.database}, not for {_quoted(database)}"
        return Refusal("database", text, f"Connect with dbname={grant.database}.")
    for networks in grant.networks(file):
        if not any(_inside(address, network) for network in networks):
            text = f"grant {grant.id} may not be used from {_quoted(address) if address else 'a local socket'}"
            bound = ", ".join(networks)
            return Refusal("address", text, f"It is bound to {bound}; connect from there, or ask for another grant.")
    if state == "paused":
        return Refusal("paused", f"grant {grant.id} {pause(grant, now, file)}", PAUSED)
    return None


PAUSED: Final = "Log in again in its hours; the token stays the same."


def pause(grant: Grant, now: datetime, file: Terms | None = None) -> str:
    """Why a grant that is paused at `now` is, and when it goes on: `pauses outside of its hours: it opens at …`."""
    opens = grant.turns(now, file)
    if opens is None:
        return (
            f"pauses outside of its hours, and they do not come again before it ends at {clock_time(grant.ends(file))}"
        )
    return f"pauses outside of its hours; it opens at {local_time(opens, grant.rules(file))}"


def local_time(moment: datetime, rules: Iterable[Weekly]) -> str:
    """A time for people, as the clocks of the rules' zones show it: `Mon 2026-01-12 09:00 Europe/Berlin (… UTC)`."""
    there = [f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M} {zone.key}" for zone in hours.zones(rules)]
    utc = clock_time(moment)
    return f"{', '.join(there)} ({utc})" if there and there != [f"{moment:%a %Y-%m-%d %H:%M} UTC"] else utc


def clock_time(moment: datetime) -> str:
    """A time for people: `2026-01-05 09:00:00 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def rfc3339(moment: datetime) -> str:
    """A time for records: `2026-01-05T09:00:00.000000Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def person_key(name: str) -> str:
    """What two spellings of one person's name have in common: `Jo@Vendor.example ` and `jo@vendor.example`."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def normal_network(text: str) -> str:
    """`203.0.113.7` → `203.0.113.7/32`; a network as it is. Raises ValueError that says what is meant."""
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address or network; write for example 203.0.113.7 or 203.0.113.0/24"
        ) from None
    address = text.split("/", maxsplit=1)[0]
    raise ValueError(f"{text!r} has bits set beyond its prefix; did you mean {meant} or {address}?")


def _inside(address: str, network: str) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # On a dual-stack socket an IPv4 client has a mapped address; a network may be written in that form too.
    other = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else ipaddress.IPv6Address(f"::ffff:{ip}")
    return any(each in ipaddress.ip_network(network) for each in (ip, other) if each is not None)


def _quoted(text: str) -> str:
    """What a client said, fit to be shown: printable and short."""
    return '"' + "".join(c if c.isprintable() else "?" for c in text[:63]) + '"'
