"""Masks as SQL: what a vendor sees in place of a value. Postgres computes them; every name in them is qualified.

A mask keeps its column's type, reads nothing but its column, never fails, and is not volatile.
"""

from __future__ import annotations

import re

from proxy.policy.builtins import quote

TEXTUAL = re.compile(r"(?:text|character varying(?:\(\d+\))?|character(?:\(\d+\))?|name|(?:\w+\.)?citext)\Z")
DATED = re.compile(r"(?:date|timestamp(?:\(\d\))? (?:with|without) time zone)\Z")


def fits(mask: str, type_name: str) -> bool:
    """Whether a mask keeps a column of this type (as pg_catalog.format_type prints it)."""
    if mask == "null":
        return True
    return (DATED if mask == "year" else TEXTUAL).match(type_name) is not None


def that_fit(type_name: str) -> list[str]:
    """The masks that keep a column's type, for an error text."""
    return [mask for mask in ("null", "redact", "email", "last4", "hash", "year") if fits(mask, type_name)]


def expression(mask: str, column: str, type_name: str, key: str) -> str:
    """The SQL of one mask over one column. `key` (hex) is that of `hash`."""
    raw = quote(column)
    text = f"{raw}::pg_catalog.text"
    if mask == "null":
        return f"NULL::{type_name}"
    if mask == "redact":
        body = f"CASE WHEN {raw} IS NOT NULL THEN '***' END"
    elif mask == "email":
        body = (
            f"pg_catalog.left({text}, 1) OPERATOR(pg_catalog.||) '***@' OPERATOR(pg_catalog.||) "
            f"pg_catalog.split_part({text}, '@', -1)"
        )
        found = f"pg_catalog.strpos({text}, '@') OPERATOR(pg_catalog.>) 0"
        body = f"CASE WHEN {found} THEN {body} WHEN {raw} IS NOT NULL THEN '***' END"
    elif mask == "last4":
        body = (
            f"pg_catalog.repeat('*', pg_catalog.length({text}) OPERATOR(pg_catalog.-) 4) "
            f"OPERATOR(pg_catalog.||) pg_catalog.right({text}, 4)"
        )
    elif mask == "hash":
        keyed = f"pg_catalog.convert_to('{key}' OPERATOR(pg_catalog.||) {text}, 'UTF8')"
        body = f"pg_catalog.encode(pg_catalog.sha256({keyed}), 'hex')"
    else:
        body = f"pg_catalog.date_trunc('year', {raw}::pg_catalog.timestamp)"
        if type_name.endswith("with time zone"):
            body = f"pg_catalog.date_trunc('year', {raw}, 'UTC')"
    return f"({body})::{type_name}"
