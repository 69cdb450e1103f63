"""The suites: where their tests come from, what they need, how they are run and told where to connect.

A suite is data and two small functions. Its tests come from the source package of the same version as the driver, so
that tests and driver fit; versions are pinned, because a figure is only worth something if it can be measured again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

INSIDE: Final = Path(__file__).with_name("inside")
"""Plugins for the suites' own runners; they run in the suites' environments and import nothing of daypass."""
PYTEST: Final = ("pytest==8.4.2", "pytest-timeout==2.4.0")
SECONDS_PER_TEST: Final = 120


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect: directly, or to daypass. `logins` are user and password for each database.

    `contrib`: the server has the extensions that Postgres itself brings, which is a package of its own.
    """

    way: str
    host: str
    port: int
    tls: bool
    logins: Mapping[str, tuple[str, str]]
    contrib: bool

    def libpq(self, database: str) -> dict[str, str]:
        """The environment variables that libpq and those who imitate it read."""
        user, password = self.logins[database]
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": database,
            "PGUSER": user,
            "PGPASSWORD": password,
            "PGSSLMODE": "require" if self.tls else "disable",
        }

    def url(self, database: str, driver: str) -> str:
        """A URL as SQLAlchemy reads it."""
        user, password = self.logins[database]
        return f"postgresql+{driver}://{user}:{password}@{self.host}:{self.port}/{database}"


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite. `command` gets its Python, the place and what to run; an empty list means all of it."""

    name: str
    source: str
    keep: tuple[str, ...]
    """What of the source package is unpacked; the driver itself must not lie beside its tests."""
    installs: tuple[str, ...]
    databases: tuple[str, ...]
    command: Callable[[Path, Place, Sequence[str]], list[str]]
    environment: Callable[[Place], dict[str, str]]
    folder: str = "."
    """Where it is run, inside what was unpacked."""
    prepare: tuple[str, ...] = ()
    """Run as superuser in each of its databases, before each run; what a server does not have is left out."""
    minutes: int = 20
    every: Callable[[str], str] = field(default=lambda test: test.partition("::")[0])
    """What to run to run a test again: its file, because some suites make the names of their tests as they go."""


def _pytest(python: Path, tests: Sequence[str], *more: str) -> list[str]:
    return [
        *(str(python), "-m", "pytest", "-q", "-p", "conformance_pytest", "-p", "no:cacheprovider"),
        *("--timeout", str(SECONDS_PER_TEST), "--tb", "short", *more, *tests),
    ]


def _psycopg2() -> Suite:
    def environment(place: Place) -> dict[str, str]:
        user, password = place.logins["psycopg2_test"]
        return {
            "PSYCOPG2_TESTDB": "psycopg2_test",
            "PSYCOPG2_TESTDB_HOST": place.host,
            "PSYCOPG2_TESTDB_PORT": str(place.port),
            "PSYCOPG2_TESTDB_USER": user,
            "PSYCOPG2_TESTDB_PASSWORD": password,
            "PSYCOPG2_TEST_REPL_DSN": "",  # the same as the others
            "PGSSLMODE": "require" if place.tls else "disable",
        }

    return Suite(
        name="psycopg2",
        source="psycopg2==2.9.13",
        keep=("tests",),
        installs=("psycopg2-binary==2.9.13", *PYTEST),
        databases=("psycopg2_test",),
        prepare=("create extension hstore",),
        command=lambda python, place, tests: _pytest(python, tests or ["tests"], "-k", "not test_suite"),
        environment=environment,
    )


def _asyncpg() -> Suite:
    return Suite(
        name="asyncpg",
        source="asyncpg==0.32.0",
        keep=("tests",),
        installs=("asyncpg==0.32.0", "uvloop", "distro", *PYTEST),
        databases=("postgres",),  # its tests name it
        command=lambda python, place, tests: _pytest(python, tests or ["tests"]),
        environment=lambda place: place.libpq("postgres"),
    )


def _pg8000() -> Suite:
    # Its fixtures know the user `postgres` only; the plugin puts the right one into them.
    return Suite(
        name="pg8000",
        source="pg8000==1.31.6",
        keep=("test", "README.md"),
        installs=("pg8000==1.31.6", "pytest-mock", "pytest-benchmark", "pytz", *PYTEST),
        databases=("pg8000_test",),
        prepare=("create extension hstore",),
        command=lambda python, place, tests: _pytest(python, tests or ["test"], "--benchmark-disable"),
        environment=lambda place: place.libpq("pg8000_test"),
    )


def _sqlalchemy(driver: str, package: str) -> Suite:
    return Suite(
        name=f"sqlalchemy-{driver}",
        source="sqlalchemy==2.1.9",
        keep=("test", "lib", "setup.cfg", "pyproject.toml"),
        installs=("sqlalchemy[asyncio]==2.1.9", package, *PYTEST),
        databases=("sqlalchemy_test",),
        prepare=(
            "create extension hstore",
            "create extension citext",
            "create schema test_schema",
            "create schema test_schema_2",
        ),
        command=lambda python, place, tests: _pytest(
            python,
            tests or ["test/dialect/postgresql", "test/dialect/test_suite.py"],
            "--dburi",
            place.url("sqlalchemy_test", driver),
        ),
        environment=lambda place: place.libpq("sqlalchemy_test"),
    )


DJANGO_LABELS: Final = (
    *("aggregation", "annotations", "backends", "basic", "bulk_create", "constraints", "datatypes", "dates"),
    *("db_functions", "delete", "expressions", "get_or_create", "indexes", "inspectdb", "introspection", "lookup"),
    *("migrations", "model_fields", "postgres_tests", "prefetch_related", "queries", "raw_query", "schema"),
    *("select_for_update", "timezones", "transaction_hooks", "transactions"),
)


def _django() -> Suite:
    def environment(place: Place) -> dict[str, str]:
        databases = {
            alias: {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": place.host,
                "PORT": str(place.port),
                "NAME": f"django_{alias}",
                "USER": place.logins[f"django_{alias}"][0],
                "PASSWORD": place.logins[f"django_{alias}"][1],
                "OPTIONS": {"sslmode": "require" if place.tls else "disable"},
                "TEST": {"NAME": f"django_{alias}"},
            }
            for alias in ("default", "other")
        }
        return {"CONFORMANCE_DATABASES": json.dumps(databases)}

    return Suite(
        name="django",
        source="Django==5.2.19",
        keep=("tests",),
        installs=("Django==5.2.19", "psycopg[binary]==3.3.9", "jinja2", "tblib"),
        databases=("django_default", "django_other"),
        prepare=('create collation "sv-x-icu" from "C"',),  # for servers without ICU
        folder="tests",
        command=lambda python, place, tests: [
            *(str(python), "runtests.py", "--settings", "conformance_django", "--keepdb", "--noinput"),
            *(
                "--parallel",
                "1",
                *(tests or (DJANGO_LABELS if place.contrib else sorted(set(DJANGO_LABELS) - {"postgres_tests"}))),
            ),
        ],
        environment=environment,
        minutes=40,
        every=lambda test: test.partition(".")[0],
    )


SUITES: Final[tuple[Suite, ...]] = (
    _psycopg2(),
    _asyncpg(),
    _pg8000(),
    _sqlalchemy("psycopg2", "psycopg2-binary==2.9.13"),
    _sqlalchemy("asyncpg", "asyncpg==0.32.0"),
    _sqlalchemy("psycopg", "psycopg[binary]==3.3.9"),
    _django(),
)
