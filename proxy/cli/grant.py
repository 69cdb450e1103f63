"""`daypass grant`: give, list and end temporary access.

Checks a wish against config and policy, then hands it to `access`; each step is recorded before it counts. It needs no
running server: a server sees a change within a second. The invariant: a token is printed once, to standard output, by
the command that minted it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from proxy.access.findings import Kept
from proxy.access.model import Grant, pause
from proxy.access.prechecks import Finding
from proxy.access.removals import Proof
from proxy.access.requests import Wish
from proxy.access.reviews import Review
from proxy.cli.grant_forms import FormOption, forms_of, show_forms
from proxy.cli.grant_review import plain_review, review
from proxy.cli.grant_view import (
    address,
    dsn_of,
    facts,
    files_of,
    left,
    plain,
    plain_prechecks,
    plain_proofs,
    proof_fields,
    show_login,
    show_prechecks,
    state_of,
)
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, emit, fail, fields, grid, rfc3339, styled, warn
from proxy.cli.state import Access, with_access
from proxy.cli.unsigned import missing_signatures, tell_unsigned
from proxy.cli.wish import length_of, policy_of, terms_of, time_of
from proxy.clock import SystemClock
from proxy.config import Config
from proxy.policy.load import PolicyError, parse
from proxy.policy.model import Policy
from proxy.session.checking import findings

app = typer.Typer(no_args_is_help=True, help="Give, list and end temporary access.")

GrantArgument = Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id, for example g-7k3m9x2q.")]
T = TypeVar("T")


@app.command()
def create(
    config: ConfigOption,
    output: OutputOption,
    person: Annotated[str, typer.Option("--person", help="Who gets in: an address that names one human.")],
    vendor: Annotated[str, typer.Option("--vendor", help="The company the person works for.")],
    database: Annotated[str, typer.Option("--database", help="A database of config.yaml.")],
    policy: Annotated[str, typer.Option("--policy", help="What may be read: a policy's name.")],
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="For how long: 30m, 4h, 7d.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From when: 2026-01-05T09:00:00Z, or +30m. Else from now."),
    ] = None,
    bind_ip: Annotated[
        str | None, typer.Option("--bind-ip", metavar="CIDR", help="Only from this address or network.")
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option("--max-sessions", min=1, help="At most so many sessions at once.")
    ] = None,
    single_use: Annotated[bool, typer.Option("--single-use", help="The token opens one session, and no more.")] = False,
    rollback_note: Annotated[
        str | None, typer.Option("--rollback-note", help="What the owner does if something goes wrong.")
    ] = None,
    form: FormOption = None,
    by: ByOption = None,
) -> None:
    """Let one person read one database for a while. Prints the token, once.

    Example: daypass grant create --person jo@vendor.example --vendor Acme
    --database app --policy vendor-readonly --for 4h --reason 'ticket 42'
    """
    cfg = load_config(config)
    chosen = policy_of(cfg, policy, database)
    now = SystemClock().now()
    lasts = length_of(length, chosen)
    starts_at = time_of(start, now)
    found = _precheck(cfg, chosen, database, rollback_note, who(by))
    _nothing_missing(cfg, chosen, person, found)

    wish = Wish(
        person=person,
        vendor=vendor,
        database=database,
        policy=chosen.name,
        policy_revision=chosen.revision,
        policy_text=chosen.text,
        terms=terms_of(chosen, max_sessions=max_sessions, single_use=single_use),
        purpose=reason,
        length=timedelta(seconds=lasts),
        starts_at=starts_at,
        bind_ip=bind_ip,
        rollback_note=rollback_note,
    )

    async def make(access: Access) -> tuple[Grant, str]:
        request = await access.requests.create(wish, by=who(by), lapse=timedelta(hours=1), overlap=True)
        _, grant = await access.requests.approve_at_once(request.id, by=who(by), reason=reason)
        # Those of a grant that starts later are looked at again then.
        if found and await access.findings.keep(grant, found, final=grant.starts_at <= grant.created_at, by=who(by)):
            grant = await access.grants.get(grant.id)
        return grant, await access.grants.rotate(grant.id, by=who(by))

    grant, token = with_access(cfg, make)
    from proxy.cli.grant_role import make_role  # noqa: PLC0415 - brings the SQL parsers, a second

    make_role(cfg, grant)
    host, port = address(cfg)
    data = {
        "grant": grant.id,
        "user": grant.id,
        "token": token,
        "dsn": dsn_of(cfg, host, port, grant, token),
        "database": grant.database,
        "policy": grant.policy,
        "policy_revision": grant.policy_revision,
        "starts_at": rfc3339(grant.starts_at),
        "expires_at": rfc3339(grant.expires_at),
        **forms_of(form, cfg, grant, token),
    }

    def table(console: Console) -> None:
        console.print(styled(f"Grant {grant.id}", "bold green"))
        facts(grant, grant.created_at)(console)
        show_login(console, dsn_of(cfg, host, port, grant), token)
        show_forms(console, form, cfg, grant, token)

    emit(data, output, table)
    if grant.state(grant.created_at) == "paused":
        warn(f"grant {grant.id} {pause(grant, grant.created_at)}")
    if cfg.listen.port == 0:
        warn("listen.port is 0: put in the port that `daypass serve` logged")


@app.command("list")
def list_(config: ConfigOption, output: OutputOption) -> None:
    """Show every grant, the newest first.

    Example: daypass grant list -o json
    """
    cfg = load_config(config)
    now = SystemClock().now()
    found, file = with_access(cfg, lambda access: access.grants.list()), files_of(cfg)
    rows: list[list[str | Text]] = [
        [
            g.id,
            state_of(g, now, file(g)),
            g.person,
            g.vendor,
            g.database,
            g.policy,
            left(g, now, file(g)),
            g.reason,
        ]
        for g in found
    ]
    heads = ["GRANT", "STATE", "PERSON", "VENDOR", "DATABASE", "POLICY", "TIME", "REASON"]
    emit(
        [plain(g, now, file(g)) for g in found],
        output,
        grid(heads, rows, empty="No grants. `daypass grant create` makes one."),
    )


@app.command()
def show(config: ConfigOption, output: OutputOption, grant: GrantArgument) -> None:
    """Show one grant, with the policy that it pins.

    Example: daypass grant show g-7k3m9x2q
    """
    cfg = load_config(config)
    now = SystemClock().now()

    async def look(access: Access) -> tuple[Grant, list[Kept], list[Proof], Review | None]:
        return (
            await access.grants.get(grant),
            await access.findings.of(grant),
            await access.removals.of(grant),
            await access.reviews.of(grant),
        )

    found, kept, proofs, reviewed = with_access(cfg, look)
    file = files_of(cfg)(found)
    if _observes(found.policy_text):
        warn(f"the policy {found.policy} is in mode: observe: everything is recorded and nothing refused")

    def table(console: Console) -> None:
        console.print(styled(f"Grant {found.id}", "bold"))
        facts(found, now, file)(console)
        show_prechecks(console, found, kept)
        said = f"{reviewed.verdict}, by {reviewed.by} at {rfc3339(reviewed.at)}: {reviewed.note}" if reviewed else None
        fields([*proof_fields(proofs), ("reviewed", said)])(console)
        console.print(styled("\nThe policy as it was granted:", "bold"))
        for line in found.policy_text.rstrip().splitlines():
            console.print(f"  {line}")

    data = plain(found, now, file) | {"prechecks": plain_prechecks(found, kept), "removal": plain_proofs(proofs)}
    data |= {"review": plain_review(reviewed) if reviewed else None, "policy_text": found.policy_text}
    emit(data, output, table)
    if found.state(now, file) not in {"expired", "revoked"}:
        tell_unsigned(cfg, found)


@app.command()
def token(
    config: ConfigOption,
    output: OutputOption,
    grant: GrantArgument,
    form: FormOption = None,
    by: ByOption = None,
) -> None:
    """Mint a new token for a grant; the one before opens nothing from now on.

    Example: daypass grant token g-7k3m9x2q --form pgpass --form service
    """
    cfg = load_config(config)

    async def rotate(access: Access) -> tuple[Grant, str]:
        return await access.grants.get(grant), await access.grants.rotate(grant, by=who(by))

    found, minted = with_access(cfg, rotate)
    host, port = address(cfg)
    dsn = dsn_of(cfg, host, port, found, minted)

    def table(console: Console) -> None:
        console.print(f"A new token for grant {found.id} of {found.person}; the one before is dead. Sessions that are")
        console.print("open stay open: `daypass grant revoke` ends them.")
        show_login(console, dsn_of(cfg, host, port, found), minted)
        show_forms(console, form, cfg, found, minted)

    data = {"grant": found.id, "user": found.id, "token": minted, "dsn": dsn}
    emit(data | forms_of(form, cfg, found, minted), output, table)
    tell_unsigned(cfg, found)


@app.command()
def revoke(
    config: ConfigOption,
    output: OutputOption,
    grant: GrantArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; the person is told, and it stands in the record.")],
    by: ByOption = None,
) -> None:
    """End a grant for good: no new login, open sessions end within a second.

    Example: daypass grant revoke g-7k3m9x2q --reason 'work done'
    """
    cfg = load_config(config)
    now = SystemClock().now()

    async def end(access: Access) -> tuple[Grant, Grant]:
        return await access.grants.get(grant), await access.grants.revoke(grant, reason=reason, by=who(by))

    before, after = with_access(cfg, end)
    already = before.revoked_at is not None

    def table(console: Console) -> None:
        if already:
            when, why = rfc3339(before.revoked_at), before.revoke_reason
            console.print(f"Grant {after.id} was revoked before, at {when}: {why}. Nothing changed.")
        else:
            console.print(f"Grant {after.id} of {after.person} is revoked; its sessions end within a second.")

    emit(plain(after, max(now, after.revoked_at or now)) | {"already_revoked": already}, output, table)


@app.command()
def override(
    config: ConfigOption,
    output: OutputOption,
    grant: GrantArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it may start all the same; it stands in the record.")],
    by: ByOption = None,
) -> None:
    """Let a grant start though its prechecks do not hold. Only who might approve it, never who asked.

    Example: daypass grant override g-7k3m9x2q --reason 'the replica is being rebuilt; agreed with anna' --by olga
    """
    cfg = load_config(config)
    found, failed = with_access(cfg, lambda access: access.findings.override(grant, by=who(by), reason=reason))

    def table(console: Console) -> None:
        console.print(styled(f"Grant {found.id} of {found.person} need not wait any more for:", "bold"))
        for name, why in failed.items():
            console.print(f"  {name}: {why}")

    emit(plain(found, SystemClock().now()) | {"overridden": failed}, output, table)


app.command()(review)


def _observes(text: str) -> bool:
    try:
        return parse(text, "a pinned policy").mode == "observe"
    except PolicyError:  # written by another version
        return False


def _precheck(cfg: Config, policy: Policy, database: str, note: str | None, by: str) -> list[Finding]:
    """What the policy's prechecks find now."""
    names = policy.model.prechecks
    return asyncio.run(findings(cfg, database, names, SystemClock(), note=note, note_by=by)) if names else []


def _nothing_missing(cfg: Config, policy: Policy, person: str, found: list[Finding]) -> None:
    """Exits 1 where the policy asks for more than the operator's word, and says what is missing and how to get it."""
    model = policy.model
    missing, hints = [], []
    if model.approvals is not None and model.approvals.count > 0:
        missing.append(f"{model.approvals.count} approval(s) by another person")
        hints.append("daypass request create asks for it")
    for what, how in missing_signatures(cfg, person, model.agreements):
        missing.append(what)
        hints += how
    failing = [f"{each.name} ({each.why})" for each in found if not each.ok]
    if failing:
        missing.append(f"prechecks that do not hold: {', '.join(failing)}")
        hints.append("daypass request create makes a grant that waits until they hold")
    if missing:
        hint = "\n".join(dict.fromkeys(hints))
        fail(NO, f"the policy {policy.name} asks for {' and '.join(missing)}", hint)
