"""`daypass state`: a backup that is whole and private, and a restore that gives nobody anything back."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import app
from proxy.cli.options import load_config
from proxy.cli.state import Access, with_access
from tests.access.wishes import wish

runner = CliRunner()


def run(house: Path, *words: str) -> Result:
    return runner.invoke(app, ["-c", str(house / "config.yaml"), *words])


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def live(house: Path) -> list[str]:
    """Two grants."""

    async def make(access: Access) -> list[str]:
        made = []
        for person in ("ann", "bob"):
            one = await access.requests.create(wish(person=person, approvals=0), by="sam", lapse=timedelta(days=1))
            made.append((await access.requests.approve_at_once(one.id, by="sam", reason="x"))[1].id)
        return made

    return with_access(load_config(house / "config.yaml"), make)


def lose_the_state(house: Path) -> None:
    for file in house.glob("state.db*"):
        file.unlink()


def test_there_and_back(house: Path, live: list[str], tmp_path: Path) -> None:
    file = tmp_path / "monday.jsonl"
    made = run(house, "state", "backup", str(file))
    assert "holds the keys of masks and roles" in made.stderr
    told = answer(made)
    assert told["rows"] > 4
    assert told["bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*.part")) == []
    assert "exists already" in run(house, "state", "backup", str(file)).stderr
    assert "the state is not empty" in run(house, "state", "restore", str(file)).stderr
    lose_the_state(house)
    restored = answer(run(house, "state", "restore", str(file), "--by", "op"))
    assert (sorted(restored["ended"]), restored["installation"]) == (sorted(live), told["installation"])
    states = {grant["grant"]: grant["state"] for grant in answer(run(house, "grant", "list"))}
    assert states == dict.fromkeys(live, "revoked")


def test_kept_alive_what_the_recordings_know_to_be_over_is_over(house: Path, live: list[str], tmp_path: Path) -> None:
    file = tmp_path / "monday.jsonl"
    answer(run(house, "state", "backup", str(file)))
    answer(run(house, "grant", "revoke", live[0], "--reason", "theft", "-o", "json"))
    lose_the_state(house)
    result = run(house, "state", "restore", str(file), "--keep-live", "-o", "table")
    assert result.exit_code == 0, result.output
    assert f"Ended: 1 grants ({live[0]})." in result.stdout
    assert "recorded after the backup, and not in the state any more: 1 revoked" in result.stderr
    states = {grant["grant"]: grant["state"] for grant in answer(run(house, "grant", "list"))}
    assert states == {live[0]: "revoked", live[1]: "active"}


def test_what_is_no_backup(house: Path, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("hello\n")
    result = run(house, "state", "restore", str(file))
    assert (result.exit_code, "is no backup" in result.stderr) == (2, True)
    assert "No such file" in run(house, "state", "restore", str(tmp_path / "none")).stderr
    result = run(house, "state", "backup", str(tmp_path / "none" / "x"))
    assert (result.exit_code, "No such file" in result.stderr) == (3, True)
