"""How a grant is shown: its facts for people, its keys for programs, the line to log in with.

Only reads what it is given. The invariant: a token stands in a DSN for scripts or on a line of its own for people,
never in the login line that people pass on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from proxy.access.findings import Kept
from proxy.access.model import Grant, Terms
from proxy.access.removals import Proof
from proxy.cli.output import fields, note, rfc3339, styled
from proxy.config import Config, format_duration
from proxy.policy.load import Policies
from proxy.session.terms import terms_of

COLOURS = {"active": "green", "waiting": "yellow", "paused": "yellow", "expired": "bright_black", "revoked": "red"}


def address(cfg: Config) -> tuple[str, int]:
    """Where a vendor connects, as far as this machine knows."""
    host = cfg.listen.host
    return (socket.gethostname() if host in {"0.0.0.0", "::"} else host), cfg.listen.port  # noqa: S104


def dsn_of(cfg: Config, host: str, port: int, grant: Grant, token: str | None = None) -> str:
    """The connection URI; with the token only for scripts."""
    secret = f":{token}" if token else ""
    shown = f"[{host}]" if ":" in host else host
    tls = "sslmode=disable" if cfg.listen.tls.mode == "disable" else "sslmode=require&channel_binding=require"
    return f"postgresql://{grant.id}{secret}@{shown}:{port}/{quote(grant.database, safe='')}?{tls}"


def show_login(console: Console, dsn: str, token: str) -> None:
    """The login line, and the token apart from it."""
    console.print()
    console.print(styled("Log in", "bold"), f"  psql '{dsn}'", sep="")
    console.print(styled("Token ", "bold"), Text(f"  {token}", style="bold yellow"), sep="")
    note("\nThe token is shown this once; psql asks for it. Send it by another way than the login line.")


def files_of(cfg: Config) -> Callable[[Grant], Terms | None]:
    """What the policy files say now of each grant; what is broken or gone says nothing."""
    policies = Policies(cfg.policies)
    policies.load()
    known = {name: terms_of(policies.get(name)) for name in policies.names()}
    return lambda grant: known.get(grant.policy)


def facts(grant: Grant, now: datetime, file: Terms | None = None) -> Callable[[Console], None]:
    """What there is to know of a grant, for people."""
    ends = grant.ends(file)
    lasts = format_duration(round((ends - grant.starts_at).total_seconds()))
    week = [f"{rule.days or 'every day'} {rule.hours or 'all day'} {rule.timezone}" for rule in grant.rules(file)
            if not rule.always]  # fmt: skip
    return fields(
        [
            ("state", state_of(grant, now, file)),
            ("person", f"{grant.person} ({grant.vendor})"),
            ("database", grant.database),
            ("policy", f"{grant.policy}, revision {grant.policy_revision[:12]}"),
            ("reason", grant.reason),
            ("time", f"{rfc3339(grant.starts_at)} to {rfc3339(ends)} ({lasts}), {left(grant, now, file)}"),
            ("hours", " and ".join(dict.fromkeys(week)) or None),
            ("only from", " and ".join(", ".join(bound) for bound in grant.networks(file)) or None),
            ("sessions", f"at most {grant.terms.max_sessions}" if grant.terms.max_sessions else None),
            ("token", "for one session" if grant.terms.single_use else None),
            ("created", f"{rfc3339(grant.created_at)} by {grant.created_by}"),
            ("revoked", f"{rfc3339(grant.revoked_at)}: {grant.revoke_reason}" if grant.revoked_at else None),
            ("ended", f"{rfc3339(grant.ended_at)}: {grant.ended_why}" if grant.ended_at else None),
            ("removed", rfc3339(grant.removed_at)),
            ("review", f"due {rfc3339(grant.review_due)}" if grant.review_due and not grant.reviewed_at else None),
        ]
    )


def proof_fields(proofs: list[Proof]) -> list[tuple[str, str | Text | None]]:
    """What proves that the access is gone, or what is still there, for people."""
    return [
        (
            f"removal: {proof.proof}",
            Text.assemble(
                (f"{'proven' if proof.ok else 'NOT PROVEN'} ", "green" if proof.ok else "bold red"),
                f"{rfc3339(proof.at)}: {proof.why}" + (f" (try {proof.tries})" if proof.tries > 1 else ""),
            ),
        )
        for proof in proofs
    ]


def plain_proofs(proofs: list[Proof]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {"proof": one.proof, "ok": one.ok, "at": rfc3339(one.at), "tries": one.tries, "why": one.why} for one in proofs
    ]


def state_of(grant: Grant, now: datetime, file: Terms | None = None) -> Text:
    """The state, in its colour."""
    state = grant.state(now, file)
    return styled(state, COLOURS[state])


def left(grant: Grant, now: datetime, file: Terms | None = None) -> str:
    """`3h 59m left`, `starts in 2d`, `opens in 14h`, `ended 5m ago`: the two largest units."""
    state, ends = grant.state(now, file), grant.ends(file)
    if state == "waiting":
        return f"starts in {_rough(grant.starts_at - now)}" if now < grant.starts_at else "waits for its prechecks"
    if state == "paused":
        opens = grant.turns(now, file)
        return (
            f"opens in {_rough(opens - now)}" if opens is not None else f"closed until its end in {_rough(ends - now)}"
        )
    if state == "active":
        return f"{_rough(ends - now)} left"
    return f"ended {_rough(now - min(grant.revoked_at or ends, ends))} ago"


def _rough(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    unit = 3600 if seconds >= 86_400 else 60 if seconds >= 3600 else 1
    return format_duration(seconds - seconds % unit)


def plain(grant: Grant, now: datetime, file: Terms | None = None) -> dict[str, Any]:
    """What there is to know of a grant, for programs."""
    return {
        "grant": grant.id,
        "user": grant.id,
        "state": grant.state(now, file),
        "person": grant.person,
        "vendor": grant.vendor,
        "database": grant.database,
        "policy": grant.policy,
        "policy_revision": grant.policy_revision,
        "reason": grant.reason,
        "bind_ip": grant.bind_ip,
        "created_at": rfc3339(grant.created_at),
        "created_by": grant.created_by,
        "starts_at": rfc3339(grant.starts_at),
        "expires_at": rfc3339(grant.ends(file)),
        "opens_at": rfc3339(grant.turns(now, file)) if grant.state(now, file) == "paused" else None,
        "revoked_at": rfc3339(grant.revoked_at),
        "revoke_reason": grant.revoke_reason,
        "max_sessions": grant.terms.max_sessions,
        "single_use": grant.terms.single_use,
        "stage": grant.stage,
        "ended_at": rfc3339(grant.ended_at),
        "ended_why": grant.ended_why,
        "removed_at": rfc3339(grant.removed_at),
        "review_due": rfc3339(grant.review_due),
        "reviewed_at": rfc3339(grant.reviewed_at),
    }


def show_prechecks(console: Console, grant: Grant, kept: list[Kept]) -> None:
    """What was found of the prechecks that a grant asks for."""
    if not grant.terms.prechecks:
        return
    console.print(styled("\nPrechecks:", "bold"))
    for row in plain_prechecks(grant, kept):
        mark, style = ("ok  ", "green") if row["ok"] else ("FAIL", "bold red") if row["at"] else ("?   ", "yellow")
        console.print(Text.assemble((f"  {mark}", style), f"  {row['name']}: {row['why']}"))
        if row["overridden_by"]:
            console.print(f"        overridden by {row['overridden_by']}: {row['override_reason']}")


def plain_prechecks(grant: Grant, kept: list[Kept]) -> list[dict[str, Any]]:
    """The same for programs."""
    known = {row.name: row for row in kept}
    found = []
    for name in grant.terms.prechecks:
        row = known.get(name)
        found.append(
            {
                "name": name,
                "ok": row.ok if row else None,
                "at": rfc3339(row.at) if row else None,
                "why": row.why if row else "not looked at yet: it is when the grant is to start",
                "evidence": row.evidence if row else {},
                "overridden_by": row.overridden_by if row else None,
                "override_reason": row.override_reason if row else None,
            }
        )
    return found
