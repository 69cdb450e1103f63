"""`python -m recorder`: an auditor's whole tool, without the proxy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.__main__ import main
from tests.recorder.support import sealed


def test_it_needs_nothing_of_the_proxy(tmp_path: Path) -> None:
    sealed(tmp_path)
    code = (
        "import sys; from recorder.__main__ import main; code = main(sys.argv[1:]);"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'proxy']; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", str(tmp_path), "-o", "json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["ok"] is True


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = sealed(tmp_path)
    assert main(["verify", str(tmp_path)]) == 0
    assert "intact" in capsys.readouterr().out
    assert main(["verify", str(path), "-o", "json"]) == 0
    assert [recording["id"] for recording in json.loads(capsys.readouterr().out)["recordings"]] == ["s-1", "node"]
    path.unlink()
    assert main(["verify", str(tmp_path), "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["recordings"][0]["findings"][0]["kind"] == "missing"


def test_replay_list_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = sealed(tmp_path)
    assert main(["replay", str(path)]) == 0
    assert "app=> select 2" in capsys.readouterr().out
    assert main(["list", str(tmp_path)]) == 0
    assert "s-1" in capsys.readouterr().out
    assert main(["list", str(tmp_path), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "sealed"


def test_export_prints_bytes(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (path,) = sealed(tmp_path)
    assert main(["export", str(path)]) == 0
    assert capfdbinary.readouterr().out == path.read_bytes()


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = sealed(tmp_path)
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert main(["verify", str(tmp_path), "--public-key", str(path)]) == 2
    assert main(["replay", str(tmp_path)]) == 2
    assert main(["replay", str(path), "--speed", "0"]) == 2
    path.unlink()
    path.mkdir()
    assert main(["verify", str(tmp_path)]) == 1
    (tmp_path / "node.jsonl").unlink()
    (tmp_path / "node.jsonl").mkdir()
    assert main(["verify", str(tmp_path)]) == 3
    assert "recorder: " in capsys.readouterr().err
