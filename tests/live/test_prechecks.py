"""Prechecks in front of a running daypass: a grant that waits and says why, one that starts, one that is overridden.

Covers proxy/session/checking.py and proxy/access/findings.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.live.house import POLICY, House, until

WISH = ["--vendor", "Acme", "--database", "shop", "--policy", "reader", "--for", "1h"]


def daypass(house: House, *words: str) -> tuple[int, Any, str]:
    done = house.run("-o", "json", *words)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture
def house(make_house: Callable[..., House], tmp_path: Path) -> House:
    tool = tmp_path / "no-freeze"
    tool.write_text(
        f"#!/bin/sh\ntest -e {tmp_path}/fine || {{ echo a freeze until monday >&2; exit 1; }}\necho '{{}}'\n"
    )
    tool.chmod(0o755)
    prechecks = {
        "freeze": {"kind": "command", "command": [str(tool)]},
        "calm": {"kind": "sql", "sql": "select count(*) < 500 from pg_stat_activity"},
        "note": {"kind": "rollback_note"},
    }
    groups = {"groups": {"owners": ["olga"]}}
    policy = POLICY + "prechecks: [freeze, calm, note]\n"
    return make_house(policy=policy, prechecks=prechecks, people=groups).start()


def test_a_grant_waits_says_why_and_is_overridden_by_an_approver(house: House) -> None:
    code, _, said = daypass(house, "grant", "create", "--person", "jo", *WISH, "--reason", "x", "--by", "sam")
    assert code == 1
    assert "freeze (no-freeze ended with exit code 1: a freeze until monday)" in said
    assert "note (the request has no rollback note" in said
    assert "calm" not in said
    assert daypass(house, "grant", "list")[1] == []

    code, asked, said = daypass(house, "request", "create", "--person", "jo", *WISH, "--purpose", "x", "--by", "sam",
                                "--rollback-note", "restore the evening's backup")  # fmt: skip
    assert code == 0, said
    code, approved, said = daypass(house, "request", "approve", asked["request"], "--reason", "fine", "--by", "olga")
    assert code == 0, said
    grant = approved["grant"]
    token = daypass(house, "grant", "token", grant)[1]["token"]
    house.wait_log("prechecks_failing", grant=grant)
    with pytest.raises(psycopg.OperationalError, match=r"waits for a check by the owner: freeze: no-freeze ended with"):
        psycopg.connect(house.dsn((grant, token)))
    shown = daypass(house, "grant", "show", grant)[1]
    assert shown["state"] == "waiting"
    found = {each["name"]: each for each in shown["prechecks"]}
    assert (found["calm"]["ok"], found["freeze"]["ok"], found["note"]["ok"]) == (True, False, True)
    assert found["note"]["evidence"] == {"note": "restore the evening's backup", "by": "sam"}

    for by, why in (("sam", "it was asked for by"), ("jo", "the grant is for")):
        code, _, said = daypass(house, "grant", "override", grant, "--reason", "please", "--by", by)
        assert code == 2
        assert why in said
    code, overridden, said = daypass(house, "grant", "override", grant, "--reason", "agreed with anna", "--by", "olga")
    assert code == 0, said
    assert overridden["overridden"] == {"freeze": "no-freeze ended with exit code 1: a freeze until monday"}
    with psycopg.connect(house.dsn((grant, token))) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    house.wait_log("grant_active", grant=grant)
    steps = [
        line
        for path in (house.folder / "recordings").rglob("*.jsonl")
        for line in map(json.loads, path.read_text().splitlines())
        if line["event"] == "access" and line["action"].startswith("precheck.")
    ]
    assert [step["action"] for step in steps] == ["precheck.failed", "precheck.overridden"]
    assert steps[1]["by"] == "olga"


def test_a_grant_starts_at_once_where_everything_holds(house: House, tmp_path: Path) -> None:
    code, tried, _ = daypass(house, "database", "precheck", "shop", "--by", "sam", "--rollback-note", "x")
    assert code == 1
    assert [(each["name"], each["ok"]) for each in tried["prechecks"]] == [
        ("freeze", False), ("calm", True), ("note", True),
    ]  # fmt: skip
    doctor = daypass(house, "doctor")[1]
    found = {check["what"]: check["level"] for check in doctor["checks"]}
    assert (found["precheck freeze"], found["precheck calm"]) == ("warn", "ok")
    (tmp_path / "fine").touch()
    assert daypass(house, "database", "precheck", "shop", "--only", "freeze")[0] == 0
    code, _, said = daypass(house, "database", "precheck", "shop", "--only", "frieze")
    assert code == 2
    assert "did you mean freeze?" in said
    code, made, said = daypass(house, "grant", "create", "--person", "jo", *WISH, "--reason", "x", "--by", "sam",
                               "--rollback-note", "restore")  # fmt: skip
    assert code == 0, said
    with psycopg.connect(house.dsn((made["user"], made["token"]))) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    assert [each["ok"] for each in daypass(house, "grant", "show", made["grant"])[1]["prechecks"]] == [True] * 3


@pytest.mark.slow
def test_a_grant_that_waits_starts_by_itself_when_what_failed_is_mended(house: House, tmp_path: Path) -> None:
    asked = daypass(house, "request", "create", "--person", "jo", *WISH, "--purpose", "x", "--by", "sam",
                    "--rollback-note", "restore")[1]  # fmt: skip
    grant = daypass(house, "request", "approve", asked["request"], "--reason", "fine", "--by", "olga")[1]["grant"]
    token = daypass(house, "grant", "token", grant)[1]["token"]
    house.wait_log("prechecks_failing", grant=grant)
    (tmp_path / "fine").touch()
    said: set[str] = set()
    for _ in until(75, 0.5):
        try:
            psycopg.connect(house.dsn((grant, token))).close()
            break
        except psycopg.OperationalError as error:
            said.add(str(error))
    else:
        raise AssertionError(f"it still waits: {said}")
    assert all("waits for a check" in text for text in said)
