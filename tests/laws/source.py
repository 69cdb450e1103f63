"""The project's own files as the laws see them: what is tracked, and the syntax trees of the Python among it."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Every file that belongs to the project: git's list with what is new and not ignored."""
    said = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return tuple(path for name in said.split(b"\0") if name and (path := ROOT / name.decode()).is_file())


def python(*folders: str) -> list[Path]:
    """The Python files under these folders of the project."""
    wanted = [ROOT / folder for folder in folders]
    return sorted(p for p in tracked() if p.suffix == ".py" and any(folder in p.parents for folder in wanted))


def name(path: Path) -> str:
    """How a failing law names a file."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
