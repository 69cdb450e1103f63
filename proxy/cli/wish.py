"""What somebody asks for, read from a command line and checked against config and policy.

Used by `request create` and `grant create`. It opens no state; what cannot be meant ends the command with exit code 2
and says what could be.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from proxy.access.model import Terms
from proxy.cli.output import USAGE, fail, warn
from proxy.cli.state import unknown
from proxy.config import Config, format_duration, parse_duration
from proxy.policy.load import Policies
from proxy.policy.model import Policy
from proxy.session import terms as session_terms


def policy_of(cfg: Config, name: str, database: str) -> Policy:
    """The policy, if it exists and is for this database."""
    if database not in cfg.databases:
        unknown("database", database, list(cfg.databases), str(cfg.file))
    policy = _named(cfg, name)
    if policy.mode == "observe":
        if cfg.databases[database].credential.mode == "ephemeral":
            hint = "give it mode: enforce and tables, or the database a shared credential"
            fail(USAGE, f"the policy {name} only observes: it names nothing that a role could be given", hint)
        warn(f"the policy {name} is in mode: observe: everything is recorded and nothing refused")
    if database not in policy.databases:
        there = ", ".join(policy.databases)
        fail(USAGE, f"the policy {name} is not for the database {database}", f"{policy.file} names: {there}")
    return policy


def only_database(cfg: Config, name: str) -> str:
    """The database of a policy that is for one; where it is for several, one must be given."""
    there = _named(cfg, name).databases
    if len(there) > 1:
        fail(USAGE, f"--database is missing: the policy {name} is for several", f"one of {', '.join(there)}")
    return there[0]


def _named(cfg: Config, name: str) -> Policy:
    policies = Policies(cfg.policies)
    broken = policies.load()
    try:
        return policies.get(name)
    except KeyError:
        for finding in broken:  # the file that is meant may be one of these
            warn(str(finding))
        unknown("policy", name, list(policies.names()), str(cfg.policies))


def length_of(text: str, policy: Policy, *, most: float | None = None, flag: str = "--for") -> float:
    """Seconds; at most what the policy allows, or `most`."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        fail(USAGE, f"{flag}: {error}")
    if seconds <= 0:
        fail(USAGE, f"{flag}: a grant must last longer than no time at all")
    bound = min((x for x in (policy.window.max, most) if x is not None), default=None)
    if bound is not None and seconds > bound:
        longest = format_duration(bound)
        whose = f"the policy {policy.name} allows" if bound == policy.window.max else "requests.break_glass.max allows"
        fail(USAGE, f"{flag}: {text} is longer than {whose}", f"at most {flag} {longest}")
    return seconds


def time_of(text: str | None, now: datetime, flag: str = "--from") -> datetime | None:
    """A moment: RFC 3339 with a timezone, or `+30m` from now."""
    if text is None:
        return None
    try:
        if text.startswith("+"):
            return now + timedelta(seconds=parse_duration(text[1:]))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        hint = f"add Z for UTC or an offset: {moment.isoformat()}Z"
    except (ValueError, OverflowError):
        hint = "write for example 2026-01-05T09:00:00Z, 2026-01-05T09:00+01:00 or +30m"
        fail(USAGE, f"{flag}: {text!r} is not a time", hint)
    fail(USAGE, f"{flag}: {text!r} has no timezone", hint)


def terms_of(policy: Policy, *, max_sessions: int | None = None, single_use: bool = False) -> Terms:
    """What the policy asks for beside its tables and limits, as it is now."""
    return dataclasses.replace(session_terms.terms_of(policy), max_sessions=max_sessions, single_use=single_use)
