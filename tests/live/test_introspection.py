"""Introspection through a running daypass: psql, pgcli, SQLAlchemy, Django, JDBC, with both kinds of credential.

What clients list works, or is refused by daypass with a reason and a hint; nothing that is allowed fails in Postgres.
No value, code, statistic or password that the policy hides is in any answer; names are not secret.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from proxy.policy.load import parse
from tests.live import backslash
from tests.live.house import House
from tests.support.postgres import Servers, bindirs, can_tls, drop_roles, fresh_database, load_shop, read_only_role

POLICY = """
name: reader
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn], mask: {email: email, phone: last4}}
  app.orders: {deny: [note]}
  app.order_items: {}
  app.products: {}
  app.events: {rows: "kind = 'kind1'"}
  app.Odd Name: {}
  app.plain: {}
  app.paired: {}
  app.products_copy: {}
  app.child: {}
functions: {allow: [app.vat]}
limits: {statement_timeout: 20s, transaction: 5m}
greeting: false
"""
SECRETS = ("XYZZY", "900-00-00", "12345678")
HERE = Path(__file__).parent
JARS = [
    Path(place)
    for place in (
        os.environ.get("PGJDBC_JAR", ""),
        "/usr/share/java/postgresql.jar",
        "/usr/share/java/postgresql-jdbc.jar",
    )
    if place and Path(place).exists()
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((bindir, mode), marks=() if (bindir, mode) == (bindirs()[0], "ephemeral") else pytest.mark.slow)
        for bindir in bindirs()
        for mode in ("shared", "ephemeral")
    ],
    ids=lambda p: f"{p[0].parent.name}-{p[1]}",
)
def hall(
    request: pytest.FixtureRequest, pg_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """A running daypass in front of a database with every kind of object."""
    bindir, mode = request.param
    server = pg_servers.get(bindir)
    load_shop(server)
    fresh_database(server, "introspection", template="shop")
    with psycopg.connect(server.dsn("introspection"), autocommit=True) as owner:
        text = (HERE / "introspection.sql").read_text().replace("role postgres", f"role {server.user}")
        owner.execute(text.encode())
    role = read_only_role(server, "introspection")
    user, password = (role, "vendor-secret") if mode == "shared" else (server.user, server.password)
    entry: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "dbname": "introspection",
        "tls": "disable",
        "credential": {"mode": mode, "user": user, "password_env": "SHOP_PASSWORD"},
    }
    house = House(tmp_path_factory.mktemp("hall"), server, policy=POLICY, databases={"shop": entry})
    house.start(password=password)
    yield house
    house.hurry()
    drop_roles(server)


def url(house: House, driver: str) -> sqlalchemy.URL:
    user, token = house.grant()
    return sqlalchemy.URL.create(f"postgresql+{driver}", user, token, "127.0.0.1", house.port, "shop")


def no_secret(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, text[max(0, text.index(secret) - 200) :][:400]


@pytest.mark.parametrize(
    "step", [20, pytest.param(5, marks=pytest.mark.thorough), pytest.param(1, marks=pytest.mark.slow)]
)
def test_every_backslash_command_works_or_is_refused_in_words(hall: House, step: int) -> None:
    wrong = []
    asked = backslash.commands(hall.pg.version)[::step]
    for shown in backslash.run(hall.pg.bindir / "psql", hall.dsn(hall.grant()), asked):
        no_secret(shown.out + shown.err)
        words = backslash.refusal_of(shown.command)
        if "\ufffd" in shown.out + shown.err:
            wrong.append(f"{shown.command}: not UTF-8: {shown.out + shown.err!r}")
        errors = [line for line in shown.err.splitlines() if "ERROR" in line]
        if words is None:
            if errors or "invalid command" in shown.err:
                wrong.append(f"{shown.command}: {' '.join(shown.err.split())[:300]}")
        elif not any(alternative in shown.err for alternative in words.split("|")) or "daypass: " not in shown.err:
            wrong.append(f"{shown.command}: not refused as {words}: {' '.join((shown.out + shown.err).split())[:300]}")
        elif "HINT" not in shown.err and not shown.command.startswith(("\\s", "\\e")):  # these print one line only
            wrong.append(f"{shown.command}: no hint: {' '.join(shown.err.split())[:300]}")
    assert not wrong, f"{len(wrong)} of {len(asked)}:\n" + "\n".join(wrong)


def test_sizes_are_those_of_what_is_shown_whole(hall: House) -> None:
    (listed,) = backslash.run(hall.pg.bindir / "psql", hall.dsn(hall.grant()), ["\\pset format unaligned\n\\dt+ *.*"])
    sizes = {line.split("|")[1]: line.split("|")[-2] for line in listed.out.splitlines() if line.count("|") > 5}
    assert sizes["products"].endswith(" kB")
    assert [sizes[name] for name in ("salaries", "customers", "orders", "pg_statistic")] == [""] * 4


def test_settings_and_roles(hall: House) -> None:
    other = hall.grant()
    with psycopg.connect(hall.dsn(hall.grant()), autocommit=True) as conn, psycopg.connect(hall.dsn(other)):
        found = conn.execute("select s.name, current_setting(s.name) from pg_settings s").fetchall()
        rows: dict[str, str] = dict(found)
        assert rows["search_path"].strip('"') == "app"
        assert conn.execute("select current_setting(%s)", ["TimeZone"]).fetchone() != (None,)
        assert conn.execute("select current_setting(%s)", ["data_directory"]).fetchone() == (None,)
        mine = conn.execute("select rolname from pg_roles where rolname like 'daypass%'").fetchall()
        assert all(row == conn.execute("select current_user").fetchone() for row in mine)


@pytest.mark.filterwarnings("ignore:Did not recognize type 'pair'")  # SQLAlchemy knows no composite types
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_sqlalchemy_inspects_and_reflects(hall: House, driver: str) -> None:
    pytest.importorskip(driver)
    seen: dict[str, Any] = {}

    def look(connection: sqlalchemy.Connection) -> None:
        inspector = sqlalchemy.inspect(connection)
        assert {"customers", "orders", "plain", "Odd Name"} <= set(inspector.get_table_names("app"))
        seen["views"] = inspector.get_view_names("app") + inspector.get_materialized_view_names("app")
        seen["others"] = [
            inspector.get_schema_names(),
            inspector.get_sequence_names("app"),
            inspector.default_schema_name,
        ]
        for what in ("columns", "pk_constraint", "foreign_keys", "indexes", "unique_constraints", "check_constraints"):
            seen[what] = getattr(inspector, f"get_multi_{what}")(schema="app")
        seen["comments"] = inspector.get_multi_table_comment(schema="app")
        seen["enums"] = [inspector.get_enums("app"), inspector.get_domains("app")]  # type: ignore[attr-defined]
        metadata = sqlalchemy.MetaData()
        metadata.reflect(connection, schema="app", views=True)
        assert "app.customers" in metadata.tables
        orders = metadata.tables["app.orders"]
        (key,) = orders.foreign_keys
        assert key.target_fullname == "app.customers.id"
        rows = connection.execute(sqlalchemy.select(metadata.tables["app.products"])).all()
        assert len(rows) == 20

    if driver == "asyncpg":

        async def run() -> None:
            engine = create_async_engine(url(hall, driver))
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(look)
            finally:
                await engine.dispose()

        asyncio.run(run())
    else:
        engine = sqlalchemy.create_engine(url(hall, driver))
        try:
            with engine.connect() as connection:
                look(connection)
        finally:
            engine.dispose()
    no_secret(repr(seen))


@pytest.mark.thorough
def test_django_inspectdb(hall: House) -> None:
    pytest.importorskip("django")
    user, token = hall.grant()
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": user,
        "PASSWORD": token,
        "HOST": "127.0.0.1",
        "PORT": hall.port,
    }
    program = (
        "import json, sys, django\nfrom django.conf import settings\n"
        "settings.configure(DATABASES={'default': json.loads(sys.argv[1])})\ndjango.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('inspectdb', '--include-partitions', '--include-views')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(database)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # Django reads a row of every table that it lists; what the policy does not show becomes a comment.
    unable = re.findall("Unable to inspect table '(.*)'\n# The error was: (.*)", done.stdout)
    readable = parse(POLICY, "test").model.tables
    assert not [name for name, error in unable if f"app.{name}" in readable or "daypass: " not in error]
    for model in ("class Customers(", "class Orders(", "class OddName(", "class Events("):
        assert model in done.stdout
    assert "models.ForeignKey" in done.stdout
    no_secret(done.stdout)


def test_pgcli(hall: House) -> None:
    pgcli = shutil.which("pgcli", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if pgcli is None:
        pytest.skip("pgcli is not installed")
    program = (
        "import sys, json\nfrom pgcli.pgexecute import PGExecute\n"
        "from pgcli.completion_refresher import CompletionRefresher\n"
        "from pgspecial.main import PGSpecial\nfrom pgcli.pgcompleter import PGCompleter\n"
        "special = PGSpecial()\n"
        "e = PGExecute(sys.argv[1], sys.argv[2], sys.argv[3], '127.0.0.1', sys.argv[4], None)\n"
        "done = []\nr = CompletionRefresher()\nr._bg_refresh(e, special, done.append, settings={'casing_file': None})\n"
        "print(json.dumps({'words': sorted(done[0].all_completions)}))\n"
        "for c in json.loads(sys.argv[5]):\n"
        "    try:\n"
        "        for title, rows, headers, status, *_ in e.run(c, special):\n"
        "            print(json.dumps([c, str(status), [[str(x) for x in row] for row in (rows or [])]]))\n"
        "    except Exception as error: print(json.dumps([c, 'failed: ' + str(error), []]))\n"
    )
    asked = [
        "\\d",
        "\\d orders",
        "\\dt",
        "\\dt app.*",
        "\\dv",
        "\\dm",
        "\\ds",
        "\\di",
        "\\dn",
        "\\l",
        "\\du",
        "\\dT",
        "\\dD",
    ]
    asked += [
        "\\dx",
        "\\dF",
        "\\db",
        "\\ddp",
        "\\dp",
        "\\dt+ app.*",
        "\\l+",
        "\\d+ orders",
        "\\dE",
        "\\dv+",
        "\\df app.*",
    ]
    user, token = hall.grant()
    done = subprocess.run(
        [sys.executable, "-c", program, "shop", user, token, str(hall.port), json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"customers", "orders", "placed_at"} <= set(lines[0]["words"])
    failed = [line for line in lines[1:] if "failed" in line[1] or "ERROR" in line[1]]
    assert not failed, failed
    no_secret(done.stdout)


@pytest.mark.skipif(not JARS or not shutil.which("java"), reason="there is no java with pgjdbc")
def test_jdbc_metadata(hall: House) -> None:
    user, token = hall.grant()
    done = subprocess.run(
        ["java", "-cp", str(JARS[0]), str(HERE / "Metadata.java"), str(hall.port), user, token],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert not failed, "\n".join(failed[:20])
    calls = {line.split()[1]: int(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("ROWS")}
    for method in ("getTables", "getColumns", "getPrimaryKeys", "getImportedKeys", "getExportedKeys", "getIndexInfo"):
        assert calls[method] > 0, method
    no_secret(done.stdout)


def test_the_table_of_commands_is_whole() -> None:
    assert len(backslash.commands(18)) > 400
    assert backslash.refusal_of("\\df") is None
    assert backslash.refusal_of("\\df+ app.*")
    assert backslash.refusal_of("\\copy customers (id, email) to '/dev/null' csv") is None
    assert can_tls(bindirs()[-1]) in (True, False)
