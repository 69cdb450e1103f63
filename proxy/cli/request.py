"""`daypass request`: ask for access, and let others decide about it.

A request needs no running server; each step is recorded before it counts. The invariant: a request pins the policy as
it stood when it was made, so what was approved is what is granted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.access import approvals
from proxy.access.approvals import Voice
from proxy.access.model import Grant, Request, Terms
from proxy.access.requests import Requests, Wish
from proxy.access.reviews import Review
from proxy.cli.grant_review import plain_review
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import USAGE, emit, fail, fields, grid, rfc3339, styled, warn
from proxy.cli.state import Access, unknown, with_access
from proxy.cli.wish import length_of, only_database, policy_of, terms_of, time_of
from proxy.clock import SystemClock
from proxy.config import Config, format_duration
from proxy.config_access import Template
from proxy.policy.load import Policies

app = typer.Typer(no_args_is_help=True, help="Ask for access; approve, deny and withdraw requests.")

RequestArgument = Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id, for example r-7k3m9x2q.")]
LastReview = tuple[Grant, Review] | None
COLOURS = {"requested": "yellow", "approved": "green", "denied": "red", "withdrawn": "bright_black"}


@app.command()
def create(
    config: ConfigOption,
    output: OutputOption,
    person: Annotated[str, typer.Option("--person", help="Who is to get in: an address that names one human.")],
    template: Annotated[
        str | None, typer.Option("--template", help="A template of config.yaml; options here go before it.")
    ] = None,
    vendor: Annotated[str | None, typer.Option("--vendor", help="The company the person works for.")] = None,
    database: Annotated[str | None, typer.Option("--database", help="A database of config.yaml.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="What may be read: a policy's name.")] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", help="Why; approvers read it.")] = None,
    ticket: Annotated[str | None, typer.Option("--ticket", help="The ticket that it belongs to.")] = None,
    expected_use: Annotated[
        str | None, typer.Option("--expected-use", help="What will be done: reports, a support case, an audit.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From when: 2026-01-05T09:00:00Z, or +30m.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until when; or give --for.")] = None,
    length: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="For how long: 30m, 4h, 7d.")] = None,
    rollback_note: Annotated[
        str | None, typer.Option("--rollback-note", help="What the owner does if something goes wrong.")
    ] = None,
    bind_ip: Annotated[str | None, typer.Option("--bind-ip", metavar="CIDR", help="Only from there.")] = None,
    max_sessions: Annotated[int | None, typer.Option("--max-sessions", min=1, help="At most so many at once.")] = None,
    single_use: Annotated[bool, typer.Option("--single-use", help="The token opens one session, and no more.")] = False,
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="An emergency: one person opens it, for a short time.")
    ] = False,
    by: ByOption = None,
) -> None:
    """Ask for access for one person. Approvers see it in `daypass request list`.

    Example: daypass request create --template acme-support --person jo@vendor.example --ticket OPS-42
    """
    cfg = load_config(config)
    now = SystemClock().now()
    chosen = _template(cfg, template)
    name = _given("policy", policy, chosen.policy)
    where = database or chosen.database or only_database(cfg, name)
    pinned = policy_of(cfg, name, where)
    starts_at = time_of(start, now)
    glass = cfg.requests.break_glass
    if break_glass and glass is None:
        fail(USAGE, "--break-glass: config.yaml has no requests.break_glass", "name the groups that may open it there")
    most = glass.max if break_glass and glass is not None else None
    if end is not None:
        if length is not None:
            fail(USAGE, "--for and --to say the same twice", "give one of them")
        until = time_of(end, now, "--to") or now
        if until <= max(starts_at or now, now):
            fail(USAGE, f"--to: {end} is over, or before --from", "give a later time")
        seconds = length_of(f"{int((until - (starts_at or now)).total_seconds())}s", pinned, most=most, flag="--to")
    else:
        text = length or (None if chosen.length is None else format_duration(chosen.length))
        seconds = length_of(_given("for", text, None), pinned, most=most)
    terms = terms_of(
        pinned, max_sessions=max_sessions or chosen.max_sessions, single_use=single_use or chosen.single_use
    )
    if break_glass and glass is not None:
        terms = _in_an_emergency(terms, glass.from_)
    wish = Wish(
        person=person,
        vendor=_given("vendor", vendor, chosen.vendor),
        database=where,
        policy=pinned.name,
        policy_revision=pinned.revision,
        policy_text=pinned.text,
        terms=terms,
        purpose=_given("purpose", purpose, chosen.purpose),
        length=timedelta(seconds=seconds),
        starts_at=starts_at,
        ticket=ticket,
        expected_use=expected_use or chosen.expected_use,
        rollback_note=rollback_note or chosen.rollback_note,
        template=template,
        bind_ip=bind_ip or chosen.bind_ip,
        break_glass=break_glass,
    )
    lapse = timedelta(seconds=cfg.requests.lapse)

    async def ask(access: Access) -> tuple[Request, LastReview]:
        made = await access.requests.create(wish, by=who(by), lapse=lapse)
        return made, await access.reviews.last_of_vendor(made.vendor)

    made, last = with_access(cfg, ask)
    if break_glass:
        warn("break-glass: this is recorded as an emergency, told to everybody who is notified, and must be reviewed")

    def table(console: Console) -> None:
        console.print(styled(f"Request {made.id}", "bold yellow"))
        fields([*_facts(made, [], now), _last(last)])(console)
        console.print(f"\nThey approve with: daypass request approve {made.id} --reason '…'", soft_wrap=True)

    emit(_plain(made, [], None, now) | {"last_review": _plain_last(last)}, output, table)


@app.command("list")
def list_(
    config: ConfigOption,
    output: OutputOption,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 200,
) -> None:
    """Show the requests that wait for a decision, the newest first.

    Example: daypass request list --all -o json
    """
    cfg = load_config(config)
    now = SystemClock().now()

    async def look(access: Access) -> tuple[list[Request], int]:
        pending = not everything
        return await access.requests.all(pending=pending, limit=limit), await access.requests.count(pending=pending)

    found, there = with_access(cfg, look)
    rows: list[list[str | Text]] = [
        [
            r.id,
            _state(r, now),
            r.person,
            r.vendor,
            r.database,
            r.policy,
            format_duration(r.seconds),
            r.purpose,
        ]
        for r in found
    ]
    heads = ["REQUEST", "STATE", "PERSON", "VENDOR", "DATABASE", "POLICY", "FOR", "PURPOSE"]
    empty = "No requests." if everything else "No request waits for a decision. `--all` shows the others."
    emit([_plain(r, None, None, now) for r in found], output, grid(heads, rows, empty=empty))
    if there > len(found):
        warn(f"the newest {len(found)} are shown of {there}; --limit shows more")


@app.command()
def show(config: ConfigOption, output: OutputOption, request: RequestArgument) -> None:
    """Show one request: who, what, why, for how long, and who has approved.

    Example: daypass request show r-7k3m9x2q
    """
    cfg = load_config(config)
    now = SystemClock().now()

    async def look(access: Access) -> tuple[Request, list[Voice], Grant | None, LastReview]:
        found = await access.requests.get(request)
        last = await access.reviews.last_of_vendor(found.vendor)
        return found, await access.requests.voices(request), await access.grants.of_request(request), last

    found, voices, grant, last = with_access(cfg, look)

    def table(console: Console) -> None:
        console.print(styled(f"Request {found.id}", "bold"))
        fields([*_facts(found, voices, now), ("grant", grant.id if grant else None), _last(last)])(console)
        console.print(styled("\nThe policy as it was asked for:", "bold"))
        for line in found.policy_text.rstrip().splitlines():
            console.print(f"  {line}")

    more = {"policy_text": found.policy_text, "last_review": _plain_last(last)}
    emit(_plain(found, voices, grant, now) | more, output, table)
    if found.standing(now) == "requested":
        _warn_of_changes(cfg, found)


@app.command()
def approve(
    config: ConfigOption,
    output: OutputOption,
    request: RequestArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Say yes to a request. With the last approval that is needed there is a grant.

    Example: daypass request approve r-7k3m9x2q --reason 'agreed with Acme on Monday'
    """
    cfg = load_config(config)
    now = SystemClock().now()

    async def decide(access: Access) -> tuple[Request, list[Voice], Grant | None]:
        found, grant = await access.requests.approve(request, by=who(by), reason=reason)
        return found, await access.requests.voices(request), grant

    found, voices, grant = with_access(cfg, decide)

    def table(console: Console) -> None:
        if grant is None:
            more = approvals.missing(found, voices)
            console.print(f"Request {found.id} has your approval; {more} more by others must follow.")
            return
        console.print(styled(f"Request {found.id} is approved: grant {grant.id} for {found.person}.", "bold green"))
        console.print(f"The token: daypass grant token {grant.id}")

    emit(_plain(found, voices, grant, now), output, table)
    _warn_of_changes(cfg, found)


