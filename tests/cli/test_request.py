"""`daypass request`: asked in one line, listed, decided by others; what is refused and with which exit code.

Covers proxy/cli/state.py and proxy/cli/wish.py.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import app
from proxy.cli.options import load_config
from proxy.cli.state import Access, where, with_access
from tests.access.wishes import wish

runner = CliRunner()
MORE = """
people:
  groups: {owners: [ann, bob], oncall: [olga]}
requests:
  lapse: 2d
  break_glass: {from: [oncall], max: 1h}
  templates:
    support: {vendor: Acme, database: app, policy: vendor-readonly, for: 4h, purpose: support case, single_use: true}
"""
WISH = {
    "--person": "jo@vendor.example",
    "--vendor": "Acme",
    "--policy": "vendor-readonly",
    "--for": "4h",
    "--purpose": "the monthly report",
    "--by": "sam",
}


@pytest.fixture
def house(house: Path) -> Path:
    """A house whose policy asks for one of the owners."""
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("mode: ephemeral,", "mode: shared,") + MORE)
    policy = house / "policies" / "vendor-readonly.yaml"
    policy.write_text(policy.read_text() + "\napprovals: {count: 1, from: [owners]}\n")
    return house


def run(house: Path, *words: str) -> Result:
    return runner.invoke(app, ["-c", str(house / "config.yaml"), *words])


def create(house: Path, *words: str, **change: str | None) -> Result:
    wish = WISH | {f"--{key.replace('_', '-')}": value for key, value in change.items()}
    return run(house, "request", "create", *(w for k, v in wish.items() if v is not None for w in (k, v)), *words)


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(result: Result, code: int = 2) -> str:
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    return result.stderr


def recorded(house: Path) -> list[dict[str, Any]]:
    lines = (house / "recordings" / "installation.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] in {"access", "grant"}]


def test_from_a_request_to_a_grant(house: Path) -> None:
    made = answer(create(house, ticket="OPS-42", expected_use="reports"))
    id = made["request"]
    assert (made["state"], made["database"], made["seconds"]) == ("requested", "app", 14_400)
    (listed,) = answer(run(house, "request", "list"))
    assert listed["request"] == id
    refused(run(house, "request", "approve", id, "--reason", "mine", "--by", "sam"))
    approved = answer(run(house, "request", "approve", id, "--reason", "agreed", "--by", "ann"))
    assert (approved["state"], approved["approvals"][0]["by"]) == ("approved", "ann")
    shown = answer(run(house, "request", "show", id))
    assert shown["grant"] == approved["grant"]
    assert "approvals: {count: 1" in shown["policy_text"]
    assert answer(run(house, "request", "list")) == []
    assert len(answer(run(house, "request", "list", "--all"))) == 1
    token = answer(run(house, "grant", "token", approved["grant"]))
    assert token["token"].startswith("dp_")
    actions = [event["action"] for event in recorded(house)]
    assert actions == ["request.created", "request.voice", "request.approved", "created", "token"]
    assert all(event["by"] for event in recorded(house))
    asked = recorded(house)[0]
    assert (asked["where"], asked["by"], asked["detail"]["ticket"]) == (where(), "sam", "OPS-42")


def test_a_routine_request_is_one_line(house: Path) -> None:
    made = answer(run(house, "request", "create", "--template", "support", "--person", "jo@vendor.example"))
    assert (made["vendor"], made["template"], made["seconds"]) == ("Acme", "support", 14_400)
    error = refused(run(house, "request", "create", "--template", "suport", "--person", "jo@vendor.example"))
    assert "did you mean support?" in error


def test_for_people(house: Path) -> None:
    made = create(house, "-o", "table")
    id = re.findall(r"r-[0-9a-z]{8}", made.stdout)[0]
    assert f"daypass request approve {id} --reason" in made.stdout
    assert "0 of 1, by owners" in made.stdout
    shown = run(house, "request", "show", id, "-o", "table")
    assert "the monthly report" in shown.stdout
    done = run(house, "request", "approve", id, "--reason", "fine", "--by", "bob", "-o", "table")
    assert re.search(rf"Request {id} is approved: grant g-\w+ for jo@vendor.example", done.stdout)
    again = refused(run(house, "request", "approve", id, "--reason", "fine", "--by", "ann"))
    assert f"{id} was approved by bob at" in again


def test_a_no_and_a_withdrawal(house: Path) -> None:
    first, second = (answer(create(house, person=f"p{n}@vendor.example"))["request"] for n in range(2))
    denied = answer(run(house, "request", "deny", first, "--reason", "not now", "--by", "bob"))
    assert (denied["state"], denied["decided_why"]) == ("denied", "not now")
    taken = run(house, "request", "withdraw", second, "--reason", "solved", "--by", "SAM", "-o", "table")
    assert "is withdrawn: solved." in taken.stdout
    refused(run(house, "request", "withdraw", second, "--reason", "x", "--by", "sam"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"for": "0s"}, "longer than no time at all"),
        ({"for": "-4h"}, "--for"),
        ({"for": "3000d"}, "longer than the policy vendor-readonly allows"),
        ({"for": "soon"}, "--for"),
        ({"from": "2020-01-01T00:00:00Z"}, "that time is over"),
        ({"from": "2020-01-01"}, "no timezone"),
        ({"from": "yesterday"}, "is not a time"),
        ({"from": "+9999999999d"}, "is not a time"),
        ({"for": None, "to": "2020-01-01T00:00:00Z"}, "is over, or before --from"),
        ({"for": None}, "--for is missing"),
        ({"to": "+1h"}, "say the same twice"),
        ({"purpose": ""}, "purpose must not be empty"),
        ({"person": " "}, "person must not be empty"),
        ({"bind_ip": "here"}, "is not an address or network"),
        ({"policy": "vendor-readonli"}, "did you mean vendor-readonly?"),
        ({"database": "ap"}, "did you mean app?"),
    ],
)
def test_what_makes_no_sense(house: Path, change: dict[str, str | None], message: str) -> None:
    assert message in refused(create(house, **change))
    assert not (house / "recordings" / "installation.jsonl").exists()


def test_an_unknown_time_zone_is_found_in_the_policy(house: Path) -> None:
    policy = house / "policies" / "vendor-readonly.yaml"
    policy.write_text(policy.read_text().replace("{max: 7d", "{max: 7d, timezone: Europe/Berlun"))
    assert "window.timezone: a time zone of the IANA list" in " ".join(create(house).stderr.split())


def test_no_such_request(house: Path) -> None:
    for verb in (["show"], ["approve", "--reason", "x"], ["deny", "--reason", "x"], ["withdraw", "--reason", "x"]):
        error = refused(run(house, "request", verb[0], "r-00000000", *verb[1:]))
        assert "there is no request 'r-00000000'" in error
        assert "daypass request list shows them all" in error


def test_the_policy_has_changed_since(house: Path) -> None:
    id = answer(create(house))["request"]
    policy = house / "policies" / "vendor-readonly.yaml"
    policy.write_text(policy.read_text() + "\n# edited\n")
    shown = run(house, "request", "show", id, "-o", "json")
    assert "has changed since this was asked for" in shown.stderr
    assert "# edited" not in shown.stdout
    policy.unlink()
    assert "no longer exists" in run(house, "request", "approve", id, "--reason", "x", "--by", "ann").stderr


def test_break_glass(house: Path) -> None:
    assert "longer than requests.break_glass.max" in refused(create(house, "--break-glass"))
    made = create(house, "--break-glass", **{"for": "30m"})
    assert "must be reviewed" in made.stderr
    id = answer(made)["request"]
    assert "asks oncall" in refused(run(house, "request", "approve", id, "--reason", "x", "--by", "ann"))
    assert answer(run(house, "request", "approve", id, "--reason", "down", "--by", "olga"))["grant"]
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("  break_glass: {from: [oncall], max: 1h}\n", ""))
    assert "has no requests.break_glass" in refused(create(house, "--break-glass"))


def test_ten_thousand_are_listed_short_and_the_rest_is_named(house: Path) -> None:
    cfg = load_config(house / "config.yaml")

    async def fill(access: Access) -> None:
        for n in range(30):
            one = wish(person=f"p{n}@vendor.example", policy="vendor-readonly")
            await access.requests.create(one, by="sam", lapse=timedelta(days=1))

    with_access(cfg, fill)
    listed = run(house, "request", "list", "--limit", "10", "-o", "table")
    assert len(listed.stdout.splitlines()) == 11
    assert "the newest 10 are shown of 30; --limit shows more" in listed.stderr


def test_a_state_that_is_not_to_be_reached(house: Path) -> None:
    config = house / "config.yaml"
    config.write_text(
        config.read_text().replace("\nstate:", "\n#") + "\nstate: postgresql://u:hunter2@127.0.0.1:1/none\n"
    )
    error = refused(run(house, "request", "list"), 3)
    assert "daypass doctor checks the state" in error
    assert "hunter2" not in error


def test_what_cannot_be_recorded_was_not_done(house: Path) -> None:
    (house / "recordings").rmdir()
    (house / "recordings").write_text("in the way")
    assert "cannot be recorded, so it was not done" in refused(create(house), 3)
    (house / "recordings").unlink()
    assert answer(run(house, "request", "list", "--all")) == []


def test_where_somebody_sits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.7 5 198.51.100.1 22")
    assert where().endswith(" from 203.0.113.7")
    monkeypatch.delenv("SSH_CONNECTION")
    assert " from " not in where()
