"""docs/tutorial/vendor-access.sh as a newcomer would run it. Covers proxy/demo/shop.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.laws.source import ROOT

pytestmark = pytest.mark.skipif(shutil.which("psql") is None, reason="the tutorial needs psql")


@pytest.mark.thorough
def test_one_vendor_from_the_request_to_the_reviewed_evidence(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence.zip"
    done = subprocess.run(
        ["bash", str(ROOT / "docs" / "tutorial" / "vendor-access.sh")],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHON": sys.executable, "EVIDENCE": str(evidence), "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout
    for line in (
        "Maria Vendor",
        "o***@example.org",
        "removal: token     proven",
        "Reviewed by sam",
        "It holds.",
        "intact:",
    ):
        assert line in said + done.stderr, line
    assert "hr.salaries cannot be read" in done.stderr
    left = [line for line in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _read(line)]
    assert not left, "it ends what it started"
    with zipfile.ZipFile(evidence) as archive:
        names = archive.namelist()
    assert len([name for name in names if name.startswith("recordings/") and name.endswith(".proof")]) == 4
    assert any(name.startswith("agreements/nda-2026") for name in names)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
