"""`daypass policy suggest`: the least policy that what a grant or a session did needs, as a diff.

Reads recordings, the grant and the live catalog; writes nothing. What it prints was loaded, bound and tested against
the same statements before.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, USAGE, emit, fail, note, warn
from proxy.cli.policy_load import (
    CatalogOption,
    DatabaseOption,
    grants,
    known_policies,
    live,
    policy_of,
    saved,
    sessions,
    shown_path,
    statements,
)
from proxy.config import Config
from proxy.policy import suggest as least
from proxy.policy.backtest import Backtest, Recorded, shape_of
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from proxy.policy.model import Policy
from recorder import index
from recorder.index import NotFoundError

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def suggest(
    config: ConfigOption,
    output: OutputOption,
    grant: Annotated[str | None, typer.Option("--grant", metavar="GRANT", help="What this grant did.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="What was done in this session; its id or beginning.")
    ] = None,
    database: DatabaseOption = None,
    snapshot: CatalogOption = None,
) -> None:
    """Prints the least policy that the recorded use needed, as a diff against the grant's policy.

    Tables, columns and functions that were not used go; masks, row filters and limits stay.

    For a grant that only observed it writes the tables that were read. Exit code 1 where nothing was recorded.

    Example: [bold]daypass policy suggest --grant g-7k3m9x2q -o table > least.patch[/bold]
    """
    cfg = load_config(config)
    found = _sessions(cfg, grant, session)
    policy = _policy(cfg, found[0])
    place = database or found[0].database or policy.databases[0]
    ran = [s for s in statements(found) if s.ran]
    if not ran:
        fail(NO, "no statement was recorded that ran", "daypass session list shows what there is")
    catalog = saved(snapshot) if snapshot else live(cfg, place)
    suggestion = least.suggest(policy, catalog, [s.sql.encode("utf-8", "surrogateescape") for s in ran])
    name = _file(policy)
    for text in suggestion.notes:
        note(text)
    _uncovered(suggestion, ran)
    _prove(policy, suggestion, catalog, ran)
    data: dict[str, Any] = {
        "grant": found[0].grant, "sessions": [s.session for s in found], "database": place, "policy": policy.name,
        "policy_revision": policy.revision, "statements": len(ran), "diff": suggestion.diff(policy, name),
        "yaml": suggestion.text, "notes": list(suggestion.notes),
        "uncovered": [
            {"statement": shape_of(u.sql.decode("utf-8", "surrogateescape")), "rule": u.rule, "reason": u.reason}
            for u in suggestion.uncovered
        ],
    }  # fmt: skip
    emit(data, output, lambda console: _show(console, data["diff"], len(ran), policy))


def _sessions(cfg: Config, grant: str | None, session: str | None) -> list[index.Session]:
    if (grant is None) == (session is None):
        fail(USAGE, "give --grant GRANT or --session ID", "daypass session list shows both")
    if session is not None:
        try:
            return [index.find(cfg.recording.dir, session)]
        except NotFoundError as error:
            fail(USAGE, str(error), "daypass session list shows what is there")
    found = sessions(cfg, grant=grant)
    if not found:
        fail(NO, f"no session of the grant {grant} was recorded", "daypass session list shows what there is")
    return found


def _policy(cfg: Config, session: index.Session) -> Policy:
    """The revision that the grant pins; else the file of the policy's name."""
    grant = grants(cfg).get(session.grant or "")
    if grant is None:
        warn(f"the grant {session.grant} is not in the state any more; the policy file as it is now is taken")
        return policy_of(known_policies(cfg), session.policy or "")
    policies = known_policies(cfg)
    current = policies.get(grant.policy) if grant.policy in policies.names() else None
    if current is not None and current.revision == grant.policy_revision:
        return current
    note("the policy file has changed since the grant was made; the diff is against the grant's own revision")
    return parse(grant.policy_text, current.file if current else f"{grant.policy}.yaml")


def _file(policy: Policy) -> str:
    """The policy's file as `git apply` is to find it from here."""
    path = shown_path(policy.file)
    return Path(path).name if Path(path).is_absolute() else path


def _uncovered(suggestion: least.Suggestion, ran: list[Recorded]) -> None:
    """Says what ran and stays out, by shape."""
    counts = Counter(one.sql for one in ran)
    shapes: dict[tuple[str, str], int] = {}
    for u in suggestion.uncovered:
        text = u.sql.decode("utf-8", "surrogateescape")
        key = (shape_of(text), f"{u.rule}: {u.reason}")
        shapes[key] = shapes.get(key, 0) + counts[text]
    for (shape, why), count in sorted(shapes.items(), key=lambda item: -item[1]):
        warn(f"not covered, {count} time{'' if count == 1 else 's'}: {shape[:200]}\n{why}")


def _prove(policy: Policy, suggestion: least.Suggestion, catalog: Any, ran: list[Recorded]) -> None:
    """Test what is about to be printed on the statements that it came from."""
    known = Judge(policy, catalog)
    test = Backtest(Judge(parse(suggestion.text, "the suggestion"), catalog), lambda _: known)
    out = {u.sql for u in suggestion.uncovered}
    covered = [s for s in ran if s.sql.encode("utf-8", "surrogateescape") not in out]
    report = test.run(covered)
    for change in report.changes:
        if change.effect == "refused":
            warn(f"it would refuse {change.statement[:200]}\n{change.rule}: {change.reason}")


def _show(console: Console, diff: str, count: int, policy: Policy) -> None:
    for line in diff.splitlines():
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
        console.print(Text(shown, style=_COLOURS.get(line[:1], "")))
    if not diff:
        note(f"{count} recorded statements need all of {policy.name}: nothing to take away")
    else:
        note(f"from {count} recorded statements; limits, window and approvals stay as they are")
