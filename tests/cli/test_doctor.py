"""`daypass doctor` on a real Postgres: what is well, what to think about, what fails, and what to do."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from proxy.cli.init import make_certificate
from proxy.cli.main import app
from proxy.demo.postgres import PostgresServer
from tests.support.postgres import read_only_role

runner = CliRunner()


@pytest.fixture
def behind(house: Path, pg: PostgresServer, shop: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A house in front of a real database, with a role that can only read."""
    role = read_only_role(pg, shop)
    point(house, f"host: {pg.host}\n    port: {pg.port}", shop, role)
    monkeypatch.setenv("APP_PASSWORD", "vendor-secret")
    return house


def point(house: Path, where: str, dbname: str, role: str) -> None:
    config = house / "config.yaml"
    text = config.read_text().replace("host: localhost\n    port: 5432", where)
    config.write_text(
        text.replace("dbname: app", f"dbname: {dbname}").replace(
            "mode: ephemeral, user: daypass_admin,", f"mode: shared, user: {role},"
        )
    )


def doctor(house: Path, code: int) -> dict[str, list[dict[str, Any]]]:
    answer = runner.invoke(app, ["-c", str(house / "config.yaml"), "doctor"])
    assert answer.exit_code == code, answer.output
    checks: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(answer.stdout)["checks"]:
        if "app.leak()" not in check["found"]:  # the shop's open door has a test of its own
            checks.setdefault(check["what"], []).append(check)
    return checks


def test_an_open_security_definer_function_is_told(behind: Path) -> None:
    answer = runner.invoke(app, ["-c", str(behind / "config.yaml"), "doctor"])
    (leak,) = [check for check in json.loads(answer.stdout)["checks"] if "app.leak()" in check["found"]]
    assert (leak["level"], "database check" in leak["todo"]) == ("warn", True)


def test_all_is_well(behind: Path, pg: PostgresServer) -> None:
    checks = doctor(behind, 0)
    assert {check["level"] for found in checks.values() for check in found} == {"ok"}
    assert set(checks) == {
        *("config", "policies", "certificate", "state", "recordings", "disk", "clock", "database app")
    }
    text = runner.invoke(app, ["-c", str(behind / "config.yaml"), "-o", "table", "doctor"]).stdout
    assert "All well" in text
    assert "vendor-secret" not in text


def test_a_role_that_may_too_much(behind: Path, pg: PostgresServer, shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = behind / "config.yaml"
    config.write_text(config.read_text().replace("vendor_ro", pg.user))
    monkeypatch.setenv("APP_PASSWORD", pg.password)
    _, found = doctor(behind, 0)["database app"]
    assert (found["level"], "superuser" in found["found"]) == ("warn", True)
    with psycopg.connect(pg.dsn(shop), autocommit=True) as connection:
        connection.execute("drop role if exists scribe")
        connection.execute("create role scribe login password 'x'")
        connection.execute("grant usage on schema app to scribe")
        connection.execute("grant insert on app.orders to scribe")
        config.write_text(config.read_text().replace(f"user: {pg.user},", "user: scribe,"))
        monkeypatch.setenv("APP_PASSWORD", "x")
        _, found = doctor(behind, 0)["database app"]
        connection.execute("revoke all on app.orders from scribe")
        connection.execute("revoke all on schema app from scribe")
        connection.execute("drop role scribe")
    assert found["level"] == "warn"
    assert "scribe may write to 1 table(s), for example app.orders" in found["found"]


def test_a_role_that_makes_roles_must_be_able_to(behind: Path) -> None:
    config = behind / "config.yaml"
    config.write_text(config.read_text().replace("mode: shared", "mode: ephemeral"))
    _, found = doctor(behind, 1)["database app"]
    assert (found["level"], "may not create roles" in found["found"]) == ("fail", True)


def test_databases_that_cannot_be_reached(behind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PASSWORD", "wrong")
    (found,) = doctor(behind, 1)["database app"]
    assert (found["level"], "credential.user" in found["todo"]) == ("fail", True)
    monkeypatch.delenv("APP_PASSWORD")
    (found,) = doctor(behind, 1)["database app"]
    assert "APP_PASSWORD is not set" in found["found"]
    monkeypatch.setenv("APP_PASSWORD", "vendor-secret")
    config = behind / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("dbname: shop", "dbname: nothing"))
    (found,) = doctor(behind, 1)["database app"]
    assert found["todo"] == "check dbname"
    config.write_text(text.replace("tls: disable           #", "tls: require #"))
    (found,) = doctor(behind, 1)["database app"]
    assert "TLS" in found["todo"]


def test_files_that_are_not_as_they_should_be(house: Path) -> None:
    certificate, _ = make_certificate(["localhost"])
    (house / "tls" / "cert.pem").write_bytes(certificate)
    (house / "tls" / "key.pem").chmod(0o644)
    (house / "policies" / "bad.yaml").write_text("name: [")
    (house / "state.db").write_bytes(b"no database" * 100)
    (house / "recordings").rmdir()
    (house / "recordings").touch()
    checks = doctor(house, 1)
    texts = [check["found"] for check in checks["certificate"]]
    assert any("is not the key of" in text for text in texts)
    assert any("others may read" in text for text in texts)
    assert "bad.yaml:1" in checks["policies"][0]["found"]
    assert "not a database" in checks["state"][0]["found"]
    assert checks["recordings"][0]["level"] == "fail"


def test_the_authority_of_the_clients(house: Path) -> None:
    authority, _ = make_certificate(["clients.example"])
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("tls/key.pem", "tls/key.pem, client_ca: tls/clients.pem", 1))
    (house / "tls" / "clients.pem").write_bytes(authority)
    assert doctor(house, 1)["client certificates"][0]["level"] == "ok"
    (house / "tls" / "clients.pem").write_text("no PEM")
    assert doctor(house, 1)["client certificates"][0]["level"] == "fail"


def test_a_broken_config_is_the_one_finding(house: Path) -> None:
    (house / "config.yaml").write_text("listen: {prot: 1}\n")
    checks = doctor(house, 1)
    assert set(checks) == {"config"}
    assert len(checks["config"]) == 2  # the key, and the missing databases


def test_a_certificate_that_is_over(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import proxy.cli.doctor as module
    from proxy.clock import FakeClock

    for days, level in ((1000, "fail"), (810, "warn")):
        clock = FakeClock(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))
        monkeypatch.setattr(module, "SystemClock", lambda clock=clock: clock)
        assert doctor(house, 1)["certificate"][0]["level"] == level
