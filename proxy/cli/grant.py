"""`daypass grant`: give, list and end temporary access.

Checks a wish against config and policy, then hands it to `access`; each step is recorded before it counts. It needs no
running server: a server sees a change within a second. The invariant: a token is printed once, to standard output, by
the command that minted it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from proxy import catalog
from proxy.access.grants import GrantError, GrantNotFound, Grants
from proxy.access.model import Grant
from proxy.access.roles import RoleError
from proxy.access.store import Store, StoreError
from proxy.cli.grant_view import address, dsn_of, facts, left, plain, show_login, state_of
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, grid, rfc3339, styled, warn
from proxy.clock import SystemClock
from proxy.config import Config, format_duration, nearest, parse_duration
from proxy.policy.load import Policies, PolicyError, parse
from proxy.policy.model import Policy
from proxy.session.ephemeral import TROUBLE, Keeper
from proxy.session.judging import Bench
from recorder.events import GrantEvent
from recorder.journal import RecordError, append_installation

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
    by: ByOption = None,
) -> None:
    """Let one person read one database for a while. Prints the token, once.

    Example: daypass grant create --person jo@vendor.example --vendor Acme
    --database app --policy vendor-readonly --for 4h --reason 'ticket 42'
    """
    cfg = load_config(config)
    chosen = _policy(cfg, policy, database)
    now = SystemClock().now()
    lasts = _length(length, chosen)
    starts_at = _start(start, now)
    _nothing_missing(chosen)

    async def make(grants: Grants) -> tuple[Grant, str]:
        return await grants.create(
            person=person,
            vendor=vendor,
            database=database,
            policy=chosen.name,
            policy_revision=chosen.revision,
            policy_text=chosen.text,
            reason=reason,
            length=timedelta(seconds=lasts),
            starts_at=starts_at,
            bind_ip=bind_ip,
            created_by=who(by),
        )

    grant, token = _run(cfg, make)
    _make_role(cfg, grant)
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
    }

    def table(console: Console) -> None:
        console.print(styled(f"Grant {grant.id}", "bold green"))
        facts(grant, grant.created_at)(console)
        show_login(console, dsn_of(cfg, host, port, grant), token)

    emit(data, output, table)
    if cfg.listen.port == 0:
        warn("listen.port is 0: put in the port that `daypass serve` logged")


@app.command("list")
def list_(config: ConfigOption, output: OutputOption) -> None:
    """Show every grant, the newest first.

    Example: daypass grant list -o json
    """
    cfg = load_config(config)
    now = SystemClock().now()
    found = _run(cfg, lambda grants: grants.list())
    rows: list[list[str | Text]] = [
        [
            g.id,
            state_of(g, now),
            g.person,
            g.vendor,
            g.database,
            g.policy,
            left(g, now),
            g.reason,
        ]
        for g in found
    ]
    heads = ["GRANT", "STATE", "PERSON", "VENDOR", "DATABASE", "POLICY", "TIME", "REASON"]
    emit(
        [plain(g, now) for g in found], output, grid(heads, rows, empty="No grants. `daypass grant create` makes one.")
    )


@app.command()
def show(config: ConfigOption, output: OutputOption, grant: GrantArgument) -> None:
    """Show one grant, with the policy that it pins.

    Example: daypass grant show g-7k3m9x2q
    """
    cfg = load_config(config)
    now = SystemClock().now()
    found = _run(cfg, lambda grants: grants.get(grant))
    if _observes(found.policy_text):
        warn(f"the policy {found.policy} is in mode: observe: everything is recorded and nothing refused")

    def table(console: Console) -> None:
        console.print(styled(f"Grant {found.id}", "bold"))
        facts(found, now)(console)
        console.print(styled("\nThe policy as it was granted:", "bold"))
        for line in found.policy_text.rstrip().splitlines():
            console.print(f"  {line}")

    emit(plain(found, now) | {"policy_text": found.policy_text}, output, table)


@app.command()
def token(config: ConfigOption, output: OutputOption, grant: GrantArgument, by: ByOption = None) -> None:
    """Mint a new token for a grant; the one before opens nothing from now on.

    Example: daypass grant token g-7k3m9x2q
    """
    cfg = load_config(config)

    async def rotate(grants: Grants) -> tuple[Grant, str]:
        return await grants.get(grant), await grants.rotate(grant, by=who(by))

    found, minted = _run(cfg, rotate)
    host, port = address(cfg)
    dsn = dsn_of(cfg, host, port, found, minted)

    def table(console: Console) -> None:
        console.print(f"A new token for grant {found.id} of {found.person}; the one before is dead. Sessions that are")
        console.print("open stay open: `daypass grant revoke` ends them.")
        show_login(console, dsn_of(cfg, host, port, found), minted)

    emit({"grant": found.id, "user": found.id, "token": minted, "dsn": dsn}, output, table)


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

    async def end(grants: Grants) -> tuple[Grant, Grant]:
        return await grants.get(grant), await grants.revoke(grant, reason=reason, by=who(by))

    before, after = _run(cfg, end)
    already = before.revoked_at is not None

    def table(console: Console) -> None:
        if already:
            when, why = rfc3339(before.revoked_at), before.revoke_reason
            console.print(f"Grant {after.id} was revoked before, at {when}: {why}. Nothing changed.")
        else:
            console.print(f"Grant {after.id} of {after.person} is revoked; its sessions end within a second.")

    emit(plain(after, max(now, after.revoked_at or now)) | {"already_revoked": already}, output, table)


def _make_role(cfg: Config, grant: Grant) -> None:
    """The grant's role, where it starts now; one that starts later gets its role at the first login."""
    if cfg.databases[grant.database].credential.mode != "ephemeral" or grant.starts_at > grant.created_at:
        return
    database = cfg.databases[grant.database]

    async def make() -> None:
        store = await Store.open(cfg.state)
        try:
            identity, secret = await store.identity()
        finally:
            await store.close()
        keeper = Keeper(cfg, identity, secret)
        bench = Bench(Policies(cfg.policies), secret, identity, keeper.is_for)
        bench.reload()
        snapshot = await catalog.snapshot_of(database)
        bench.know(grant.database, snapshot)
        try:
            await keeper.credential(grant, bench.plan(grant), bench.for_grant(grant).policy.limits.sessions)
        finally:
            await keeper.close()

    try:
        asyncio.run(make())
    except (RoleError, *TROUBLE) as problem:
        reason = str(problem) or type(problem).__name__
        _run(cfg, lambda grants: grants.revoke(grant.id, reason="its role could not be made", by=grant.created_by))
        hint = f"grant {grant.id} is revoked; mend the cause and make another"
        fail(UNREACHABLE, f"the role for {grant.database} cannot be made: {reason}", hint)


