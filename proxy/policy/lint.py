"""What a policy says in vain, or not surely: the warnings of `policy check` beyond what does not fit the catalog.

Entries that no table reaches, functions that are allowed anyway, columns and masks that nothing shows, and expressions
that a vendor's settings move. Works on a bound policy, pure. Invariant: nothing said here changes a verdict.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from proxy.catalog import Relation
from proxy.policy import builtins
from proxy.policy.bind import READABLE_KINDS, Bound, Problem, matches, of_reviewed_extension
from proxy.policy.model import SqlMask, Table
from proxy.policy.steady import unsteady


def problems(bound: Bound) -> list[Problem]:
    """Everything that `policy check` says of a policy on one database: what does not fit it first."""
    found = [_named(bound, p) for p in bound.problems]
    relations = [
        r
        for r in bound.catalog.relations
        if r.kind in READABLE_KINDS and r.schema not in ("pg_catalog", "information_schema")
    ]
    counted = {(r.schema, r.name): entry[0] for r in relations if (entry := bound.entry(r))}
    for pattern, table in bound.policy.model.tables.items():
        mine = [r for r in relations if matches(pattern, r.schema, r.name)]
        if not mine:
            continue
        reached = [r for r in mine if counted.get((r.schema, r.name)) == pattern]
        if not reached:
            others = sorted({counted[r.schema, r.name] for r in mine})
            found.append(_warning(pattern, f"never used: {', '.join(others)} goes before it wherever it matches"))
            continue
        found += _columns(pattern, table, reached)
        found += _expressions(pattern, table, [r for r in reached if (r.schema, r.name) not in bound.refused])
    return [*found, *_functions(bound)]


def _warning(pattern: str, message: str) -> Problem:
    return Problem(pattern, message, "warning")


def _named(bound: Bound, problem: Problem) -> Problem:
    """A table that is not there, with the one that was meant."""
    if problem.message != "no table of the database matches" or any(c in problem.table for c in "*?["):
        return problem
    names = [r.qualified for r in bound.catalog.relations if r.kind in READABLE_KINDS]
    close = difflib.get_close_matches(problem.table, names, 1)
    return _warning(problem.table, f"{problem.message}{f' (did you mean {close[0]}?)' if close else ''}")


def _columns(pattern: str, entry: Table, reached: list[Relation]) -> Iterable[Problem]:
    there = {c for r in reached for c in r.columns}
    if any(c in pattern for c in "*?["):  # for a plain name this is an error of its own
        for key, names in (("columns", entry.columns or []), ("deny", entry.deny), ("mask", entry.mask)):
            for name in names:
                if name not in there:
                    yield _warning(pattern, f"{key}: no table that it matches has a column {name}")
    if entry.columns is not None:
        for name in entry.mask:
            if name in there and name not in entry.columns:
                yield _warning(pattern, f"mask: {name} is not among the columns that are shown")


def _expressions(pattern: str, entry: Table, reached: list[Relation]) -> list[Problem]:
    expressions = [("rows", entry.rows)] if entry.rows else []
    expressions += [(f"mask of {c}", m.sql) for c, m in entry.mask.items() if isinstance(m, SqlMask)]
    found: dict[str, None] = {}
    for relation in reached:
        types = dict(zip(relation.columns, relation.types, strict=True))
        for what, sql in expressions:
            found |= dict.fromkeys(f"{what}: {said}" for said in unsteady(sql, types))
    return [_warning(pattern, message) for message in found]


def _functions(bound: Bound) -> Iterable[Problem]:
    for schema, name in sorted(bound.allowed_functions):
        full = f"{schema}.{name}"
        own = [f for f in bound.catalog.functions_by_name.get(name, ()) if f.schema == schema]
        message, severity = "", "warning"
        if schema == "pg_catalog":
            known = name in bound.catalog.builtin_functions
            if known and name in builtins.FUNCTIONS:
                message = f"{full} is on the built-in list already"
            else:
                severity = "error"
                message = (
                    f"{full} stays refused: of Postgres's own functions only the built-in list runs"
                    if known
                    else f"there is no function {full} in the database"
                )
        elif own and all(map(of_reviewed_extension, own)):
            message = f"{full} is allowed already: it belongs to the extension {own[0].extension}"
        elif any(f.security_definer for f in own):
            message = f"{full} runs with its owner's rights (SECURITY DEFINER) and may read what the policy hides"
        elif any(f.volatility == "v" and not f.extension for f in own):
            message = f"{full} is VOLATILE: it may do more than read; mark it STABLE or IMMUTABLE if it does not"
        if message:
            yield Problem("", message, severity, "functions.allow")
