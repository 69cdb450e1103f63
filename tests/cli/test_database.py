"""`daypass database check` and `release`, as a person calls them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.demo.postgres import PostgresServer
from tests.support import command
from tests.support.postgres import drop_roles, fresh_database, load_shop

POLICY = "name: reader\ndatabases: [shop]\ntables: {app.customers: {deny: [ssn]}, app.orders: {}}\n"


@pytest.fixture
def folder(tmp_path: Path, pg: PostgresServer) -> Iterator[Path]:
    database = fresh_database(pg, template=load_shop(pg, "exposure_template"))
    entry = {
        "host": pg.host,
        "port": pg.port,
        "dbname": database,
        "tls": "disable",
        "credential": {"mode": "ephemeral", "user": pg.user, "password_env": "SHOP_PASSWORD"},
    }
    config = {"databases": {"shop": entry}, "listen": {"tls": {"mode": "disable"}}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "reader.yaml").write_text(POLICY)
    (tmp_path / "database").write_text(database)
    yield tmp_path
    drop_roles(pg)


def daypass(folder: Path, pg: PostgresServer, *words: str) -> subprocess.CompletedProcess[str]:
    return command.daypass("-c", folder / "config.yaml", *words, env={**os.environ, "SHOP_PASSWORD": pg.password})


def test_check_says_what_could_reach_hidden_data(folder: Path, pg: PostgresServer) -> None:
    done = daypass(folder, pg, "database", "check", "shop", "-o", "json")
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    (leak,) = [f for f in answer["findings"] if f["severity"] == "warning"]
    assert leak["sql"] == ["REVOKE EXECUTE ON FUNCTION app.leak() FROM PUBLIC;"]
    assert daypass(folder, pg, "database", "check", "shpo").returncode == 2


def test_release_lets_the_owner_alter_a_table(folder: Path, pg: PostgresServer) -> None:
    options = (
        "--person",
        "p",
        "--vendor",
        "v",
        "--database",
        "shop",
        "--policy",
        "reader",
        "--for",
        "1h",
        "--reason",
        "r",
    )
    made = daypass(folder, pg, "grant", "create", *options, "-o", "json")
    assert made.returncode == 0, made.stderr
    database = (folder / "database").read_text()
    with psycopg.connect(pg.dsn(database), autocommit=True) as owner:
        alter = "alter table app.customers alter column phone type varchar(99)"
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            owner.execute(alter)
        assert (
            json.loads(daypass(folder, pg, "database", "release", "shop", "--table", "app.orders").stdout)["dropped"]
            == []
        )
        (view,) = json.loads(daypass(folder, pg, "database", "release", "shop", "--table", "app.customers").stdout)[
            "dropped"
        ]
        assert view.startswith("customers_")
        owner.execute(alter)
