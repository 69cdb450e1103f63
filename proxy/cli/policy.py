"""`daypass policy …`: check, show and try policies before a vendor meets them.

Judges with the very code of the live path, on the live catalog of a database or on a snapshot of it. Never changes a
file or a database.
"""

from __future__ import annotations

import asyncio
import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.text import Text

from proxy import catalog
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, fields, grid, note
from proxy.config import Config
from proxy.policy.judge import Judge, Judgement
from proxy.policy.load import Policies
from proxy.policy.model import Policy

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Check, show and try policies.")

PolicyOption = Annotated[str, typer.Option("--policy", "-p", metavar="NAME", help="The policy's name.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", "-d", metavar="NAME", help="A database of config.yaml: its live catalog.")
]
CatalogOption = Annotated[
    Path | None,
    typer.Option("--catalog", metavar="FILE", help="A saved snapshot instead (see `policy snapshot`), for CI."),
]
COLOURS = {"allow": "green", "mask": "cyan", "hold": "yellow", "deny": "red"}


@app.command("check")
def check(config: ConfigOption, output: OutputOption, offline: Annotated[bool, typer.Option()] = False) -> None:
    """Checks every policy file: its form, and its tables and columns against the live databases.

    Example: [bold]daypass policy check[/bold]
    """
    cfg = load_config(config)
    policies, found = _load(cfg)
    rows = [
        {"policy": "", "file": f.file, "line": f.line, "key": f.key, "severity": "error", "message": f.message}
        for f in found
    ]
    for name in policies.names():
        policy = policies.get(name)
        for database in policy.databases:
            if database not in cfg.databases:
                rows.append(_row(policy, "databases", f"{database} is not a database of {cfg.file.name}"))
            elif not offline:
                judge = Judge(policy, _live(cfg, database))
                rows += [_row(policy, f"tables.{p.table}", p.message, p.severity) for p in judge.problems]
    bad = any(row["severity"] == "error" for row in rows)
    emit(
        {"ok": not bad, "policies": policies.names(), "findings": rows},
        output,
        lambda console: _findings(console, rows, policies.names()),
    )
    raise typer.Exit(NO if bad else 0)


@app.command("list")
def list_(config: ConfigOption, output: OutputOption) -> None:
    """Lists the policies.

    Example: [bold]daypass policy list[/bold]
    """
    policies, found = _load(load_config(config))
    for finding in found:
        note(str(finding))
    rows = [
        {
            "name": p.name,
            "mode": p.mode,
            "databases": list(p.databases),
            "tables": len(p.model.tables),
            "revision": p.revision,
            "file": p.file,
        }
        for p in map(policies.get, policies.names())
    ]
    table = grid(
        ("POLICY", "MODE", "DATABASES", "TABLES", "REVISION"),
        [
            (p.name, p.mode, ", ".join(p.databases), str(len(p.model.tables)), p.revision[:12])
            for p in map(policies.get, policies.names())
        ],
        empty="there is no policy file yet; daypass init writes an example",
    )
    emit(rows, output, table)