@app.command()
def deny(
    config: ConfigOption,
    output: OutputOption,
    request: RequestArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; who asked is told, and it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Say no to a request. One no ends it.

    Example: daypass request deny r-7k3m9x2q --reason 'not before the release'
    """
    _close(config, output, lambda requests: requests.deny(request, by=who(by), reason=reason))


@app.command()
def withdraw(
    config: ConfigOption,
    output: OutputOption,
    request: RequestArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Take a request back that is no longer needed.

    Example: daypass request withdraw r-7k3m9x2q --reason 'solved without'
    """
    _close(config, output, lambda requests: requests.withdraw(request, by=who(by), reason=reason))


def _close(config: Any, output: Any, how: Callable[[Requests], Awaitable[Request]]) -> None:
    """The common way of a no: by who decides, or by who asked."""
    request = with_access(load_config(config), lambda access: how(access.requests))

    def table(console: Console) -> None:
        console.print(f"Request {request.id} for {request.person} is {request.state}: {request.decided_why}.")

    emit(_plain(request, None, None, SystemClock().now()), output, table)


def _template(cfg: Config, name: str | None) -> Template:
    if name is None:
        return Template()
    if name not in cfg.requests.templates:
        unknown("template", name, list(cfg.requests.templates), str(cfg.file))
    return cfg.requests.templates[name]


def _given(what: str, option: str | None, other: str | None) -> str:
    value = option if option is not None else other
    if value is None:
        fail(USAGE, f"--{what} is missing", "give it here, or take a --template that has it")
    return value


def _in_an_emergency(terms: Terms, groups: list[str]) -> Terms:
    return dataclasses.replace(terms, approvals=1, approvers=tuple(groups), prechecks=())


def _warn_of_changes(cfg: Config, request: Request) -> None:
    policies = Policies(cfg.policies)
    policies.load()
    if request.policy not in policies.names():
        warn(f"the policy {request.policy} no longer exists: the grant would open nothing")
    elif policies.get(request.policy).revision != request.policy_revision:
        warn(
            f"the policy {request.policy} has changed since this was asked for: "
            "a statement must then be allowed by both, the one asked for and the file"
        )


def _state(request: Request, now: datetime) -> Text:
    state = request.standing(now)
    return styled(state, COLOURS.get(state, "bright_black"))


def _last(last: LastReview) -> tuple[str, Text | None]:
    """How the vendor's last access was judged."""
    if last is None:
        return "last review", None
    grant, review = last
    text = f"{review.verdict}, of {grant.id} by {review.by} at {rfc3339(review.at)}: {review.note}"
    return "last review", styled(text, "green" if review.verdict == "fine" else "bold red")


def _plain_last(last: LastReview) -> dict[str, Any] | None:
    return None if last is None else {"grant": last[0].id, "person": last[0].person} | plain_review(last[1])


def _facts(request: Request, voices: list[Voice], now: datetime) -> list[tuple[str, Any]]:
    asked = " or ".join(request.terms.approvers) or "anybody else"
    begins = rfc3339(request.starts_at) if request.starts_at else "the last approval"
    decided = f"{rfc3339(request.decided_at)} by {request.decided_by}: {request.decided_why}"
    return [
        ("state", _state(request, now)),
        ("emergency", "yes: break-glass" if request.break_glass else None),
        ("person", f"{request.person} ({request.vendor})"),
        ("database", request.database),
        ("policy", f"{request.policy}, revision {request.policy_revision[:12]}"),
        ("purpose", request.purpose),
        ("ticket", request.ticket),
        ("expected use", request.expected_use),
        ("time", f"{format_duration(request.seconds)} from {begins}"),
        ("only from", request.bind_ip),
        ("asked", f"{rfc3339(request.created_at)} by {request.created_by}"),
        ("approvals", f"{len(approvals.counting(voices))} of {approvals.needed(request)}, by {asked}"),
        *[("approved", _said(v)) for v in voices],
        ("lapses", rfc3339(request.lapses_at) if request.standing(now) == "requested" else None),
        ("decided", decided if request.decided_at else None),
    ]  # fmt: skip


def _said(voice: Voice) -> Text:
    """One approval in a line; one that no longer counts says why."""
    whose = f" for {voice.for_whom}" if voice.for_whom else ""
    text = Text(f"{rfc3339(voice.at)} by {voice.by}{whose}: {voice.reason}")
    if voice.void_at is None:
        return text
    no = f" (no longer counts since {rfc3339(voice.void_at)}: {voice.void_why})"
    return Text.assemble(text, styled(no, "yellow"))


def _plain(request: Request, voices: list[Voice] | None, grant: Grant | None, now: datetime) -> dict[str, Any]:
    data: dict[str, Any] = {
        "request": request.id,
        "state": request.standing(now),
        "person": request.person,
        "vendor": request.vendor,
        "database": request.database,
        "policy": request.policy,
        "policy_revision": request.policy_revision,
        "purpose": request.purpose,
        "ticket": request.ticket,
        "expected_use": request.expected_use,
        "template": request.template,
        "break_glass": request.break_glass,
        "starts_at": rfc3339(request.starts_at),
        "seconds": request.seconds,
        "bind_ip": request.bind_ip,
        "created_at": rfc3339(request.created_at),
        "created_by": request.created_by,
        "lapses_at": rfc3339(request.lapses_at),
        "approvals_needed": approvals.needed(request),
        "approvers": list(request.terms.approvers),
        "decided_at": rfc3339(request.decided_at),
        "decided_by": request.decided_by,
        "decided_why": request.decided_why,
    }
    if voices is not None:
        data["approvals"] = [
            {
                "by": v.by, "for": v.for_whom, "groups": list(v.groups), "reason": v.reason, "at": rfc3339(v.at),
                "counts": v.void_at is None, "void_at": rfc3339(v.void_at), "void_why": v.void_why,
            }
            for v in voices
        ]  # fmt: skip
        data["grant"] = grant.id if grant is not None else None
    return data
