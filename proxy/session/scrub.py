"""Error texts carry data: what of an upstream's error or notice the client may read.

`invalid input syntax for type numeric: "900-00-0001"` tells a value that a mask was made from. Where a statement
touches what the policy hides in part, or runs code that daypass cannot see into, a text is passed on only when it is
one that Postgres writes about the statement itself; of the others SQLSTATE, severity and position stay.
Sources: PostgreSQL manual, "PostgreSQL Error Codes", "Error and Notice Message Fields"; CVE-2014-8161, CVE-2021-3393.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.wire import upstream

ABOUT_THE_STATEMENT: Final = frozenset(
    ("08", "0A", "25", "26", "28", "34", "3D", "3F", "40", "42", "53", "54", "55", "57")
)
"""SQLSTATE classes whose texts name what the statement names, a state or a resource, and never a row's value."""
PLAIN: Final = frozenset(map(ord, "SVCMPFLR"))
"""Fields that stay in a scrubbed message; left out are detail, hint, context, inner query and names of objects."""
RAISED: Final = b"exec_stmt_raise"
"""The routine of PL/pgSQL's RAISE, which gives any text under any SQLSTATE."""
TEMPLATES: Final = re.compile(
    r"""(division\ by\ zero
    |(?:smallint|integer|bigint|numeric\ field|timestamp|interval|date)\ (?:out\ of\ range|overflow)
    |value\ overflows\ numeric\ format
    |(?:invalid\ input\ syntax\ for\ type\ (?:[a-z_]+\ ?)+)(?=:\ |\Z)
    |cannot\ take\ (?:logarithm\ of\ (?:zero|a\ negative\ number)|square\ root\ of\ a\ negative\ number)
    |more\ than\ one\ row\ returned\ by\ a\ subquery\ used\ as\ an\ expression
    |(?:LIMIT|OFFSET)\ must\ not\ be\ negative
    |negative\ substring\ length\ not\ allowed
    |invalid\ regular\ expression
    |date/time\ field\ value\ out\ of\ range(?=:\ )
    |input\ is\ out\ of\ range
    |bind\ message\ supplies\ \d+\ parameters,\ but\ prepared\ statement\ "[^"]*"\ requires\ \d+\Z)""",
    re.X,
)
"""Beginnings of Postgres's own texts that say what went wrong without the value that it went wrong with."""
WITHHELD: Final = "the database reported an error whose text is withheld: it may hold values that this policy hides"
WITHHELD_NOTICE: Final = "a message of the database is withheld: it may hold values that this policy hides"


NAMES_ONLY: Final = frozenset(
    (
        "08006", "25006", "25P02", "40001", "40P01", "42501", "42702", "42703", "42704", "42803", "42883", "42P01",
        "42P02", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "57P05",
    )
)  # fmt: skip
"""SQLSTATEs whose texts repeat names at the most, and no constant of the statement either."""
NOT_KEPT: Final = "(not kept: it may repeat values)"


def bare(body: bytes) -> bytes:
    """The field list for a record that holds no values."""
    return scrub(body, notice=True, about=NAMES_ONLY, withheld=NOT_KEPT)


def scrub(
    body: bytes,
    *,
    notice: bool = False,
    about: frozenset[str] = ABOUT_THE_STATEMENT,
    withheld: str = "",
) -> bytes:
    """The field list that the client may read, of an ErrorResponse or NoticeResponse of such a statement."""
    fields = upstream.fields(body)
    values = dict(fields)
    if ord("M") not in values:  # too long to be held whole
        fields.append((ord("M"), b""))
    of_code = ord("W") in values or values.get(ord("R")) == RAISED
    code = values.get(ord("C"), b"").decode("ascii", "replace")
    if not of_code and (code[:2] in about or code in about):
        return body
    found = None if of_code else TEMPLATES.match(values.get(ord("M"), b"").decode("utf-8", "replace"))
    text = found[1] if found else withheld or (WITHHELD_NOTICE if notice else f"daypass: {WITHHELD}")
    parts = [
        bytes((field,)) + (text.encode() if field == ord("M") else value) + b"\0"
        for field, value in fields
        if field in PLAIN
    ]
    return b"".join(parts) + b"\0"
