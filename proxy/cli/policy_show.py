"""`daypass policy list`, `show`, `explain` and `snapshot`: the policies there are.

`explain` says what one would do with a statement, `snapshot` saves a catalog for places without a database.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, emit, fields, grid
from proxy.cli.policy_load import (
    CatalogOption,
    DatabaseOption,
    PolicyOption,
    judge_for,
    known_policies,
    live,
    policy_of,
)
from proxy.policy import witness
from proxy.policy.judgement import Judgement

COLOURS = {"allow": "green", "mask": "cyan", "hold": "yellow", "deny": "red"}


def list_(config: ConfigOption, output: OutputOption) -> None:
    """Lists the policies.

    Example: [bold]daypass policy list[/bold]
    """
    policies = known_policies(load_config(config))
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


def show(config: ConfigOption, output: OutputOption, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Shows one policy: its text and revision.

    Example: [bold]daypass policy show vendor-readonly[/bold]
    """
    policy = policy_of(known_policies(load_config(config)), name)
    emit(
        {"name": policy.name, "revision": policy.revision, "file": policy.file, "text": policy.text},
        output,
        lambda console: console.print(
            Text(f"# {policy.file}, revision {policy.revision[:12]}\n{policy.text.rstrip()}")
        ),
    )


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
    judgement = judge_for(config, policy, database, snapshot).judge(sql.encode("utf-8", "surrogateescape"))
    data = explained(judgement) | {"parsers": witness.seen(sql.encode("utf-8", "surrogateescape"))}
    emit(data, output, lambda console: _explain(console, sql, judgement, data))
    raise typer.Exit(0 if judgement.allowed and data["verdict"] in ("allow", "mask") else NO)


def snapshot(config: ConfigOption, database: Annotated[str, typer.Argument(metavar="DATABASE")]) -> None:
    """Prints a database's catalog as JSON, for `--catalog` where no database can be reached. It holds no data.

    Example: [bold]daypass policy snapshot app > app.catalog.json[/bold]
    """
    sys.stdout.write(live(load_config(config), database).dump().decode() + "\n")


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
    held = next((s for s in judgement.statements if s.verdict == "hold"), None)
    first = refusal or held or (judgement.statements[0] if judgement.statements else None)
    rewritten = "; ".join(s.rewritten or s.sql for s in judgement.statements)
    return {
        "verdict": judgement.verdict,
        "rule": first.rule if first else "allow",
        "reason": first.reason if first else "an empty statement",
        "rewritten": rewritten if not refusal and any(s.rewritten for s in judgement.statements) else None,
        "statements": statements,
    }


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
    for seen in data["parsers"]:
        what = ("error", "tables", "functions", "names", "strings")
        grid(
            ("", "POSTGRES'S GRAMMAR SEES", "SQLGLOT SEES"),
            [
                (key, *(", ".join(seen[parser].get(key, ())) for parser in ("postgres", "sqlglot")))
                for key in what
                if any(seen[parser].get(key) for parser in seen)
            ],
            empty="",
        )(console)
    if not judgement.statements:
        console.print(Text(f"{data['verdict']}: {data['reason']}"))
