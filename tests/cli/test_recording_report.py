"""`daypass recording report` (proxy/cli/recording_report.py)."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_recording import daypass, installation

__all__ = ["installation"]  # the fixture


def test_report(installation: Path) -> None:
    done = daypass("-c", installation, "recording", "report", "--person", "jane", "--since", "2026-01-01")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Access report: person jane\n")
    assert "- statements: **4**" in done.stdout
    folder = installation.parent / "recordings"
    done = daypass("recording", "report", "--dir", folder, "--format", "html")
    assert done.stdout.startswith("<!doctype html>")
    done = daypass("-c", installation, "recording", "report", "--format", "json", "--until", "2020-01-01")
    assert json.loads(done.stdout)["sessions"] == 0
    assert "no session fits" in done.stderr
    assert daypass("recording", "report", "--dir", folder / "none").returncode == 3
    assert "Example: daypass recording report" in daypass("recording", "report", "--help").stdout