@app.command("show")
def show(config: ConfigOption, output: OutputOption, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Shows one policy: its text and revision.

    Example: [bold]daypass policy show vendor-readonly[/bold]
    """
    policy = _policy(_load(load_config(config))[0], name)
    emit(
        {"name": policy.name, "revision": policy.revision, "file": policy.file, "text": policy.text},
        output,
        lambda console: console.print(
            Text(f"# {policy.file}, revision {policy.revision[:12]}\n{policy.text.rstrip()}")
        ),
    )


@app.command("explain")
def explain(
    config: ConfigOption,
    output: OutputOption,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One or more statements.")],
    policy: PolicyOption,
    database: DatabaseOption = None,
    snapshot: CatalogOption = None,
) -> None:
    """Says what a policy would do with a statement: verdict, rule, reason and the text that Postgres would get.

    Exit code 0 when it would run (allow or mask), 1 when it would not.

    Example: [bold]daypass policy explain "select * from customers" --policy vendor-readonly[/bold]
    """
    judge, _ = _judge(config, policy, database, snapshot)
    judgement = judge.judge(sql.encode("utf-8", "surrogateescape"))
    data = explained(judgement)
    emit(data, output, lambda console: _explain(console, sql, judgement, data))
    raise typer.Exit(0 if judgement.allowed and data["verdict"] in ("allow", "mask") else NO)


@app.command("test")
def run(
    config: ConfigOption,
    output: OutputOption,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One policy; all without it.")] = None,
    database: DatabaseOption = None,
    snapshot: CatalogOption = None,
) -> None:
    """Runs the tests that stand in the policy files.

    Example: [bold]daypass policy test vendor-readonly[/bold]
    """
    cfg = load_config(config)
    policies, found = _load(cfg)
    for finding in found:
        note(str(finding))
    rows = []
    for policy in [_policy(policies, name)] if name else map(policies.get, policies.names()):
        for place in [database] if database else policy.databases[:1] if snapshot else policy.databases:
            rows += run_tests(_judge_of(cfg, policy, place, snapshot), place or "")
    ok = not found and all(row["ok"] for row in rows)
    emit({"ok": ok, "tests": rows}, output, lambda console: _tests(console, rows))
    raise typer.Exit(0 if ok else NO)


@app.command("snapshot")
def snapshot(config: ConfigOption, database: Annotated[str, typer.Argument(metavar="DATABASE")]) -> None:
    """Prints a database's catalog as JSON, for `--catalog` where no database can be reached. It holds no data.

    Example: [bold]daypass policy snapshot app > app.catalog.json[/bold]
    """
    sys.stdout.write(_live(load_config(config), database).dump().decode() + "\n")


def run_tests(judge: Judge, database: str) -> list[dict[str, Any]]:
    """One row for each test of a policy file: what was expected, what came."""
    rows = []
    for case in judge.policy.model.tests:
        data = explained(judge.judge(case.sql.encode()))
        right = data["verdict"] == case.verdict and case.rule in (None, data["rule"])
        expected = case.verdict + (f" ({case.rule})" if case.rule else "")
        got = str(data["verdict"]) + (f" ({data['rule']})" if data["verdict"] == "deny" else "")
        rows.append(
            {
                "policy": judge.policy.name,
                "database": database,
                "sql": case.sql,
                "expected": expected,
                "got": got,
                "reason": data["reason"],
                "ok": right,
            }
        )
    return rows


def explained(judgement: Judgement) -> dict[str, Any]:
    """A judgement as `policy explain -o json` prints it."""
    refusal = judgement.refusal
    statements = [
        {
            "kind": s.kind,
            "verdict": s.verdict,
            "rule": s.rule,
            "reason": s.reason,
            "hint": s.hint,
            "position": s.position,
            "sql": s.sql,
            "rewritten": s.rewritten,
            "tables": list(s.tables),
            "functions": list(s.functions),
        }
        for s in judgement.statements
    ]
    masked = any(s.verdict == "mask" for s in judgement.statements)
    first = refusal or (judgement.statements[0] if judgement.statements else None)
    rewritten = "; ".join(s.rewritten or s.sql for s in judgement.statements)
    return {
        "verdict": "deny" if refusal else "mask" if masked else "allow",
        "rule": first.rule if first else "allow",
        "reason": first.reason if first else "an empty statement",
        "rewritten": rewritten if not refusal and any(s.rewritten for s in judgement.statements) else None,
        "statements": statements,
    }


def _load(cfg: Config) -> tuple[Policies, list[Any]]:
    policies = Policies(cfg.policies)
    return policies, policies.load()


def _policy(policies: Policies, name: str) -> Policy:
    try:
        return policies.get(name)
    except KeyError:
        close = difflib.get_close_matches(name, policies.names(), 1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(policies.names()) or 'none'}"
        fail(USAGE, f"there is no policy {name!r}", hint)


def _judge(config: Path, name: str, database: str | None, snapshot: Path | None) -> tuple[Judge, Policy]:
    cfg = load_config(config)
    policies, found = _load(cfg)
    for finding in found:
        note(str(finding))
    policy = _policy(policies, name)
    if database is None and snapshot is None:
        if len(policy.databases) > 1:
            fail(USAGE, f"{name} names several databases", f"give --database, one of {', '.join(policy.databases)}")
        database = policy.databases[0]
    if database is not None and database not in policy.databases:
        fail(USAGE, f"{name} is not a policy for {database}", f"it names {', '.join(policy.databases)}")
    return _judge_of(cfg, policy, database, snapshot), policy


def _judge_of(cfg: Config, policy: Policy, database: str | None, snapshot: Path | None) -> Judge:
    if snapshot is None:
        return Judge(policy, _live(cfg, database or policy.databases[0]))
    try:
        return Judge(policy, catalog.load(snapshot.read_bytes()))
    except (OSError, ValueError) as error:
        fail(USAGE, f"{snapshot}: {error}", "daypass policy snapshot DATABASE > FILE writes one")


def _live(cfg: Config, name: str) -> catalog.Catalog:
    if name not in cfg.databases:
        fail(USAGE, f"there is no database {name!r} in {cfg.file.name}", f"there are: {', '.join(cfg.databases)}")
    database = cfg.databases[name]
    try:
        return asyncio.run(catalog.snapshot_of(database))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        fail(
            UNREACHABLE,
            f"the catalog of {name} cannot be read: {error or type(error).__name__}",
            "check databases in config.yaml with daypass doctor, or use --catalog FILE",
        )


def _row(policy: Policy, key: str, message: str, severity: str = "error") -> dict[str, Any]:
    return {"policy": policy.name, "file": policy.file, "line": 0, "key": key, "severity": severity, "message": message}


def _findings(console: Console, rows: Iterable[dict[str, Any]], names: list[str]) -> None:
    rows = list(rows)
    for row in rows:
        place = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
        style = "red" if row["severity"] == "error" else "yellow"
        console.print(Text.assemble((row["severity"], style), f": {place}: {row['key']}: {row['message']}"))
    if not rows:
        console.print(Text(f"no mistakes in {', '.join(names)}" if names else "there is no policy yet"))


def _explain(console: Console, sql: str, judgement: Judgement, data: dict[str, Any]) -> None:
    for s in judgement.statements:
        verdict = Text(s.verdict, style=COLOURS[s.verdict])
        pairs = [
            ("statement", s.sql if len(judgement.statements) > 1 else None),
            ("verdict", verdict),
            ("rule", s.rule),
            ("reason", s.reason or None),
            ("hint", s.hint or None),
            ("tables", ", ".join(s.tables) or None),
            ("functions", ", ".join(s.functions) or None),
            ("rewritten", s.rewritten),
        ]
        fields(pairs)(console)
        if s.position:
            console.print(Text(sql.replace("\n", " ")))
            console.print(Text(" " * (s.position - 1) + "^", style="red"))
    if not judgement.statements:
        console.print(Text(f"{data['verdict']}: {data['reason']}"))


def _tests(console: Console, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        mark = Text("ok  ", style="green") if row["ok"] else Text("FAIL", style="bold red")
        console.print(Text.assemble(mark, f" {row['policy']}: {row['sql']} → {row['got']}"))
        if not row["ok"]:
            console.print(Text(f"     expected {row['expected']}; {row['reason']}"))
    failed = sum(not row["ok"] for row in rows)
    console.print(Text(f"{len(rows) - failed} passed, {failed} failed"))
