"""config.yaml: what stands in it, every mistake with its line, and no secret in any message."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from proxy.config import Config, ConfigError, is_loopback, load, not_yet, schema, warnings

ROOT = Path(__file__).parents[1]
GOOD = """\
listen:
  tls: {mode: disable}
databases:
  app:
    host: 127.0.0.1
    tls: disable
    credential: {mode: shared, user: reader, password_env: TEST_PASSWORD}
"""


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text))
    return [str(finding).removeprefix(f"{folder}/") for finding in caught.value.findings]


def test_defaults_and_paths_beside_the_file(tmp_path: Path) -> None:
    config = load(write(tmp_path))
    assert (config.listen.host, config.listen.port, config.metrics.port) == ("127.0.0.1", 6432, 9187)
    assert config.state == f"sqlite:///{tmp_path}/state.db"
    assert (config.policies, config.recording.dir) == (tmp_path / "policies", tmp_path / "recordings")
    assert config.databases["app"].dbname == "app"
    assert (config.recording.durability, config.recording.results, config.workers) == ("write", "counts", 1)
    assert (config.login_timeout, config.drain_timeout, config.limits.statement_bytes) == (10.0, 10.0, 1 << 20)


def test_a_relative_config_path_starts_at_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load(Path("config.yaml")).state == f"sqlite:///{tmp_path}/state.db"


def test_json_with_an_absolute_state(tmp_path: Path) -> None:
    data = {
        "listen": {"host": "127.0.0.1", "port": 7000, "tls": {"mode": "disable"}},
        "state": f"sqlite:///{tmp_path}/other.db",
        "policies": str(tmp_path / "p"),
        "databases": {"a": {"host": "::1", "credential": {"mode": "ephemeral", "user": "u"}}},
    }
    config = load(write(tmp_path, json.dumps(data, indent=1)))
    assert config.state == f"sqlite:///{tmp_path}/other.db"
    assert config.policies == tmp_path / "p"
    assert config.databases["a"].credential.password() == ""


def test_several_mistakes_at_once_each_with_line_and_nearest_key(tmp_path: Path) -> None:
    text = """\
listen:
  prot: 1
  tls: {mode: requires}
databases:
  app:
    host: db
    port: 70000
    tls: verify_full
    credential: {mode: shared, user: x, password: s3cret}
  other: {credential: {mode: shared, user: 5}}
