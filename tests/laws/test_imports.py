"""Law: imports point one way. The contracts stand in pyproject.toml; `make check` runs them as well."""

from __future__ import annotations

import subprocess
import sys

from tests.laws.source import ROOT


def test_the_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
