"""The facts of a grant, and the one decision about it: may this login, with a right token, come in?

Pure values and functions of the time that is passed in; no store, no clock. The invariant: a grant has exactly one
state at one moment, and `admission` refuses in every state but `active`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

State = Literal["waiting", "active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A time-boxed permission for one person on one database under one policy revision."""

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

    def state(self, now: datetime) -> State:
        """Where the grant stands at `now` (wall clock, aware)."""
        if self.revoked_at is not None:
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        return "waiting" if now < self.starts_at else "active"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a login with a right token is refused: a short fixed word, what the client is told, and what to do."""

    reason: Literal["revoked", "expired", "waiting", "database", "address"]
    text: str
    hint: str


def admission(grant: Grant, *, now: datetime, database: str, address: str) -> Refusal | None:
    """May this login open a session? None means yes.

    Only to be asked after a right proof: the answer tells what the grant is. `database` is the name that the client
    asked for, `address` the client's IP address (empty for a Unix socket).
    """
    state = grant.state(now)
    if state == "revoked":
        why = f" Reason: {grant.revoke_reason}." if grant.revoke_reason else ""
        text = f"grant {grant.id} was revoked at {clock_time(grant.revoked_at or now)}.{why}"
        return Refusal("revoked", text, "Ask the person who gave you access.")
    if state == "expired":
        text = f"grant {grant.id} expired at {clock_time(grant.expires_at)}"
        return Refusal("expired", text, "Ask for a new grant.")
    if state == "waiting":
        text = f"grant {grant.id} starts at {clock_time(grant.starts_at)}; it is {clock_time(now)} now"
        return Refusal("waiting", text, "Log in again after that time; the token stays the same.")
    if database != grant.database:
        text = f"grant {grant.id} is for the database {grant.database}, not for {_quoted(database)}"
        return Refusal("database", text, f"Connect with dbname={grant.database}.")
    if grant.bind_ip is not None and not _inside(address, grant.bind_ip):
        text = f"grant {grant.id} may not be used from {_quoted(address) if address else 'a local socket'}"
        return Refusal(
            "address", text, f"It is bound to {grant.bind_ip}; connect from there, or ask for another grant."
        )
    return None


def clock_time(moment: datetime) -> str:
    """A time for people: `2026-01-05 09:00:00 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


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
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip) in ipaddress.ip_network(network)


def _quoted(text: str) -> str:
    """What a client said, fit to be shown: printable and short."""
    return '"' + "".join(c if c.isprintable() else "?" for c in text[:63]) + '"'
