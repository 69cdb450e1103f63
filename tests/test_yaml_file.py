"""YAML with lines: every mistake is named, nothing is guessed, nothing grows."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.yaml_file import FindingsError, dotted, line_of, nearest, parse_yaml, read_yaml


def mistakes(text: str) -> list[str]:
    with pytest.raises(FindingsError) as caught:
        parse_yaml(text, "f.yaml")
    return [str(finding) for finding in caught.value.findings]


def test_data_and_lines() -> None:
    data, lines = parse_yaml("a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml")
    assert data == {"a": 1, "b": ["x", {"c": 2}]}
    assert [line_of(lines, path) for path in (("a",), ("b",), ("b", 0), ("b", 1, "c"))] == [1, 2, 3, 4]
    assert line_of(lines, ("b", 1, "missing")) == 4
    assert dotted(("b", 1, "c")) == "b[1].c"


def test_json_is_yaml() -> None:
    assert parse_yaml('{"a": {"b": [1, "x"]}}', "f")[0] == {"a": {"b": [1, "x"]}}


def test_an_empty_file_is_an_empty_table() -> None:
    assert parse_yaml("# nothing\n", "f")[0] == {}


def test_a_key_that_stands_twice() -> None:
    assert mistakes("a:\n  b: 1\n  c: 2\n  b: 3\n") == ["f.yaml:4: a.b: stands here a second time; first in line 2"]


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\ta: 1", "a: 'x", "? [1]\n: 2", "a: !!python/object:x.y {}", "a: *b"]
)
def test_what_is_not_plain_yaml_has_a_line(text: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith("f.yaml:")


@pytest.mark.parametrize("text", ["a: 2026-13-45", "a: \x00", "a: \x07", "a: 1\n---\nb: 2\n"])
def test_what_yaml_itself_trips_over(text: str) -> None:
    assert len(mistakes(text)) == 1


def test_aliases_of_aliases_do_not_grow() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "too large" in mistakes(bomb)[0]
    assert "nested too deeply" in mistakes("a: &a [*a]")[0]
    assert "nested too deeply" in mistakes("[" * 5000)[0] or "not YAML" in mistakes("[" * 5000)[0]


def test_files(tmp_path: Path) -> None:
    with pytest.raises(FindingsError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(FindingsError, match=r"bad.yaml:2: is not UTF-8"):
        read_yaml(bad)
    bad.write_bytes(b"\xef\xbb\xbfa: 1\n")  # a byte order mark, as Windows editors leave it
    assert read_yaml(bad)[0] == {"a": 1}


def test_nearest() -> None:
    assert nearest("prot", ["port", "host"]) == "port"
    assert nearest("vendor", ["vendor-readonly", "auditor"]) == "vendor-readonly"
    assert nearest("zzz", ["port", "host"]) is None
    assert nearest("x", []) is None


@given(st.text(max_size=60))
def test_any_text_is_data_or_findings(text: str) -> None:
    with contextlib.suppress(FindingsError):
        parse_yaml(text, "f")
