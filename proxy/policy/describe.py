"""What a policy shows, in words for the person whose access it is: `SHOW daypass.scope` says it."""

from __future__ import annotations

from proxy.policy.bind import Bound

SYSTEM = ("pg_catalog", "information_schema")


def scope(bound: Bound) -> list[str]:
    """A line for each relation outside of the catalogs: `app.customers (id, name, email masked); some rows`."""
    return [_line(bound, key) for key in sorted(bound.relations) if key[0] not in SYSTEM]


def _line(bound: Bound, key: tuple[str, str]) -> str:
    shown = bound.relations[key]
    found = bound.entry(shown.relation)
    mask, rows = (found[1].mask, found[1].rows) if found else ({}, None)
    columns = ", ".join(f"{column} masked" if column in mask else column for column in shown.columns)
    return f"{shown.relation.qualified} ({columns})" + ("; some rows" if rows is not None else "")
