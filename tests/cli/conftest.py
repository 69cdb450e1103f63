"""A folder as `daypass init` makes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.cli.main import app


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The folder; its database `app` is not there."""
    folder = tmp_path / "house"
    answer = CliRunner().invoke(app, ["init", str(folder)])
    assert answer.exit_code == 0, answer.output
    return folder
