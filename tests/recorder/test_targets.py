"""What ID, FILE and DIR mean."""

import shutil
from pathlib import Path

import pytest

from recorder.index import NotFoundError
from recorder.targets import Target, recording_file, resolve
from tests.recorder.support import sealed


def test_all(tmp_path: Path) -> None:
    sealed(tmp_path)
    assert resolve(None, tmp_path) == Target(tmp_path)
    assert resolve(str(tmp_path), None) == Target(tmp_path)
    with pytest.raises(NotFoundError, match="say which"):
        resolve(None, None)
    with pytest.raises(FileNotFoundError, match="no recordings folder"):
        resolve(None, tmp_path / "none")


def test_an_id(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path, "abc-1")
    for wanted in ("abc-1", "abc"):
        target = resolve(wanted, tmp_path)
        assert target == Target(tmp_path, frozenset({"abc-1"}))
        assert recording_file(wanted, target) == (path, target)
    with pytest.raises(NotFoundError, match="no recording 'x'"):
        resolve("x", tmp_path)
    with pytest.raises(NotFoundError, match="needs the recordings folder"):
        resolve("abc", None)
    target = resolve("installation", tmp_path)
    assert recording_file("installation", target)[0] == tmp_path / "installation.jsonl"


def test_a_file_or_folder_inside(tmp_path: Path) -> None:
    one, _ = sealed(tmp_path, "s-1", "s-2")
    assert resolve(str(one), None) == Target(tmp_path, frozenset({"s-1"}))
    assert resolve(str(one.parent), None) == Target(tmp_path, frozenset({"s-1", "s-2"}))
    assert resolve(str(tmp_path / "node.jsonl"), None) == Target(tmp_path, frozenset())
    with pytest.raises(NotFoundError, match="single"):
        recording_file(str(tmp_path), resolve(str(tmp_path), None))


def test_a_removed_file_counts_for_its_folder(tmp_path: Path) -> None:
    one, _ = sealed(tmp_path, "s-1", "s-2")
    one.unlink()
    assert resolve(str(one), None) == Target(tmp_path, frozenset({"s-1"}))
    assert resolve(str(one.parent), None).ids == frozenset({"s-1", "s-2"})


def test_a_copy_outside(tmp_path: Path) -> None:
    (one,) = sealed(tmp_path / "r", "s-1")
    copy = tmp_path / "evidence.jsonl"
    shutil.copy(one, copy)
    target = resolve(str(copy), tmp_path / "r")
    assert target == Target(tmp_path / "r", frozenset({"s-1"}), {"s-1": copy})
    assert recording_file(str(copy), target)[0] == copy
    with pytest.raises(NotFoundError, match="no recordings folder"):
        resolve(str(copy), None)
    copy.write_bytes(b"nonsense\n")
    with pytest.raises(NotFoundError, match="no recording that"):
        resolve(str(copy), tmp_path / "r")


def test_a_file_that_is_no_recording(tmp_path: Path) -> None:
    (one,) = sealed(tmp_path)
    aside = one.with_name("s-1.jsonl.torn")
    aside.write_bytes(b"x")
    for other in (aside, tmp_path / "keys" / "public.pem"):
        with pytest.raises(NotFoundError, match="is no recording"):
            resolve(str(other), None)
