"""Policy files: what is said of a mistake, and what stays in force."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.policy.load import Policies, PolicyError, parse

GOOD = "name: a\ndatabases: [app]\ntables: {app.orders: {}}\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD + "tabels: {}\n", 4, "tables"),
        ("name: a\ndatabases: [app]\n", 1, "tables"),
        ("name: a\ndatabases: [app]\ntables:\n  orders: {}\n", 4, "schema"),
        ("name: a\ndatabases: [app]\ntables:\n  app.x: {mask: {a: blur}}\n", 4, "redact"),
        ("name: a\ndatabases: [app]\ntables:\n  app.x: {deny: [a], columns: [b]}\n", 4, "not both"),
        (GOOD + "limits: {statement_timeout: 30}\n", 4, "30s"),
        (GOOD + "network: [10.0.0.300/8]\n", 4, "203.0.113.0/24"),
        (GOOD + "window: {timezone: Mars/Olympus}\n", 4, "Europe/Berlin"),
        ("- 1\n", 1, "mapping"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text, "p.yaml")
    finding = caught.value.findings[0]
    assert (finding.file, finding.line) == ("p.yaml", line)
    assert words in str(finding)


def test_a_bare_null_is_the_mask_null() -> None:
    policy = parse("name: a\ndatabases: [app]\ntables: {app.x: {mask: {a: null}}}\n", "p.yaml")
    assert policy.model.tables["app.x"].mask == {"a": "null"}


def test_the_revision_is_the_text(tmp_path: Path) -> None:
    assert parse(GOOD, "a").revision == parse(GOOD, "b").revision != parse(GOOD + " ", "a").revision


def test_a_broken_file_leaves_the_last_good_revision(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    policies = Policies(tmp_path)
    assert policies.load() == []
    revision = policies.get("a").revision
    file.write_text(GOOD + "oops: 1\n")
    assert policies.changed()
    (finding,) = policies.load()
    assert "oops" in str(finding)
    assert policies.get("a").revision == revision
    file.unlink()
    assert policies.load() == []
    assert policies.names() == []


def test_two_files_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    policies = Policies(tmp_path)
    assert "already" in str(policies.load()[0])


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    assert "does not exist" in str(Policies(tmp_path / "no").load()[0])


def test_changed_sees_a_new_file(tmp_path: Path) -> None:
    policies = Policies(tmp_path)
    policies.load()
    assert not policies.changed()
    (tmp_path / "a.yaml").write_text(GOOD)
    assert policies.changed()
    policies.load()
    os.utime(tmp_path / "a.yaml", (1, 1))
    assert policies.changed()
