"""`daypass config`: mistakes with their lines and exit 2, the values in force without a secret, a schema."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner, Result

from proxy.cli.main import app

runner = CliRunner()


def run(house: Path, *words: str) -> Result:
    return runner.invoke(app, ["-c", str(house / "config.yaml"), "config", *words])


def test_a_good_file(house: Path) -> None:
    assert json.loads(run(house, "check").stdout) == {"ok": True, "findings": []}
    assert "config.yaml: fine" in run(house, "check", "-o", "table").stdout


def test_mistakes_in_config_and_policies(house: Path) -> None:
    config, policy = house / "config.yaml", house / "policies" / "vendor-readonly.yaml"
    policy.write_text(policy.read_text().replace("databases: [app]", "databases: [ap]"))
    result = run(house, "check")
    assert result.exit_code == 2
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["level"], finding["key"]) == ("error", "databases")
    assert "has no database ap (did you mean app?)" in finding["message"]
    config.write_text(config.read_text().replace("port: 6432", "prot: 6432"))
    result = run(house, "check", "-o", "table")
    assert result.exit_code == 2
    assert "listen.prot: unknown key (did you mean port?)" in result.stdout


def test_warnings_are_no_errors(house: Path) -> None:
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("host: localhost", "host: db.internal"))
    result = run(house, "check", "-o", "table")
    assert result.exit_code == 0
    assert "warning:" in result.stderr
    assert "in the clear" in result.stderr


def test_show_and_schema(house: Path) -> None:
    assert yaml.safe_load(run(house, "show", "-o", "table").stdout) == json.loads(run(house, "show").stdout)
    assert "properties" in json.loads(run(house, "schema").stdout)
