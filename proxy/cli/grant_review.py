"""`daypass grant review`: what was done under a grant that is over, and a sign-off by somebody who did not do it.

The sums come from the recordings (`recorder.summary`), the rest from the state; who may sign is `access.reviews`'
business. Invariant: what is signed is what is shown, and is kept with the signature.
"""

from __future__ import annotations

import fnmatch
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from proxy.access.model import Grant
from proxy.access.removals import Proof
from proxy.access.reviews import Review
from proxy.cli.grant_view import proof_fields, state_of
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import UNREACHABLE, USAGE, emit, fail, fields, grid, rfc3339, styled
from proxy.cli.state import Access, with_access
from proxy.clock import SystemClock
from proxy.config import Config, format_duration
from proxy.policy.load import PolicyError, parse
from recorder import oddities
from recorder.summary import Summary, summarise

MOST = 12
"""Names in one line for people; JSON has them all."""


class Verdict(StrEnum):
    """What a reviewer may say."""

    FINE = "fine"
    CONCERN = "concern"


def review(
    config: ConfigOption,
    output: OutputOption,
    grant: Annotated[str | None, typer.Argument(metavar="GRANT", help="The grant's id.")] = None,
    due: Annotated[bool, typer.Option("--due", help="List the grants whose review is overdue.")] = False,
    sign: Annotated[bool, typer.Option("--sign", help="Sign it off, with --verdict and --note.")] = False,
    verdict: Annotated[Verdict | None, typer.Option("--verdict", help="fine or concern.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="What the reviewer has to say.")] = None,
    by: ByOption = None,
) -> None:
    """What was done under a grant, in sums; sign it off after its end. Nobody reviews his own.

    Example: daypass grant review g-7k3m9x2q --sign --verdict fine --note 'as agreed in OPS-42'
    """
    cfg = load_config(config)
    if due:
        if grant is not None or sign:
            fail(USAGE, "--due lists all that are overdue", "name a grant without it")
        _overdue(cfg, output)
        return
    if grant is None:
        fail(USAGE, "which grant?", "daypass grant review GRANT, or daypass grant review --due")
    if sign and (verdict is None or note is None):
        fail(USAGE, "--sign needs --verdict and --note", "--verdict fine --note 'as agreed'")
    if not sign and (verdict is not None or note is not None):
        fail(USAGE, "--verdict and --note belong to --sign", "add --sign")

    async def look(access: Access) -> tuple[Grant, list[Proof], Review | None, tuple[int, int], list[dict[str, Any]]]:
        found = await access.grants.get(grant)
        spent = await access.grants.spent(grant)
        alerts = await access.alerts.of(grant)
        return found, await access.removals.of(grant), await access.reviews.of(grant), spent, alerts

    found, proofs, before, spent, alerts = with_access(cfg, look)
    try:
        sums = summarise(cfg.recording.dir, grant=found.id)
    except OSError as error:
        fail(UNREACHABLE, f"the recordings cannot be read: {error.filename}: {error.strerror}")
    # daypass's own tries to log in after the end are no one's guesses.
    own = sum(proof.tries for proof in proofs if proof.proof == "token")
    sums.logins_refused = max(0, sums.logins_refused - own)
    sums.unusual = [odd for odd in sums.unusual if odd.kind != "logins"]
    sums.unusual += oddities.of_all({}, {}, sums.logins_refused)
    told = what_was_done(found, sums, spent, alerts)
    signed = before
    if sign and verdict is not None and note is not None:
        said, text = verdict.value, note
        signed = with_access(
            cfg,
            lambda access: access.reviews.sign(
                found.id, by=who(by), verdict="fine" if said == "fine" else "concern", note=text, summary=told
            ),
        )
    data = {
        "grant": found.id,
        "person": found.person,
        "vendor": found.vendor,
        "database": found.database,
        "policy": found.policy,
        "reason": found.reason,
        "stage": "reviewed" if signed else found.stage,
        "ended_at": rfc3339(found.ended_at),
        "ended_why": found.ended_why,
        "removed_at": rfc3339(found.removed_at),
        "review_due": rfc3339(found.review_due),
        **told,
        "review": None if signed is None else plain_review(signed),
    }
    emit(data, output, lambda console: _show(console, found, proofs, sums, told, signed))


def plain_review(review: Review) -> dict[str, Any]:
    """A sign-off, for programs."""
    return {"by": review.by, "at": rfc3339(review.at), "verdict": review.verdict, "note": review.note}


def what_was_done(grant: Grant, sums: Summary, spent: tuple[int, int], alerts: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary that is signed: sums, what of the budget was used, what was allowed and never used, alerts."""
    try:
        model = parse(grant.policy_text, "the granted policy").model
    except PolicyError:  # written by another version
        tables, functions, limits = [], [], {}
    else:
        tables, functions = list(model.tables), list(model.functions.allow)
        limits = {"rows": model.limits.rows_per_grant, "bytes": model.limits.bytes_per_grant}
    budget = {name: {"used": used, "of": limits.get(name)} for name, used in zip(("rows", "bytes"), spent, strict=True)}
    unused = {
        "tables": [name for name in tables if not fnmatch.filter(sums.tables, name)],
        "functions": [name for name in functions if not fnmatch.filter(sums.functions, name)],
    }
    return {"summary": msgspec.to_builtins(sums), "budget": budget, "unused": unused, "alerts": alerts}


def _overdue(cfg: Config, output: OutputOption) -> None:
    now = SystemClock().now()
    found = with_access(cfg, lambda access: access.reviews.overdue())
    rows: list[list[str | Text]] = [
        [
            g.id,
            g.person,
            g.vendor,
            g.database,
            rfc3339(g.ended_at) or "",
            styled(f"{format_duration(_whole_hours((now - (g.review_due or now)).total_seconds()))} overdue", "red"),
            "" if g.stage == "removed" else "its removal is not proven yet",
        ]
        for g in found
    ]
    heads = ["GRANT", "PERSON", "VENDOR", "DATABASE", "ENDED", "DUE", ""]
    data = [
        {
            "grant": g.id,
            "person": g.person,
            "vendor": g.vendor,
            "database": g.database,
            "ended_at": rfc3339(g.ended_at),
            "review_due": rfc3339(g.review_due),
            "stage": g.stage,
        }
        for g in found
    ]
    emit(data, output, grid(heads, rows, empty="No review is overdue."))


def _whole_hours(seconds: float) -> int:
    return int(seconds - seconds % 3600 if seconds >= 3600 else max(0, seconds // 1))


def _show(
    console: Console, grant: Grant, proofs: list[Proof], sums: Summary, told: dict[str, Any], signed: Review | None
) -> None:
    console.print(styled(f"Grant {grant.id}", "bold"))
    ended = f"{rfc3339(grant.ended_at)}: {grant.ended_why}" if grant.ended_at else None
    period = f"{rfc3339(sums.first)} to {rfc3339(sums.last)}" if sums.first else None
    used = {name: f"{part['used']}" + (f" of {part['of']}" if part["of"] else "")
            for name, part in told["budget"].items()}  # fmt: skip
    tables = {name: f"{use.statements}×, {use.rows} rows" for name, use in sums.tables.items()}
    pairs: list[tuple[str, str | Text | None]] = [
        ("state", state_of(grant, SystemClock().now())),
        ("person", f"{grant.person} ({grant.vendor})"),
        ("access", f"{grant.database} under {grant.policy}: {grant.reason}"),
        ("ended", ended),
        *proof_fields(proofs),
        ("sessions", f"{sums.sessions}" + (f", {sums.open} open" if sums.open else "")),
        ("used", period),
        ("from", _names(sums.addresses)),
        ("programs", _names(sums.applications)),
        ("statements", f"{sums.statements}, {sums.masked} masked, {sums.failed} failed"),
        ("refused", f"{sums.refused}" + (f": {_names(sums.refusals)}" if sums.refusals else "")),
        ("logins refused", str(sums.logins_refused) if sums.logins_refused else None),
        ("rows", f"{sums.rows}; of the budget {used['rows']} rows, {used['bytes']} bytes"),
        ("tables", _names(tables) or "none"),
        ("columns", _names(sums.columns)),
        ("never used", ", ".join([*told["unused"]["tables"], *told["unused"]["functions"]]) or "nothing"),
        *[("unusual", styled(f"{odd.text}{f' ({odd.session})' if odd.session else ''}", "yellow"))
          for odd in sums.unusual],
        *[("alert", styled(f"{one['alert']} at {one['at']}", "yellow")) for one in told["alerts"]],
    ]  # fmt: skip
    fields(pairs)(console)
    console.print()
    if signed is not None:
        colour = "bold green" if signed.verdict == "fine" else "bold red"
        console.print(
            styled(f"Reviewed by {signed.by} at {rfc3339(signed.at)}: {signed.verdict}. {signed.note}", colour)
        )
    elif grant.stage == "removed":
        console.print(f"Not reviewed yet; due {rfc3339(grant.review_due)}.")
        console.print(f"Sign it: daypass grant review {grant.id} --sign --verdict fine|concern --note '…'")
    else:
        console.print("A review is signed when the grant is over and its removal is proven.")


def _names(counts: dict[str, Any]) -> str | None:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:MOST]]
    more = len(counts) - MOST
    return ", ".join([*shown, *([f"and {more} more"] if more > 0 else [])]) or None
