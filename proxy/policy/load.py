"""Policy files: a folder of YAML, read into policies, with every mistake named by file and line.

Knows files; what a policy means is `model`'s and `bind`'s business. Invariant: a file that cannot be used never takes
the place of a revision that could: the last good one stays in force until the file is good again or gone.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from proxy.policy.model import Policy, PolicyModel
from proxy.yaml_file import Finding, FindingsError, findings, parse_yaml


class PolicyError(FindingsError):
    """A policy file that cannot be used."""


def parse(text: str, file: Path | str) -> Policy:
    """One policy from its text. Raises PolicyError with all findings."""
    try:
        data, lines = parse_yaml(text, file)
        if not isinstance(data, dict):
            raise PolicyError([Finding(str(file), 1, "", "a policy is a mapping with name, databases and tables")])
        return Policy(PolicyModel.model_validate(data), text, str(file))
    except ValidationError as error:
        raise PolicyError(findings(file, lines, error, PolicyModel)) from None
    except FindingsError as error:
        raise PolicyError(error.findings) from None


class Policies:
    """The policies of a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_name: dict[str, Policy] = {}
        self._by_file: dict[Path, Policy] = {}
        self._marks: dict[Path, tuple[int, int]] = {}

    def changed(self) -> bool:
        """Whether a file was added, removed or written since the last `load`."""
        return self._now() != self._marks

    def _now(self) -> dict[Path, tuple[int, int]]:
        marks = {}
        for path in sorted([*self.folder.glob("*.yaml"), *self.folder.glob("*.yml")]):
            try:
                stat = path.stat()
            except OSError:
                continue
            marks[path] = (stat.st_mtime_ns, stat.st_size)
        return marks

    def load(self) -> list[Finding]:
        """Reads the folder anew. Returns what is wrong; a broken file's last good revision stays."""
        if not self.folder.is_dir():
            return [Finding(str(self.folder), 0, "", "this folder of policy files does not exist")]
        marks, found = self._now(), []
        by_file: dict[Path, Policy] = {}
        for path in marks:
            try:
                by_file[path] = parse(path.read_text(encoding="utf-8"), path)
            except PolicyError as error:
                found += error.findings
            except (OSError, UnicodeDecodeError) as error:
                found.append(Finding(str(path), 0, "", f"cannot be read: {error}"))
            if path not in by_file and path in self._by_file:
                by_file[path] = self._by_file[path]
        by_name: dict[str, Policy] = {}
        for path, policy in by_file.items():
            if policy.name in by_name:
                other = by_name[policy.name].file
                found.append(
                    Finding(str(path), 1, "name", f"{policy.name} is already the name of the policy in {other}")
                )
                continue
            by_name[policy.name] = policy
        self._marks, self._by_file, self._by_name = marks, by_file, by_name
        return found

    def get(self, name: str) -> Policy:
        """Raises KeyError for a name that no good file has."""
        return self._by_name[name]

    def names(self) -> list[str]:
        return sorted(self._by_name)
