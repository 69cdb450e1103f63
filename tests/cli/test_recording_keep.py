"""proxy/cli/recording_keep.py, proxy/cli/identity.py: arguments, exit codes and what is printed; not what is done."""

import json
import shutil
from pathlib import Path

import pyrage
import pytest

from tests.cli.test_recording import daypass, installation

__all__ = ["installation"]


def run(config: Path, *arguments: str | Path, code: int = 0) -> str:
    done = daypass("-c", config, "recording", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def with_key(config: Path, more: str = "") -> Path:
    key = pyrage.x25519.Identity.generate()
    text = config.read_text().replace(
        "{dir: recordings}", f"{{dir: recordings, recipients: [{key.to_public()}]{more}}}"
    )
    config.write_text(text)
    file = config.with_name("key.txt")
    file.write_text(f"# public key: {key.to_public()}\n{key}\n")
    return file


def test_sealed_recordings_are_encrypted_and_read_with_the_key(installation: Path) -> None:
    key = with_key(installation)
    answer = json.loads(run(installation, "pack", "-o", "json"))
    assert answer["stored"] == ["2026/11/abc-1.jsonl.zst.age", "2026/11/abd-2.jsonl.zst.age"]
    assert "nothing to do" in run(installation, "pack", "-o", "table")
    shown = run(installation, "verify", "-o", "table")
    assert "sealed      abc-1  intact (contents not read)" in shown
    assert "the contents of 2 were not read (--identity FILE)" in shown
    report = json.loads(run(installation, "verify", "--identity", key, "-o", "json"))
    assert [(one["lines"], one["read"]) for one in report["recordings"]][:2] == [(6, True), (6, True)]
    events = run(installation, "export", "abc", "--identity", key).splitlines()
    assert json.loads(events[0])["event"] == "session.start"
    assert "--identity FILE" in run(installation, "export", "abc", code=2)
    assert "--identity FILE" in run(installation, "replay", "abc", code=2)
    assert "select 1" in run(installation, "replay", "abc", "--identity", key)
    assert "no age identity" in run(installation, "export", "abc", "--identity", installation, code=2)
    done = daypass("-c", installation, "session", "show", "abc", "-o", "json")
    assert done.returncode == 2
    done = daypass("-c", installation, "session", "show", "abc", "-o", "json", "--identity", key)
    assert json.loads(done.stdout)["statements"] == 2
    listed = json.loads(daypass("-c", installation, "session", "list", "-o", "json").stdout)
    assert [(one["person"], one["statements"]) for one in listed] == [("jane", 2), ("jane", 2)]


def test_a_recipient_that_is_none(installation: Path) -> None:
    text = installation.read_text().replace("{dir: recordings}", "{dir: recordings, recipients: [age1x]}")
    installation.write_text(text)
    assert "recording.recipients" in run(installation, "pack", code=2)


def test_holds_and_pruning(installation: Path) -> None:
    assert "kept for ever" in run(installation, "prune", code=2)
    assert "no unit" in run(installation, "prune", "--older-than", "3", code=2)
    hold = json.loads(run(installation, "hold", "abc", "--reason", "case 17", "--by", "legal", "-o", "json"))
    assert (hold["id"], hold["grant"], hold["by"]) == ("abc-1", None, "legal")
    assert "say what to hold" in run(installation, "hold", "--reason", "x", code=2)
    assert "no recording" in run(installation, "hold", "zzz", "--reason", "x", code=2)
    (listed,) = json.loads(run(installation, "holds", "-o", "json"))
    assert (listed["hold"], listed["reason"]) == (hold["hold"], "case 17")
    dry = json.loads(run(installation, "prune", "--older-than", "1s", "--dry-run", "-o", "json"))
    assert ([one["id"] for one in dry["deleted"]], [one["id"] for one in dry["held"]]) == (["abd-2"], ["abc-1"])
    shown = run(installation, "prune", "--older-than", "1s", "-o", "table")
    assert f"kept: {hold['hold']}" in shown
    assert "deleted" in shown
    states = {one["id"]: one["state"] for one in json.loads(run(installation, "verify", "-o", "json"))["recordings"]}
    assert states == {"abc-1": "sealed", "abd-2": "expired", "node": "open"}
    assert "no hold h-x in force" in run(installation, "release", "h-x", "--reason", "x", code=1)
    run(installation, "release", hold["hold"], "--reason", "closed")
    assert json.loads(run(installation, "holds", "-o", "json")) == []
    assert "h-" in run(installation, "hold", "--grant", "g-7k3m9x2q", "--reason", "all of it", "-o", "table")


def test_a_checkpoint_kept_elsewhere_finds_a_folder_that_was_put_back(installation: Path, tmp_path: Path) -> None:
    recordings, old, kept = installation.with_name("recordings"), tmp_path / "old", tmp_path / "kept"
    shutil.copytree(recordings, old)
    run(installation, "rotate-key")
    kept.write_text(run(installation, "checkpoint"))
    assert kept.read_text().startswith("daypass/node/")
    assert json.loads(run(installation, "verify", "--checkpoint", kept, "-o", "json"))["log"]["given"] == 1
    shutil.rmtree(recordings)
    shutil.copytree(old, recordings)
    run(installation, "verify")
    done = daypass("-c", installation, "recording", "verify", "--checkpoint", kept, "-o", "table")
    assert done.returncode == 1
    assert "signed by no key that signed this log" in done.stdout  # the old copy does not even know the newer key
    assert "cannot read" in run(installation, "verify", "--checkpoint", tmp_path / "none", code=2)


def test_the_checkpoint_beside_the_state_is_compared(installation: Path) -> None:
    beside = installation.with_name("state.db-checkpoint")
    beside.write_text(run(installation, "checkpoint"))
    assert json.loads(run(installation, "verify", "-o", "json"))["log"]["given"] == 1
    node = installation.parent / "recordings" / "node.jsonl"
    assert daypass("-c", installation, "recording", "verify", node).returncode == 0
    beside.write_text("nonsense")
    assert daypass("-c", installation, "recording", "verify").returncode == 1


def test_the_key_and_a_proof(installation: Path) -> None:
    assert run(installation, "checkpoint", "--key").startswith("daypass/node/")
    assert run(installation, "checkpoint", "--prove", "abc").startswith("c2sp.org/tlog-proof@v1\nextra ")
    assert "no recording" in run(installation, "checkpoint", "--prove", "zzz", code=2)
    answer = json.loads(run(installation, "rotate-key", "-o", "json"))
    assert answer["key"] != answer["old"]
    assert run(installation, "verify")


def test_no_recordings_yet(installation: Path) -> None:
    shutil.rmtree(installation.with_name("recordings"))
    assert "no recordings at" in run(installation, "holds", code=3)


@pytest.mark.parametrize("verb", ["hold", "holds", "release", "prune", "pack", "rotate-key", "checkpoint"])
def test_help(verb: str) -> None:
    done = daypass("recording", verb, "--help")
    assert "Example: daypass recording" in done.stdout
