"""`daypass policy check` and `test`: is every policy file right, and does it fit the databases it names?

`check` asks for everything that can be found without a vendor: form, tables and columns, rules that nothing reaches,
expressions that settings move, and the tests in the files. Exit code 1 on an error; warnings do not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.cli.config import missing_texts
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, emit
from proxy.cli.policy_load import (
    CatalogOption,
    DatabaseOption,
    known_policies,
    live,
    load_policies,
    policy_of,
    saved,
    shown_path,
)
from proxy.cli.policy_show import explained
from proxy.policy import lint
from proxy.policy.judge import Judge
from proxy.policy.model import Policy
from proxy.yaml_file import Lines, parse_yaml

OBSERVED = "observe names nothing that a role could be given: write enforce, or give the database a shared credential"
_COLOURS = {"error": "red", "warning": "yellow"}


def check(
    config: ConfigOption,
    output: OutputOption,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the databases out: only the files' form.")] = False,
) -> None:
    """Checks every policy file: form, tables and columns on the live databases, rules that nothing reaches, its tests.

    Exit code 1 on an error; warnings do not count.

    Example: [bold]daypass policy check[/bold]
    """
    cfg = load_config(config)
    policies, found = load_policies(cfg)
    rows: list[dict[str, Any]] = [
        {
            "policy": "", "database": "", "file": f.file, "line": f.line, "key": f.key, "severity": "error",
            "message": f.message,
        }
        for f in found
    ]  # fmt: skip
    catalogs: dict[str, Any] = {}
    for name in policies.names():
        policy = policies.get(name)
        rows += [_row(policy, "", ("agreements", n), text) for n, text in missing_texts(cfg, policy)]
        for database in policy.databases:
            if database not in cfg.databases:
                rows.append(_row(policy, database, ("databases",), f"{database} is not a database of {cfg.file.name}"))
                continue
            if policy.mode == "observe":
                shared = cfg.databases[database].credential.mode == "shared"
                said = "observe refuses nothing; everything is recorded" if shared else OBSERVED
                rows.append(_row(policy, database, ("mode",), said, *(["warning"] if shared else [])))
            if offline:
                continue
            if database not in catalogs:
                catalogs[database] = live(cfg, database)
            rows += findings(Judge(policy, catalogs[database]), database)
    rows = _once(rows)
    bad = any(row["severity"] == "error" for row in rows)
    emit(
        {"ok": not bad, "policies": policies.names(), "findings": rows},
        output,
        lambda console: _show(console, rows, policies.names(), offline=offline),
    )
    raise typer.Exit(NO if bad else 0)


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
    policies, found = load_policies(cfg) if name is None else (known_policies(cfg), [])
    rows = []
    for policy in [policy_of(policies, name)] if name else map(policies.get, policies.names()):
        for place in [database] if database else policy.databases[:1] if snapshot else policy.databases:
            known = saved(snapshot) if snapshot else live(cfg, place or policy.databases[0])
            rows += run_tests(Judge(policy, known), place or "")
    ok = not found and all(row["ok"] for row in rows)
    emit({"ok": ok, "tests": rows}, output, lambda console: _tests(console, rows))
    raise typer.Exit(0 if ok else NO)


def findings(judge: Judge, database: str) -> list[dict[str, Any]]:
    """What is wrong with a policy on one database, its tests among it."""
    policy = judge.policy
    rows = [_row(policy, database, p.path, p.message, p.severity) for p in lint.problems(judge.bound)]
    for index, test in enumerate(run_tests(judge, database)):
        if not test["ok"]:
            why = f" ({test['reason']})" if test["reason"] else ""
            message = f"expected {test['expected']}, got {test['got']}{why}: {test['sql']}"
            rows.append(_row(policy, database, ("tests", index), message))
    return rows


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


def _row(
    policy: Policy, database: str, path: tuple[str | int, ...], message: str, severity: str = "error"
) -> dict[str, Any]:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return {
        "policy": policy.name,
        "database": database,
        "file": policy.file,
        "line": _line(parse_yaml(policy.text, policy.file)[1], path),
        "key": key,
        "severity": severity,
        "message": message,
    }


def _line(lines: Lines, path: tuple[str | int, ...]) -> int:
    """The line of a key, or of the nearest one above it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings in the files' order; the same one on several databases once, with all their names."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["file"], row["line"], row["key"], row["message"])
        if key in merged:
            merged[key]["database"] += f", {row['database']}"
        else:
            merged[key] = dict(row)
    return sorted(merged.values(), key=lambda row: (row["file"], row["line"]))


def _show(console: Console, rows: Iterable[dict[str, Any]], names: list[str], *, offline: bool) -> None:
    rows = list(rows)
    for row in rows:
        place = shown_path(row["file"]) + (f":{row['line']}" if row["line"] else "")
        said = f": {place}: {row['key'] + ': ' if row['key'] else ''}{row['message']}"
        console.print(Text.assemble((row["severity"], _COLOURS[row["severity"]]), said))
    errors = sum(row["severity"] == "error" for row in rows)
    if not names and not rows:
        console.print(Text("there is no policy yet"))
    elif not rows:
        console.print(Text(f"no mistakes in {', '.join(names)}{' (databases left out)' if offline else ''}"))
    else:
        console.print(Text(f"{_count(errors, 'error')}, {_count(len(rows) - errors, 'warning')}"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _tests(console: Console, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        mark = Text("ok  ", style="green") if row["ok"] else Text("FAIL", style="bold red")
        console.print(Text.assemble(mark, f" {row['policy']}: {row['sql']} → {row['got']}"))
        if not row["ok"]:
            console.print(Text(f"     expected {row['expected']}; {row['reason']}"))
    failed = sum(not row["ok"] for row in rows)
    console.print(Text(f"{len(rows) - failed} passed, {failed} failed"))
