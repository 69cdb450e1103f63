"""Compiles the hot path: the few modules that run for every statement, by mypyc, from the same Python source.

    python deploy/compile.py FOLDER          beside the sources in FOLDER, a copy of the tree (make compiled)
    DAYPASS_COMPILE=1 pip install .          into the wheel (hatchling's build hook below)

Without it daypass runs the same source interpreted: nothing but speed depends on it. It wants a C compiler and mypy.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HOT = (
    "proxy/clock.py",
    "proxy/wire/framing.py",
    "proxy/wire/rows.py",
    "proxy/wire/ledger.py",
    "proxy/wire/client.py",
    "proxy/wire/build.py",
    "proxy/wire/upstream.py",
    "proxy/wire/params.py",
    "proxy/session/names.py",
    "proxy/session/budget.py",
    "proxy/session/talk.py",
    "proxy/session/answers.py",
    "proxy/session/naming.py",
    "proxy/session/streaming.py",
    "proxy/session/extended.py",
    "proxy/session/simple.py",
    "proxy/session/gate.py",
    "proxy/session/results.py",
    "proxy/session/relay.py",
    "proxy/server/channel.py",
    "proxy/server/tls_transport.py",
    "recorder/chain.py",
    "recorder/forms.py",
    "recorder/recording.py",
    "recorder/journal.py",
)
"""All in one group: calls between them are C calls."""


def compile_in(folder: Path) -> list[Path]:
    """Build the extension modules beside their sources in `folder`; returns their paths below it."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    before = Path.cwd()
    os.chdir(folder)
    try:
        os.environ["MYPYPATH"] = str(folder)
        extensions = mypycify(list(HOT), group_name="daypass_hot", opt_level="3", debug_level="0")
        distribution = Distribution({"name": "daypass-hot", "ext_modules": extensions})
        command: Any = distribution.get_command_obj("build_ext")
        command.inplace = True
        command.ensure_finalized()
        command.run()
        shutil.rmtree("build", ignore_errors=True)
        return sorted(path.relative_to(folder) for path in folder.rglob("*.so"))
    finally:
        os.chdir(before)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # not a build: the command below needs none of it
    pass
else:

    class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg]
        """Puts the compiled modules into a wheel that is built with DAYPASS_COMPILE=1."""

        def _wanted(self) -> bool:
            return os.environ.get("DAYPASS_COMPILE", "") not in ("", "0")

        def dependencies(self) -> list[str]:
            # mypy reads the types of everything that the compiled modules import.
            return ["mypy>=2.4", "setuptools", *self.metadata.core.dependencies] if self._wanted() else []

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            if self.target_name != "wheel" or version == "editable" or not self._wanted():
                return
            self._folder = tempfile.TemporaryDirectory(prefix="daypass-compile-")
            folder = Path(self._folder.name)
            for name in ("proxy", "recorder"):
                shutil.copytree(Path(self.root) / name, folder / name)
            shutil.copy(Path(self.root) / "pyproject.toml", folder)  # mypy's settings
            for path in compile_in(folder):
                build_data["force_include"][str(folder / path)] = str(path)
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            if hasattr(self, "_folder"):
                self._folder.cleanup()


if __name__ == "__main__":
    found = compile_in(Path(sys.argv[1]).resolve())
    print(f"compiled {len(HOT)} modules into {len(found)} files", file=sys.stderr)
