"""Replay as a command: a damaged recording is shown, and said to be damaged."""

from pathlib import Path

import pytest

from recorder import command, targets
from tests.recorder.support import sealed


def test_replay_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = sealed(tmp_path)
    target = targets.resolve("s-1", tmp_path)
    assert command.replay(path, target) == 0
    said = capsys.readouterr()
    assert said.out.startswith("session s-1  sealed\n")
    assert said.err == ""
    path.write_bytes(path.read_bytes().replace(b"select 1", b"select 2"))
    assert command.replay(path, target) == 1
    said = capsys.readouterr()
    assert said.out.startswith("session s-1  damaged\n")
    assert "select 2" in said.out
    assert "changed: 2026/11/s-1.jsonl:2" in said.err


def test_export_leaves_a_half_line_out(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (path,) = sealed(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"half')
    assert command.export(path) == 0
    assert capfdbinary.readouterr().out == whole
