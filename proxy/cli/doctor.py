"""`daypass doctor`: looks at everything daypass needs, and says what to do about what it finds.

Reads, connects, and writes nothing but one file that it removes. It may run beside a server. The invariant: a check
that breaks is a finding of its own and hides no other; no secret is printed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import asyncpg
import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from rich.console import Console
from rich.text import Text

from proxy import catalog
from proxy import config as settings
from proxy.access import exposure
from proxy.access.store import Store, StoreError, untold
from proxy.access.timekeeping import TimeFacts
from proxy.cli.clock import verdict
from proxy.cli.config import policy_findings
from proxy.cli.database import prechecks_of
from proxy.cli.doctor_sinks import sinks
from proxy.cli.options import ConfigOption, OutputOption
from proxy.cli.output import NO, emit, styled
from proxy.clock import SystemClock
from proxy.config import Config, ConfigError, Database
from proxy.policy.load import Policies
from proxy.scram import ScramError, tls_server_end_point
from proxy.session.checking import findings
from recorder.journal import FREE_FLOOR

Level = Literal["ok", "warn", "fail"]
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_LAST_GOOD = "correct the file; until then its last good revision stays"
_OLDEST, _NEWEST = 14, 18  # the Postgres versions that daypass is tested with


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the answer. `todo` says what to do about it."""

    level: Level
    what: str
    found: str
    todo: str = ""


def command(config: ConfigOption, output: OutputOption) -> None:
    """Check config, policies, certificate, state, disk, clock and databases; exit 1 on a failure.

    Example: daypass -c daypass/config.yaml doctor
    """
    checks = asyncio.run(_all(config))
    failed = any(check.level == "fail" for check in checks)
    emit({"ok": not failed, "checks": [asdict(check) for check in checks]}, output, lambda out: _draw(out, checks))
    if failed:
        raise typer.Exit(NO)


async def _all(path: Path) -> list[Check]:
    try:
        config = settings.load(path)
    except ConfigError as error:
        return [
            Check("fail", "config", str(finding), "correct it, then run doctor again") for finding in error.findings
        ]
    checks = [Check("ok", "config", str(path))]
    checks += [Check("warn", "config", str(finding)) for finding in settings.warnings(config)]
    checks += [
        *_policies(config),
        *_certificate(config),
        await _state(config),
        *_recordings(config),
        *(Check(*said) for said in sinks(config)),
        await _clock(config),
    ]
    for name, database in config.databases.items():
        checks += [check async for check in _database(name, database, _schemas(config, name))]
        checks += [check async for check in _prechecks(config, name)]
    return checks


def _schemas(config: Config, database: str) -> set[str]:
    """The schemas that policies for this database name."""
    policies = Policies(config.policies)
    policies.load()
    mine = [policy for policy in map(policies.get, policies.names()) if database in policy.databases]
    return {table.split(".")[0] for policy in mine for table in policy.model.tables}


def _policies(config: Config) -> Iterator[Check]:
    found = policy_findings(config)
    for finding in found:
        text = finding.key.startswith("agreements[")
        todo = "put the text there: docs/reference/agreements.md" if text else _LAST_GOOD
        yield Check("fail", "policies", str(finding), todo)
    policies = Policies(config.policies)
    policies.load()
    count = len(list(policies.names()))
    if not count:
        yield Check("fail", "policies", f"no usable policy in {config.policies}", "write one: docs/reference/policy.md")
    elif not found:
        yield Check("ok", "policies", f"{count} in {config.policies}")