def _policy(cfg: Config, name: str, database: str) -> Policy:
    """The policy, if it exists and is for this database."""
    if database not in cfg.databases:
        _unknown("database", database, list(cfg.databases), str(cfg.file))
    policies = Policies(cfg.policies)
    broken = policies.load()
    try:
        policy = policies.get(name)
    except KeyError:
        for finding in broken:  # the file that is meant may be one of these
            warn(str(finding))
        _unknown("policy", name, list(policies.names()), str(cfg.policies))
    if policy.mode == "observe":
        if cfg.databases[database].credential.mode == "ephemeral":
            hint = "give it mode: enforce and tables, or the database a shared credential"
            fail(USAGE, f"the policy {name} only observes: it names nothing that a role could be given", hint)
        warn(f"the policy {name} is in mode: observe: everything is recorded and nothing refused")
    if database not in policy.databases:
        there = ", ".join(policy.databases)
        fail(USAGE, f"the policy {name} is not for the database {database}", f"{policy.file} names: {there}")
    return policy


def _unknown(what: str, name: str, known: list[str], where: str) -> NoReturn:
    guess = nearest(name, known)
    hint = f"did you mean {guess}? " if guess else ""
    fail(USAGE, f"there is no {what} {name!r} in {where}", f"{hint}There are: {', '.join(known) or 'none'}")


def _observes(text: str) -> bool:
    try:
        return parse(text, "a pinned policy").mode == "observe"
    except PolicyError:  # written by another version
        return False


def _length(text: str, policy: Policy) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        fail(USAGE, f"--for: {error}")
    if seconds <= 0:
        fail(USAGE, "--for: a grant must last longer than no time at all")
    bound = policy.window.max
    if bound is not None and seconds > bound:
        longest = format_duration(bound)
        fail(USAGE, f"--for: {text} is longer than the policy {policy.name} allows", f"at most --for {longest}")
    return seconds


def _start(text: str | None, now: datetime) -> datetime | None:
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
        fail(USAGE, f"--from: {text!r} is not a time", hint)
    fail(USAGE, f"--from: {text!r} has no timezone", hint)


def _nothing_missing(policy: Policy) -> None:
    """What the policy asks for beside the operator's word cannot be given in this version: then the answer is no."""
    model = policy.model
    missing = []
    if model.approvals is not None and model.approvals.count > 0:
        missing.append(f"{model.approvals.count} approval(s) by another person")
    if model.agreements:
        missing.append(f"the agreement {', '.join(model.agreements)}")
    if model.prechecks:
        missing.append(f"the precheck {', '.join(model.prechecks)}")
    if missing:
        hint = "this version of daypass cannot collect these yet; a policy without them can be granted"
        fail(NO, f"the policy {policy.name} asks for {' and '.join(missing)}", hint)


def _run(cfg: Config, action: Callable[[Grants], Awaitable[T]]) -> T:
    """Opens the state, acts, closes it; what goes wrong becomes an exit code."""
    clock, identity = SystemClock(), ""

    def record(action: str, detail: dict[str, Any]) -> None:
        rest = {key: value for key, value in detail.items() if key not in {"grant", "by"}}
        event = GrantEvent(action=action, grant=detail["grant"], by=detail["by"], detail=rest)
        append_installation(cfg.recording.dir, event, clock.now, installation=identity)

    async def main() -> T:
        nonlocal identity
        store = await Store.open(cfg.state)
        try:
            identity, _ = await store.identity()
            return await action(Grants(store, clock, record))
        finally:
            await store.close()

    try:
        return asyncio.run(main())
    except GrantNotFound as error:
        fail(USAGE, str(error), "daypass grant list shows them all")
    except GrantError as error:
        fail(USAGE, str(error))
    except StoreError as error:
        fail(UNREACHABLE, str(error), "daypass doctor checks the state")
    except RecordError as error:
        fail(
            UNREACHABLE, f"this cannot be recorded, so it was not done: {error}", "daypass doctor checks recording.dir"
        )