recordings: {}
login_timeout: 10
"""
    assert mistakes(tmp_path, text) == [
        "config.yaml:2: listen.prot: unknown key (did you mean port?)",
        "config.yaml:3: listen.tls.mode: expected require, allow or disable (did you mean require?)",
        "config.yaml:7: databases.app.port: must be 65535 or less",
        "config.yaml:8: databases.app.tls: expected verify-full, verify-ca, require or disable "
        "(did you mean verify-full?)",
        "config.yaml:9: databases.app.credential.password: a secret does not stand in a file: "
        "write password_env or password_file",
        "config.yaml:10: databases.other.host: is missing and has no default",
        "config.yaml:10: databases.other.credential.user: a text was expected "
        "(quote it when it looks like a number or a date)",
        "config.yaml:11: recordings: unknown key (did you mean recording?)",
        "config.yaml:12: login_timeout: a duration was expected, for example 10s or 10m",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("listen: []\n", "config.yaml:8: listen: a table of keys was expected"),
        ("workers: 0\n", "config.yaml:8: workers: must be 1 or more"),
        ("workers: many\n", "config.yaml:8: workers: a whole number was expected"),
        ("state: redis://x\n", "config.yaml:8: state: expected sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("state: postgresql://host\n", "config.yaml:8: state: the database's name is missing"),
        ("recording: {results: sample}\n", "config.yaml:8: recording.results: expected"),
        ("limits: {statement_bytes: 1MB}\n", "config.yaml:8: limits.statement_bytes: '1MB' is not a size"),
        ("drain_timeout: 2d\n", "config.yaml:8: drain_timeout: must be 1d or less"),
    ],
)
def test_single_mistakes(tmp_path: Path, change: str, message: str) -> None:
    text = GOOD.replace("listen:\n  tls: {mode: disable}\n", "\n\n") if change.startswith("listen") else GOOD
    found = mistakes(tmp_path, text + change)
    assert found[0].startswith(message)


def test_plain_tls_only_on_loopback(tmp_path: Path) -> None:
    text = GOOD.replace("listen:\n", "listen:\n  host: 0.0.0.0\n")
    (found,) = mistakes(tmp_path, text)
    assert found.startswith("config.yaml:3: listen.tls.mode: disable is for loopback only")
    assert "cert" in mistakes(tmp_path, GOOD.replace("disable", "allow", 1))[0]
    for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "/run/postgresql"):
        assert is_loopback(host), host
    for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "db", ""):
        assert not is_loopback(host), host


def test_files_that_are_not_there(tmp_path: Path) -> None:
    text = GOOD.replace("{mode: disable}", "{cert: tls/cert.pem, key: tls/key.pem}").replace(
        "tls: disable", "ca: ca.pem"
    )
    assert mistakes(tmp_path, text) == [
        f"config.yaml:2: listen.tls.cert: there is no file {tmp_path}/tls/cert.pem",
        f"config.yaml:2: listen.tls.key: there is no file {tmp_path}/tls/key.pem",
        f"config.yaml:6: databases.app.ca: there is no file {tmp_path}/ca.pem",
    ]
    with pytest.raises(ConfigError, match="daypass init DIR"):
        load(tmp_path / "none.yaml")


def test_names_that_no_client_could_ask_for(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, GOOD.replace("  app:", "  'a b/c':"))
    assert found.startswith("config.yaml:4: databases.a b/c: a database's name has 1 to 63 characters")
    assert mistakes(tmp_path, "databases: {}\n") == ["config.yaml:1: databases: must not be empty"]
    assert mistakes(tmp_path, "") == ["config.yaml:1: databases: is missing and has no default"]
    assert mistakes(tmp_path, "- a\n") == ["config.yaml:1: a table of keys was expected"]


def test_secrets_are_read_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = load(write(tmp_path)).databases["app"].credential
    monkeypatch.delenv("TEST_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match=r"config.yaml:7: .*password_env: the environment variable TEST_PASSWORD"):
        credential.password()
    monkeypatch.setenv("TEST_PASSWORD", "s3cret")
    assert credential.password() == "s3cret"
    monkeypatch.setenv("TEST_PASSWORD", "")
    assert credential.password() == ""
    credential = (
        load(write(tmp_path, GOOD.replace("password_env: TEST_PASSWORD", "password_file: p")))
        .databases["app"]
        .credential
    )
    with pytest.raises(ConfigError, match=r"password_file: .*/p cannot be read"):
        credential.password()
    (tmp_path / "p").write_text("from a file\n")
    assert credential.password() == "from a file"
    both = GOOD.replace("password_env: TEST_PASSWORD", "password_env: A, password_file: p")
    assert "not both" in mistakes(tmp_path, both)[0]


def test_no_message_repeats_a_value(tmp_path: Path) -> None:
    text = GOOD.replace("password_env: TEST_PASSWORD", "password: hunter2, token: hunter2") + "key: hunter2\n"
    assert "hunter2" not in "\n".join(mistakes(tmp_path, text))


def test_what_works_and_deserves_a_thought(tmp_path: Path) -> None:
    text = GOOD.replace("host: 127.0.0.1", "host: db.internal") + "state: postgresql://u:hunter2@h/d?password=hunter2\n"
    config = load(write(tmp_path, text))
    found = [str(finding) for finding in warnings(config)]
    assert [f.split(": ")[1] for f in found] == ["databases.app.tls", "state"]
    assert "hunter2" not in json.dumps(config.shown()) + "".join(found)
    assert warnings(load(write(tmp_path))) == []


def test_what_this_version_cannot_do_is_said(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD + "recording: {results: full}\n"))
    assert any("recording.results" in str(finding) for finding in not_yet(config))
    assert not_yet(load(write(tmp_path))) == []


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ("{cert: c.pem, key: c.pem, client_ca: nowhere.pem}", "there is no file"),
        ("{mode: allow, cert: c.pem, key: c.pem, client_ca: c.pem}", "asks every client for a certificate"),
        ("{mode: disable, client_ca: c.pem}", "asks every client for a certificate"),
    ],
)
def test_an_authority_for_clients_must_be_there_and_be_asked(tmp_path: Path, tls: str, message: str) -> None:
    (tmp_path / "c.pem").touch()
    (found,) = mistakes(tmp_path, GOOD.replace("{mode: disable}", tls))
    assert found.startswith(f"config.yaml:2: listen.tls.client_ca: {message}")


def test_the_effective_values_can_be_read_again(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD + "workers: auto\nlogin_timeout: 1m30s\n"))
    assert config.workers >= 1
    again = load(write(tmp_path, json.dumps(config.shown())))
    assert again.model_dump() == config.model_dump()


def test_the_example_loads_and_names_every_key(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.example.yaml", tmp_path / "config.yaml")
    (tmp_path / "tls").mkdir()
    for name in ("cert.pem", "key.pem", "upstream-ca.pem"):
        (tmp_path / "tls" / name).touch()
    config = load(tmp_path / "config.yaml")
    assert warnings(config) == not_yet(config) == []
    text = (ROOT / "config.example.yaml").read_text()
    reference = (ROOT / "docs" / "reference" / "config.md").read_text()
    for key in keys(schema()):
        assert f"{key}:" in text, f"{key} is not in config.example.yaml"
    for path in paths(Config.model_json_schema()):
        assert f"`{path}`" in reference, f"{path} is not in docs/reference/config.md"


def keys(described: dict[str, Any]) -> set[str]:
    models = [described, *described["$defs"].values()]
    return {key for model in models for key in model.get("properties", {})} - {"password_file"}


def paths(described: dict[str, Any]) -> set[str]:
    """Every key by its path; `databases.NAME.host`."""

    def walk(node: dict[str, Any], prefix: str) -> set[str]:
        if "$ref" in node:
            node = described["$defs"][node["$ref"].rsplit("/", 1)[1]]
        found = {path for one in node.get("anyOf", []) for path in walk(one, prefix)}
        for key, value in node.get("properties", {}).items():
            path = f"{prefix}{key}"
            inner = value.get("additionalProperties")
            deeper = walk(inner, f"{path}.NAME.") if isinstance(inner, dict) else walk(value, f"{path}.")
            found |= deeper or {path}
        return found

    return walk(described, "")


def test_the_schema_is_complete() -> None:
    described = schema()
    assert described["additionalProperties"] is False
    assert "databases.NAME.credential.password_env" in paths(described)
    assert json.dumps(described)
