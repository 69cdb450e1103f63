"""`daypass grant`: what is printed, what is refused and with which exit code, what is recorded.

Covers proxy/cli/grant_view.py.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import app

runner = CliRunner()


@pytest.fixture
def house(house: Path) -> Path:
    """A house whose grants need no database: they make no role."""
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("mode: ephemeral,", "mode: shared,"))
    return house


WISH = {
    "--person": "jo@vendor.example",
    "--vendor": "Acme",
    "--database": "app",
    "--policy": "vendor-readonly",
    "--for": "4h",
    "--reason": "ticket 42",
}


def run(house: Path, *words: str) -> Result:
    return runner.invoke(app, ["-c", str(house / "config.yaml"), *words])


def create(house: Path, *words: str, **change: str) -> Result:
    wish = WISH | {f"--{key.replace('_', '-')}": value for key, value in change.items()}
    return run(house, "grant", "create", *(word for pair in wish.items() for word in pair), *words)


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def recorded(house: Path) -> list[dict[str, Any]]:
    lines = (house / "recordings" / "installation.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "grant"]


def test_create_prints_exactly_the_interface(house: Path) -> None:
    made = answer(create(house, "-o", "json"))
    assert list(made) == [
        *("grant", "user", "token", "dsn", "database", "policy", "policy_revision", "starts_at", "expires_at"),
    ]
    assert made["user"] == made["grant"]
    dsn = urlsplit(made["dsn"])
    assert (dsn.scheme, dsn.username, dsn.password) == ("postgresql", made["user"], made["token"])
    assert (dsn.hostname, dsn.port, dsn.path) == ("127.0.0.1", 6432, "/app")
    assert dsn.query == "sslmode=require&channel_binding=require"
    assert made["starts_at"].endswith("Z")
    assert made["expires_at"].endswith("Z")


def test_without_tls_the_dsn_says_so(house: Path) -> None:
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("{mode: require,", "{mode: disable,"))
    assert urlsplit(answer(create(house))["dsn"]).query == "sslmode=disable"


def test_for_people_the_token_stands_apart(house: Path) -> None:
    result = create(house, "-o", "table")
    assert result.exit_code == 0
    login = next(line for line in result.stdout.splitlines() if "psql" in line)
    token = next(line for line in result.stdout.splitlines() if line.startswith("Token")).split()[1]
    assert token.startswith("dp_")
    assert token not in login
    assert login.endswith("@127.0.0.1:6432/app?sslmode=require&channel_binding=require'")
    assert "4h" in result.stdout
    assert "shown this once" in result.stderr


def test_the_life_of_a_grant_is_listed_and_recorded(house: Path) -> None:
    made = answer(create(house, "--by", "ann", bind_ip="203.0.113.7"))
    (listed,) = answer(run(house, "grant", "list"))
    assert (listed["grant"], listed["state"], listed["person"]) == (made["grant"], "active", "jo@vendor.example")
    shown = answer(run(house, "grant", "show", made["grant"]))
    assert shown["bind_ip"] == "203.0.113.7/32"
    assert shown["policy_text"].startswith("#")
    minted = answer(run(house, "grant", "token", made["grant"]))
    assert minted["token"] != made["token"]
    assert minted["token"] in minted["dsn"]
    revoked = answer(run(house, "grant", "revoke", made["grant"], "--reason", "done", "--by", "ann"))
    assert (revoked["state"], revoked["already_revoked"]) == ("revoked", False)
    again = answer(run(house, "grant", "revoke", made["grant"], "--reason", "again"))
    assert (again["revoke_reason"], again["already_revoked"]) == ("done", True)
    events = recorded(house)
    assert [(event["action"], event["grant"]) for event in events] == [
        (action, made["grant"]) for action in ("created", "token", "token", "revoked")
    ]
    assert events[0]["by"] == events[3]["by"] == "ann"
    everything = b"".join(path.read_bytes() for path in house.rglob("*") if path.is_file())
    for token in (made["token"], minted["token"]):
        assert token.encode() not in everything


def test_tables_for_people(house: Path) -> None:
    assert "No grants" in run(house, "grant", "list", "-o", "table").stderr
    made = answer(create(house))["grant"]
    create(house, **{"from": "+2h"})
    listed = run(house, "grant", "list", "-o", "table").stdout.splitlines()
    assert listed[0].split() == ["GRANT", "STATE", "PERSON", "VENDOR", "DATABASE", "POLICY", "TIME", "REASON"]
    assert "starts in 1h59m" in listed[1]
    assert "3h59m left" in listed[2]
    assert "ticket 42" in run(house, "grant", "show", made, "-o", "table").stdout
    assert "the one before is dead" in run(house, "grant", "token", made, "-o", "table").stdout
    revoke = ("grant", "revoke", made, "--reason", "done", "-o", "table")
    assert "its sessions end within a second" in run(house, *revoke).stdout
    assert "was revoked before" in run(house, *revoke).stdout
    assert "ended 0s ago" in run(house, "grant", "list", "-o", "table").stdout


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"database": "ap"}, "there is no database 'ap'", "did you mean app? There are: app"),
        ({"policy": "vendor-readonli"}, "there is no policy 'vendor-readonli'", "did you mean vendor-readonly?"),
        ({"for": "8d"}, "--for: 8d is longer than the policy vendor-readonly allows", "at most --for 7d"),
        ({"for": "4"}, "'4' has no unit", ""),
        ({"for": "0s"}, "longer than no time", ""),
        ({"for": "-4h"}, "is not a duration", ""),
        ({"from": "tomorrow"}, "'tomorrow' is not a time", "write for example"),
        ({"from": "2999-01-01T09:00"}, "has no timezone", "add Z for UTC"),
        ({"from": "2001-01-01T09:00Z"}, "that time is over", ""),
        ({"from": "+"}, "is not a time", ""),
        ({"bind-ip": "203.0.113.7/24"}, "did you mean 203.0.113.0/24", ""),
        ({"person": ""}, "person must not be empty", ""),
        ({"reason": "a\x1b[2Jb"}, "purpose must be one line", ""),
    ],
)
def test_wishes_that_cannot_be(house: Path, change: dict[str, str], message: str, hint: str) -> None:
    result = create(house, **change)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert hint in result.stderr
    assert answer(run(house, "grant", "list")) == []


def test_a_policy_for_another_database(house: Path) -> None:
    policy = house / "policies" / "vendor-readonly.yaml"
    policy.write_text(policy.read_text().replace("databases: [app]", "databases: [other]"))
    result = create(house)
    assert result.exit_code == 2
    assert "is not for the database app" in result.stderr


def test_a_policy_that_asks_for_more(house: Path) -> None:
    with (house / "policies" / "vendor-readonly.yaml").open("a") as file:
        file.write("approvals: {count: 1, from: [owners]}\nagreements: [nda-2026]\nprechecks: [backup-fresh]\n")
    result = create(house)
    assert result.exit_code == 1
    for word in ("approval", "nda-2026", "backup-fresh"):
        assert word in result.stderr


def test_a_broken_policy_file_is_named(house: Path) -> None:
    (house / "policies" / "vendor-readonly.yaml").write_text("name: vendor-readonly\ntabels: {}\n")
    result = create(house)
    assert result.exit_code == 2
    assert "vendor-readonly.yaml:2: tabels: unknown key (did you mean tables?)" in result.stderr


def test_an_unknown_grant(house: Path) -> None:
    for words in (["show", "g-00000000"], ["token", "x"], ["revoke", "g-00000000", "--reason", "x"]):
        result = run(house, "grant", *words)
        assert result.exit_code == 2
        assert "there is no grant" in result.stderr


def test_what_cannot_be_stored_or_recorded_exits_3(house: Path) -> None:
    config = house / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("sqlite:///state.db", "sqlite:///none/state.db"))
    assert create(house).exit_code == 3
    (house / "file").touch()
    config.write_text(text.replace("dir: recordings", "dir: file/recordings"))
    result = create(house)
    assert result.exit_code == 3, result.output
    assert "was not done" in result.stderr
    config.write_text(text)
    assert answer(run(house, "grant", "list")) == []


def test_a_terminal_gets_the_table(house: Path) -> None:
    create(house)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "proxy.cli.main", "-c", str(house / "config.yaml"), "grant", "list"]
    done = subprocess.run(
        command, stdout=follower, stderr=subprocess.PIPE, check=False, env={**os.environ, "TERM": "xterm"}
    )
    os.close(follower)
    text = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.returncode == 0
    assert "GRANT" in text
    assert "\x1b[32mactive" in text


def test_a_role_that_cannot_be_made_leaves_no_grant_and_no_token(house: Path) -> None:
    """proxy/cli/grant_role.py: the database of this house is not there."""
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("mode: shared,", "mode: ephemeral,"))
    result = create(house)
    assert result.exit_code == 3, result.output
    assert result.stdout == ""
    assert "the role for app cannot be made" in result.stderr
    assert "is revoked; mend the cause and make another" in result.stderr
    assert "dp_" not in result.output
    (grant,) = answer(run(house, "grant", "list", "-o", "json"))
    assert (grant["state"], grant["revoke_reason"]) == ("revoked", "its role could not be made")
    assert [event["action"] for event in recorded(house)][-1] == "revoked"
