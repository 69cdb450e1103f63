"""The node log as a verifier sees it: signatures decide what is believed."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import nodeview
from recorder.nodelog import NodeLog, Opened
from recorder.seal import load_public, public_key_file
from tests.recorder.support import START, sealed


def key(directory: Path) -> Ed25519PublicKey:
    return load_public(public_key_file(directory))


def kinds(directory: Path) -> list[tuple[str, str, int | None]]:
    return [(found.kind, found.file, found.line) for found in nodeview.read(directory, key(directory)).findings]


def test_what_it_names(tmp_path: Path) -> None:
    sealed(tmp_path, "s-1", "s-2")
    view = nodeview.read(tmp_path, key(tmp_path))
    assert view.findings == []
    assert view.lines == 8
    assert view.files() == {"2026/11/s-1.jsonl", "2026/11/s-2.jsonl"}
    one = view.recordings["s-1"]
    assert [head.seq for head in one.heads] == [1, 5]
    assert one.seal is not None
    assert (one.seal.state, one.seal.lines, one.line) == ("sealed", 6, 5 - 2)


def test_a_forged_line_adds_nothing(tmp_path: Path) -> None:
    sealed(tmp_path)
    node = tmp_path / "node.jsonl"
    lines = node.read_bytes().splitlines(keepends=True)
    forged = lines[-1].replace(b'"lines":6', b'"lines":5')
    node.write_bytes(b"".join(lines[:-1]) + forged)
    view = nodeview.read(tmp_path, key(tmp_path))
    assert view.recordings["s-1"].seal is None
    assert [found.kind for found in view.findings] == ["signature", "changed"]


def test_a_recording_that_is_named_twice(tmp_path: Path) -> None:
    """An older version could be brought to seal the beginning of a recording, put in another folder, in its place."""
    sealed(tmp_path)
    node = NodeLog(tmp_path, sync=False)
    again = Opened(id="s-1", file="2026/12/s-1.jsonl", first="0" * 64)
    node.append([(START, again)])
    node.close()
    assert kinds(tmp_path) == [("added", "node.jsonl", 6)]


def test_another_key_is_said_once(tmp_path: Path) -> None:
    sealed(tmp_path / "a")
    sealed(tmp_path / "b")
    view = nodeview.read(tmp_path / "a", key(tmp_path / "b"))
    assert [(found.kind, found.file) for found in view.findings] == [("key", "node.jsonl"), ("changed", "node.head")]
    assert view.recordings == {}


def test_the_end(tmp_path: Path) -> None:
    sealed(tmp_path)
    node, head = tmp_path / "node.jsonl", tmp_path / "node.head"
    data, end = node.read_bytes(), head.read_bytes()
    os.truncate(node, len(data) - 1)
    assert kinds(tmp_path) == [("cut", "node.jsonl", 5)]
    node.write_bytes(data + data.splitlines(keepends=True)[-1])
    assert ("added", "node.jsonl", 6) in kinds(tmp_path)
    node.write_bytes(data)
    head.unlink()
    assert kinds(tmp_path) == [("missing", "node.head", None)]
    head.write_bytes(end.replace(b'"seq":5', b'"seq":6'))
    assert kinds(tmp_path) == [("changed", "node.head", None)]
    head.write_bytes(end)
    node.unlink()
    assert kinds(tmp_path) == [("cut", "node.jsonl", 1)]


def test_an_empty_folder(tmp_path: Path) -> None:
    view = nodeview.read(tmp_path, None)
    assert (view.recordings, view.findings, view.lines) == ({}, [], 0)
