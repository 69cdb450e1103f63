"""An environment of its own for each suite, made once and kept in a folder that git ignores.

The driver is installed as a wheel, its tests are unpacked from the source package. What is there is used as it is:
the folder's name holds the pinned version, so a new pin is a new folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.suites import Suite


class InstallError(Exception):
    """pip could not get what a suite needs; the text has its words."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A suite that can be run."""

    suite: Suite
    python: Path
    source: Path


def install(suite: Suite, cache: Path) -> Installed:
    """The suite's environment, made now where it is not there yet."""
    home = cache / f"{suite.name}-{suite.source.partition('==')[2]}"
    found = Installed(suite, home / "venv" / "bin" / "python", home / "source")
    made = home / "made"
    if made.exists() and made.read_text() == repr(suite.installs):
        return found
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (cache / ".gitignore").write_text("*\n")
    name = re.split(r"[\[=]", suite.source)[0]
    with tempfile.TemporaryDirectory() as folder:
        pip = ("-m", "pip", "--disable-pip-version-check", "-q")
        _run(sys.executable, *pip, "download", "--no-deps", "--no-binary", name, "-d", folder, suite.source)
        _unpack(next(Path(folder).glob("*.tar.gz")), found.source, suite.keep)
    if "pyproject.toml" not in suite.keep:
        # Else pytest goes up until it finds daypass's own settings.
        (found.source / "pytest.ini").write_text("[pytest]\n")
    _run(sys.executable, "-m", "venv", str(home / "venv"))
    _run(str(found.python), "-m", "pip", "--disable-pip-version-check", "-q", "install", *suite.installs)
    made.write_text(repr(suite.installs))
    return found


def _unpack(archive: Path, to: Path, keep: tuple[str, ...]) -> None:
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            _, _, inside = member.name.partition("/")
            if inside.partition("/")[0] in keep:
                tar.extract(member.replace(name=inside), to, filter="data")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
