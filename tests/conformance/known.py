"""What is known to differ, and why. A difference that is not in this list fails the run.

An entry is a pattern (as of `fnmatch`) on the test's id, and a cause that a reader can check. What daypass could do
better does not belong here: it belongs repaired.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True, slots=True)
class Known:
    """Tests of one suite (a pattern too) that differ, and the cause; `way` is `plain`, `tls` or any."""

    suite: str
    test: str
    cause: str
    way: str = "*"


GRANT_IS_USER: Final = "compares the login's name with the server's role: the login is the grant's id"
ONE_DATABASE: Final = "connects to another database: a grant is for one, and any other is refused with 28000"
OWN_ROLE: Final = "makes a role and logs in as it: logins of daypass are grants"
NO_DATABASE: Final = (
    "names no database, which means the one with the user's name; a grant's database has a name of its own"
)
OVERTAKES: Final = "counts on an error to arrive before 4 MiB have left: with a proxy two more sockets take them in"
KEPT_BY_TLS: Final = "counts on nobody else holding its protocol object: under TLS asyncio does, directly as well"

KNOWN: Final[tuple[Known, ...]] = (
    Known("psycopg2", "tests/test_connection.py::TestConnectionInfo::test_user", GRANT_IS_USER),
    Known("asyncpg", "tests/test_cache_invalidation.py::*::test_type_cache_invalidation_in_pool", ONE_DATABASE),
    Known("asyncpg", "tests/test_introspection.py::TestIntrospection::test_introspection_*", ONE_DATABASE),
    Known("asyncpg", "tests/test_execute.py::*::test_executemany_server_failure_during_writes", OVERTAKES),
    Known("asyncpg", "tests/test_connect.py::TestConnectionGC::test_no_explicit_close_*", KEPT_BY_TLS, "tls"),
    Known("pg8000", "test/*/test_connection.py::test_password_bytes", OWN_ROLE),
    Known("pg8000", "test/*/test_connection.py::test_bytes_password", OWN_ROLE),
    Known("pg8000", "test/*/test_connection.py::testBytesPassword", OWN_ROLE),
    Known("pg8000", "test/*/auth/test_*.py::*", ONE_DATABASE),
    Known("pg8000", "test/*/test_connection.py::test_*atabase*ame*", ONE_DATABASE),
    Known("pg8000", "test/*/test_connection.py::test*Database*", ONE_DATABASE),
    Known("pg8000", "test/*/test_connection.py::test*[Mm]d5", ONE_DATABASE),
    Known("pg8000", "test/*/test_connection.py::test*[Pp]assword", ONE_DATABASE),
    Known("pg8000", "test/*/test_connection.py::test_scram_sha_256", ONE_DATABASE),
    Known("django", "backends.postgresql.*.test_nodb_cursor*", ONE_DATABASE),
    Known("django", "postgres_tests.test_signals.*.test_register_type_handlers_no_db", ONE_DATABASE),
    Known("django", "backends.postgresql.test_creation.*.test_create_test_db", ONE_DATABASE),
    Known("pg8000", "test/*/test_connection.py::test_Connection_plain_socket", NO_DATABASE),
)


def cause(suite: str, way: str, test: str, known: Iterable[Known] = KNOWN) -> str | None:
    """The cause of the first entry that fits, None where there is none."""
    return next(
        (
            each.cause
            for each in known
            if fnmatchcase(suite, each.suite) and fnmatchcase(way, each.way) and fnmatchcase(test, each.test)
        ),
        None,
    )
