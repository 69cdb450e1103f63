"""`daypass recording`: arguments and exit codes; the recorder's own tests say what is found."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.recorder.support import sealed
from tests.support import command


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A config with two sealed sessions in its recordings."""
    sealed(tmp_path / "recordings", "abc-1", "abd-2")
    (tmp_path / "policies").mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(
        "listen: {port: 0, tls: {mode: disable}}\nstate: sqlite:///state.db\npolicies: policies/\n"
        "databases: {app: {host: 127.0.0.1, dbname: app, tls: disable, credential: {mode: shared, user: u}}}\n"
        "recording: {dir: recordings}\n"
    )
    return config


def daypass(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return command.daypass(*arguments, cwd=cwd)


def test_verify(installation: Path) -> None:
    done = daypass("-c", installation, "recording", "verify", "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert [(one["id"], one["state"], one["findings"]) for one in answer["recordings"]] == [
        ("abc-1", "sealed", []),
        ("abd-2", "sealed", []),
        ("node", "open", []),
    ]
    done = daypass("recording", "verify", "abc", "-c", installation, "-o", "table")
    assert done.returncode == 0
    assert "intact: 1 open, 1 sealed" in done.stdout


def test_damage_is_exit_1(installation: Path) -> None:
    recording = next((installation.parent / "recordings").glob("*/*/abc-1.jsonl"))
    recording.write_bytes(recording.read_bytes().replace(b"jane", b"john"))
    for target in ([], ["abc-1"], [recording], [installation.parent / "recordings"]):
        done = daypass("-c", installation, "recording", "verify", *target, "-o", "json")
        assert done.returncode == 1
        answer = json.loads(done.stdout)
        assert answer["ok"] is False
        (damaged,) = [one for one in answer["recordings"] if one["state"] == "damaged"]
        assert damaged["id"] == "abc-1"
        assert {"kind", "file", "line"} <= damaged["findings"][0].keys()
    assert daypass("-c", installation, "recording", "verify", "abd-2").returncode == 0
    recording.unlink()
    done = daypass("-c", installation, "recording", "verify", "abc-1")
    assert done.returncode == 1


def test_without_a_config(installation: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = installation.parent / "recordings"
    key = folder / "keys" / "public.pem"
    done = daypass("recording", "verify", folder, "--public-key", key, "-o", "table", cwd=empty)
    assert done.returncode == 0, done.stderr
    assert "(given: " in done.stdout
    assert daypass("recording", "verify", cwd=empty).returncode == 2


def test_a_copy_outside_is_held_against_the_installation(installation: Path, tmp_path: Path) -> None:
    copy = tmp_path / "evidence" / "copy.jsonl"
    copy.parent.mkdir()
    shutil.copy(next((installation.parent / "recordings").glob("*/*/abc-1.jsonl")), copy)
    assert daypass("-c", installation, "recording", "verify", copy).returncode == 0
    copy.write_bytes(copy.read_bytes().replace(b"jane", b"john"))
    assert daypass("-c", installation, "recording", "verify", copy).returncode == 1


def test_usage_and_reach(installation: Path) -> None:
    done = daypass("-c", installation, "recording", "verify", "zzz")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no recording 'zzz'" in done.stderr
    done = daypass("-c", installation, "recording", "replay", "ab")
    assert done.returncode == 2
    assert "2 sessions begin with 'ab'" in done.stderr
    assert daypass("-c", installation, "recording", "verify", "--public-key", installation).returncode == 2
    assert daypass("-c", installation, "recording", "export", "abc-1", "--format", "pdf").returncode == 2
    shutil.rmtree(installation.parent / "recordings")
    assert daypass("-c", installation, "recording", "verify").returncode == 3


def test_replay_in_a_pipe_is_a_plain_transcript(installation: Path) -> None:
    done = daypass("-c", installation, "recording", "replay", "abc", "--speed", "2", "--max-idle", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("session abc-1  sealed\n")
    assert "app=> select 2" in done.stdout
    assert "\x1b" not in done.stdout


def test_export(installation: Path) -> None:
    done = daypass("-c", installation, "recording", "export", "abc-1", "--format", "jsonl")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines][:2] == ["session.start", "statement"]
    assert {"seq", "at", "prev"} <= lines[0].keys()


@pytest.mark.parametrize("form", ["asciicast", "csv", "html", "sql", "text"])
def test_export_in_other_forms(installation: Path, form: str) -> None:
    done = daypass("-c", installation, "recording", "export", "abc-1", "--format", form)
    assert done.returncode == 0, done.stderr
    assert "select" in done.stdout


def test_replay_from_a_place(installation: Path) -> None:
    done = daypass("-c", installation, "recording", "replay", "abc", "--at", "#4", "--idle-limit", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("session abc-1  sealed\n")
    assert "select 1" not in done.stdout
    assert "app=> select 2" in done.stdout
    done = daypass("-c", installation, "recording", "replay", "abc", "--at", "soon")
    assert done.returncode == 2
    assert "'soon' is no place; write 1:30, 90s, #12 or" in done.stderr


@pytest.mark.parametrize("command", ["verify", "replay", "export"])
def test_help_has_an_example(command: str) -> None:
    done = daypass("recording", command, "--help")
    assert done.returncode == 0
    assert "Example: daypass recording" in done.stdout
