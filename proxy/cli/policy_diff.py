"""`daypass policy diff A B`: what policy B would newly allow or refuse compared with A, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.catalog import Catalog
from proxy.cli.options import DEFAULT, ConfigOption, OutputOption, load_config
from proxy.cli.output import USAGE, emit, fail, note
from proxy.cli.policy_load import CatalogOption, DatabaseOption, is_file, known_policies, policy_or_file, reach, saved
from proxy.config import Config
from proxy.policy.bind import Bound
from proxy.policy.compare import Change, compare, compare_on
from proxy.policy.model import Policy

_MARKS = {"allows": ("+", "green", "newly allowed"), "refuses": ("-", "red", "newly refused"),
          "changes": ("~", "yellow", "changed")}  # fmt: skip
_MANY = 6  # tables of which the same is said are named up to this number


def diff(
    config: ConfigOption,
    output: OutputOption,
    a: Annotated[str, typer.Argument(metavar="A", help="A policy's name or a file; - is standard input.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, for the policy that it is compared with.")],
    database: DatabaseOption = None,
    snapshot: CatalogOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Compare what is declared, without a catalog.")] = False,
) -> None:
    """Says what policy B would newly allow or refuse compared with A. Exit code 0, also where they differ.

    On the live catalog of the databases that both name, or on --catalog; where none can be reached, as declared.

    Example: [bold]git show HEAD:policies/sales.yaml | daypass policy diff - policies/sales.yaml[/bold]
    """
    cfg = _config(config, needed=not (is_file(a) and is_file(b)) or database is not None)
    policies = known_policies(cfg) if cfg is not None and not (is_file(a) and is_file(b)) else None
    if a == b == "-":
        fail(USAGE, "only one of the two policies can be standard input")
    first, second = policy_or_file(policies, a), policy_or_file(policies, b)
    rows: list[dict[str, Any]] = []
    for place, found in _catalogs(cfg, first, second, database, snapshot, offline=offline).items():
        changes = compare(first, second) if found is None else compare_on(Bound(first, found), Bound(second, found))
        rows += _rows(place, changes)
    emit(_merged(rows), output, lambda console: _show(console, _merged(rows), a, b))


def _config(config: Path, *, needed: bool) -> Config | None:
    """The configuration; two files can be compared without one."""
    return None if not needed and config == DEFAULT and not config.exists() else load_config(config)


def _catalogs(
    cfg: Config | None, first: Policy, second: Policy, database: str | None, snapshot: Path | None, *, offline: bool
) -> dict[str, Catalog | None]:
    """The catalogs to compare on by database; None where only what is declared can be compared."""
    if snapshot is not None:
        known = saved(snapshot)
        return {database or known.database: known}
    if cfg is None or offline:
        return {"": None}
    if database is not None and database not in cfg.databases:
        fail(USAGE, f"there is no database {database!r} in {cfg.file.name}", f"there are: {', '.join(cfg.databases)}")
    both = [d for d in second.databases if d in first.databases and d in cfg.databases]
    found: dict[str, Catalog | None] = {}
    for place in [database] if database else both:
        known_, problem = reach(cfg, place)
        if known_ is None:
            note(f"{place} cannot be reached, so the policies are compared as declared: {problem}")
            return {"": None}
        found[place] = known_
    return found or {"": None}


def _rows(database: str, changes: list[Change]) -> list[dict[str, Any]]:
    return [{"what": c.what, "effect": c.effect, "text": c.text, "databases": [database]} for c in changes]


def _merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What holds on several databases, once."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["what"], row["effect"], row["text"])
        if key in found:
            found[key]["databases"] += row["databases"]
        else:
            found[key] = {**row, "databases": list(row["databases"])}
    for row in found.values():
        row["databases"] = [d for d in row["databases"] if d]
    return list(found.values())


def _show(console: Console, rows: list[dict[str, Any]], a: str, b: str) -> None:
    places = {tuple(row["databases"]) for row in rows}
    everywhere = max(places, key=len, default=())
    if not rows:
        console.print(Text(f"{b} allows and refuses what {a} does."))
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=48)
    table.add_column(overflow="fold")
    for effect, (mark, colour, _) in _MARKS.items():
        for (text, where), names in _alike(rows, effect, everywhere).items():
            said = ", ".join(names[:_MANY]) + (f" and {len(names) - _MANY} more" if len(names) > _MANY else "")
            table.add_row(Text(mark, colour), _plain(said), _plain(text + where))
    if not console.is_terminal:
        console.width = 1000
    console.print(table, soft_wrap=False)
    counts = [f"{sum(r['effect'] == e for r in rows)} {word}" for e, (_, _, word) in _MARKS.items()]
    on = f", on {', '.join(everywhere)}" if everywhere else ", as declared"
    console.print(Text(f"{', '.join(counts)} in {b}{on}"))


def _alike(rows: list[dict[str, Any]], effect: str, everywhere: tuple[str, ...]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["effect"] == effect:
            where = "" if tuple(row["databases"]) == everywhere else f" (on {', '.join(row['databases'])})"
            found.setdefault((row["text"], where), []).append(row["what"])
    return found


def _plain(text: str) -> Text:
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
