"""`daypass evidence`: made from a real installation, checked by the command and by the recorder alone."""

from __future__ import annotations

import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from recorder import retention
from recorder.journal import Recorder
from tests.cli.test_grant import answer, create, run
from tests.recorder.support import START, Ticker, end, start


@pytest.fixture
def house(house: Path) -> Path:
    """As for grants that make no role."""
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("mode: ephemeral,", "mode: shared,"))
    return house


def test_export_and_verify(house: Path) -> None:
    made = answer(create(house))["grant"]
    file = house / "out.zip"
    told = answer(run(house, "evidence", "export", made, "--to", str(file), "--by", "ann"))
    assert (told["grant"], told["recordings"], told["left_out"]) == (made, [], {})
    key = house / "recordings" / "keys" / "public.pem"
    found = answer(run(house, "evidence", "verify", str(file), "--public-key", str(key)))
    assert found["ok"]
    assert found["key"]["source"] == "given"
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        steps = archive.read("access/steps.jsonl").decode()
    assert {"access/request.json", "access/grant.json", "policy.yaml", "report.html", "index.html"} <= names
    assert '"action":"request.created"' in steps
    assert made in steps
    shown = run(house, "evidence", "verify", str(file), "-o", "table").stdout
    assert "✓ the manifest is signed by the key" in shown
    assert "found in the bundle: compare its fingerprint" in shown
    again = run(house, "evidence", "export", made, "--to", str(file))
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_what_does_not_hold_exits_1(house: Path) -> None:
    made = answer(create(house))["grant"]
    file, changed = house / "out.zip", house / "changed.zip"
    answer(run(house, "evidence", "export", made, "--to", str(file)))
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(changed, "w") as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name) if name != "access/grant.json" else b"{}")
    done = run(house, "evidence", "verify", str(changed), "-o", "table")
    assert done.exit_code == 1
    assert "It does not hold" in done.stdout


def test_a_name_in_it_does_not_play_with_the_terminal(house: Path) -> None:
    made = answer(create(house))["grant"]
    file = house / "out.zip"
    answer(run(house, "evidence", "export", made, "--to", str(file)))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("\x1b[2J\x1b[HIt holds.", b"")
    done = run(house, "evidence", "verify", str(file), "-o", "table")
    assert done.exit_code == 1
    assert "\x1b" not in done.stdout
    assert "\\x1b[2J" in done.stdout


def test_what_is_gone_is_named(house: Path) -> None:
    """Also where the log does not know any more whose it was: somebody may have removed it on purpose."""
    made = answer(create(house))["grant"]
    recorder = Recorder(house / "recordings", now=Ticker())
    for name in ("s-deleted", "s-removed"):
        recording = recorder.open(name, start(name, grant=made))
        recording.close(end())
    recorder.close()
    other = house / "recordings" / "2026" / "11" / "s-removed.jsonl"
    other.unlink()
    retention.prune(house / "recordings", lambda: START + timedelta(days=9), 1.0, why="old", by="ops")
    file = house / "out.zip"
    told = answer(run(house, "evidence", "export", made, "--to", str(file)))
    assert "deleted" in told["left_out"]["s-deleted"]
    assert "is gone" in told["left_out"]["s-removed"]


@pytest.mark.parametrize("wanted", ["g-nothing0", "x"])
def test_an_unknown_grant(house: Path, wanted: str) -> None:
    done = run(house, "evidence", "export", wanted)
    assert done.exit_code == 2
    assert "there is no grant" in done.stderr
    assert not list(house.glob("*.zip"))


def test_what_is_no_bundle(house: Path) -> None:
    assert run(house, "evidence", "verify", str(house / "config.yaml")).exit_code == 2
    assert run(house, "evidence", "verify", str(house / "missing.zip")).exit_code == 2
