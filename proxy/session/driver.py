"""Which client library a start-up packet looks like: its fingerprint, for the record.

A library sends the same parameters in the same order whatever application uses it, and few applications know that they
could be told apart by it: an application_name is easily made up, this less so. It is a guess and proves nothing.
The known ones are in docs/reference/record.md, and a test holds those that are at hand against the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LIBRARIES: Final[tuple[tuple[str, tuple[str, ...], dict[str, str]], ...]] = (
    ("pgjdbc", ("user", "database", "client_encoding", "DateStyle", "TimeZone", "extra_float_digits"), {}),
    ("pgjdbc", ("user", "database", "client_encoding", "DateStyle", "TimeZone"), {}),
    ("asyncpg", ("client_encoding", "user", "database"), {"client_encoding": "'utf-8'"}),
    ("npgsql", ("user", "client_encoding", "database"), {"client_encoding": "UTF8"}),
    ("tokio-postgres", ("client_encoding", "user", "database"), {"client_encoding": "UTF8"}),
)
"""(library, its parameters in order, values that only it sends)."""
_LIB_PQ: Final = {"client_encoding", "datestyle", "extra_float_digits", "user", "database"}
"""Go's lib/pq sends these in any order."""
_OPTIONAL: Final = frozenset(("application_name", "options", "replication"))


def guess(parameters: Mapping[str, str]) -> str:
    """The library's name, or empty where none is known to send this."""
    order = tuple(name for name in parameters if name not in _OPTIONAL)
    for name, sent, values in _LIBRARIES:
        if order == sent and all(parameters[key] == value for key, value in values.items()):
            return name
    if set(order) == _LIB_PQ and parameters["extra_float_digits"] == "2":
        return "lib/pq"
    return "libpq" if order[:2] == ("user", "database") and set(order[2:]) <= {"client_encoding"} else ""