def _certificate(config: Config) -> Iterator[Check]:
    tls = config.listen.tls
    if tls.cert is None or tls.key is None or tls.mode == "disable":
        yield Check("warn", "certificate", "no TLS towards clients", "listen.tls.mode: require, for other than trials")
        return
    try:
        certificate = x509.load_pem_x509_certificate(tls.cert.read_bytes())
        key = load_pem_private_key(tls.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        yield Check("fail", "certificate", f"cannot be read: {error}", "PEM files, the key without a passphrase")
        return
    if key.public_key() != certificate.public_key():
        yield Check(
            "fail", "certificate", f"{tls.key} is not the key of {tls.cert}", "give the pair that belongs together"
        )
    if tls.key.stat().st_mode & 0o077:
        yield Check("warn", "certificate", f"others may read {tls.key}", f"chmod 600 {tls.key}")
    try:
        tls_server_end_point(certificate.public_bytes(Encoding.DER))
    except ScramError as error:
        yield Check("warn", "certificate", str(error), "an ECDSA or RSA certificate lets clients bind to the channel")
    left = certificate.not_valid_after_utc - SystemClock().now()
    until = f"{tls.cert} until {certificate.not_valid_after_utc:%Y-%m-%d}"
    if left.total_seconds() <= 0:
        yield Check("fail", "certificate", f"{until}: it is over", "renew it, then send serve a SIGHUP")
    elif left.days < 30:
        yield Check("warn", "certificate", f"{until}: {left.days} days left", "renew it, then send serve a SIGHUP")
    else:
        yield Check("ok", "certificate", until)
    if tls.client_ca is not None:
        yield _client_ca(tls.client_ca)


def _client_ca(path: Path) -> Check:
    """No client gets in when the authority that signed its certificate cannot be read, or is over."""
    try:
        authorities = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        return Check("fail", "client certificates", f"{path} cannot be read: {error}", "PEM, one certificate or more")
    now = SystemClock().now()
    over = [each.subject.rfc4514_string() for each in authorities if each.not_valid_after_utc <= now]
    if over:
        return Check(
            "fail", "client certificates", f"{path}: {', '.join(over)} is over", "renew it, then send a SIGHUP"
        )
    return Check("ok", "client certificates", f"signed by {', '.join(a.subject.rfc4514_string() for a in authorities)}")


async def _state(config: Config) -> Check:
    try:
        store = await Store.open(config.state)
        await store.close()
    except StoreError as error:
        return Check("fail", "state", str(error), "see `state` in config.yaml: its folder must exist and be writable")
    return Check("ok", "state", config.shown()["state"])


def _recordings(config: Config) -> Iterator[Check]:
    folder = config.recording.dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"daypass doctor was here\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Check("fail", "recordings", f"{folder}: {error.strerror}", "nothing is served that cannot be recorded")
        return
    yield Check("ok", "recordings", str(folder))
    disk = os.statvfs(folder)
    free, share = disk.f_bavail * disk.f_frsize, disk.f_bavail / max(disk.f_blocks, 1)
    text = f"{free / (1 << 30):.1f} GiB free ({share:.0%}) where recordings go"
    if free < FREE_FLOOR:
        yield Check("fail", "disk", text, f"sessions are refused below {FREE_FLOOR >> 20} MiB: make room")
    elif free < 8 * FREE_FLOOR or share < 0.05:
        yield Check("warn", "disk", text, f"sessions are refused below {FREE_FLOOR >> 20} MiB")
    else:
        yield Check("ok", "disk", text)


async def _clock(config: Config) -> Check:
    now = SystemClock().now()
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < datetime(2026, 1, 1, tzinfo=UTC):
        return Check("fail", "clock", f"{shown} is in the past", "set the clock; grants begin and end by it")
    try:
        store = await Store.open(config.state)
        try:
            problem = verdict(await TimeFacts(store, SystemClock(), untold).read())
        finally:
            await store.close()
    except StoreError:  # a finding of its own
        problem = None
    if problem:
        todo = "set the clock; or, if it is right: daypass clock accept --reason '…'"
        return Check("fail", "clock", f"{shown} is not believed: {problem}", todo)
    return Check("ok", "clock", shown)


async def _database(name: str, database: Database, schemas: set[str]) -> AsyncIterator[Check]:
    what = f"database {name}"
    where = f"{database.host}:{database.port}/{database.dbname} as {database.credential.user}"
    try:
        database.credential.password()
    except ConfigError as error:
        yield Check("fail", what, str(error), "set it in the environment of doctor and serve")
        return
    try:
        connection = await catalog.connect_to(database)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        text = str(error).strip().splitlines()
        yield Check("fail", what, f"{where}: {text[0] if text else type(error).__name__}", _advice(error))
        return
    try:
        ephemeral = database.credential.mode == "ephemeral"
        for check in await _questions(connection, what, where, schemas, ephemeral=ephemeral):
            yield check
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield Check("fail", what, f"{where}: {error}", "the connection was lost while asking")
    finally:
        connection.terminate()


async def _prechecks(config: Config, database: str) -> AsyncIterator[Check]:
    """Those that look at the world; a rollback note is a request's."""
    names = [
        name
        for name in prechecks_of(config, database)
        if name not in config.prechecks or config.prechecks[name].kind != "rollback_note"
    ]
    for found in await findings(config, database, names, SystemClock()):
        what = f"precheck {found.name}"
        if found.ok:
            yield Check("ok", what, f"{database}: {found.why}")
        else:
            yield Check("warn", what, f"{database}: {found.why}", "grants that ask for it wait until it holds")


async def _questions(
    connection: asyncpg.Connection[asyncpg.Record], what: str, where: str, schemas: set[str], *, ephemeral: bool
) -> list[Check]:
    row = await connection.fetchrow(_ROLE)
    if row is None:
        return [Check("fail", what, f"{where}: the server does not know the role that it let in")]
    version = int(row["version"]) // 10_000
    checks = [Check("ok", what, f"{where}, Postgres {version}")]
    if not _OLDEST <= version <= _NEWEST:
        todo = f"daypass is tested with Postgres {_OLDEST} to {_NEWEST}"
        checks.append(Check("warn", what, f"Postgres {version}", todo))
    if ephemeral:
        if not row["superuser"] and "create roles" not in row["powers"]:
            todo = f"ALTER ROLE {row['role']} CREATEROLE, as docs/how-to/add-a-database.md has it"
            checks.append(Check("fail", what, f"{row['role']} may not create roles", todo))
    elif row["superuser"]:
        todo = "make a role that can only read: the guard should not stand alone"
        checks.append(Check("warn", what, f"{row['role']} is a superuser", todo))
    elif row["powers"]:
        checks.append(Check("warn", what, f"{row['role']} may {row['powers']}", "take these attributes from the role"))
    elif row["writable"]:
        text = f"{row['role']} may write to {row['writable']} table(s), for example {row['example']}"
        checks.append(Check("warn", what, text, "grant it SELECT only: the guard should not stand alone"))
    definers = await exposure.open_definers(connection, schemas)
    if definers:
        text = f"everybody may run SECURITY DEFINER functions with their owner's rights: {', '.join(definers)}"
        checks.append(Check("warn", what, text, "`daypass database check` prints the REVOKEs that close them"))
    apart = abs((SystemClock().now() - row["now"]).total_seconds())
    if apart > 60:
        todo = "synchronise both machines: grants begin and end by this machine's clock"
        checks.append(Check("warn", what, f"its clock and this one are {apart:.0f} s apart", todo))
    return checks


def _advice(error: BaseException) -> str:
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return "check credential.user, its password, and the server's pg_hba.conf"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "check dbname"
    if isinstance(error, TimeoutError):
        return "no answer in 10 s: check host, port and firewalls"
    if "certificate" in str(error).lower():
        return "give the certificate of the upstream's authority: ca: FILE"
    if "SSL" in str(error):
        return "the server does not speak TLS: switch it on there, or tls: disable on this machine"
    return "check host and port, and that the server runs"


def _draw(console: Console, checks: list[Check]) -> None:
    width = max(len(check.what) for check in checks)
    for check in checks:
        label = "FAIL" if check.level == "fail" else check.level
        console.print(Text.assemble((f"{label:<4}", _STYLES[check.level]), f"  {check.what:<{width}}  {check.found}"))
        if check.todo:
            console.print(Text(f"{'':<4}  {'':<{width}}  → {check.todo}", style="dim"))
    bad, doubtful = (sum(check.level == level for check in checks) for level in ("fail", "warn"))
    if bad:
        console.print(styled(f"\n{bad} to correct, {doubtful} to think about", "bold red"))
    else:
        console.print(styled(f"\nAll well{f', {doubtful} to think about' if doubtful else ''}", "bold green"))


_ROLE = """
select current_user as role, r.rolsuper as superuser, current_setting('server_version_num') as version, now() as now,
  concat_ws(', ',
    case when r.rolcreatedb then 'create databases' end, case when r.rolcreaterole then 'create roles' end,
    case when r.rolreplication then 'replicate' end, case when r.rolbypassrls then 'bypass row security' end) as powers,
  w.writable, w.example
from pg_catalog.pg_roles r, lateral (
  select count(*) as writable, min(c.oid::pg_catalog.regclass::text) as example
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'f', 'v') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and pg_catalog.has_table_privilege(c.oid, 'insert, update, delete, truncate')) w
where r.rolname = current_user
"""
