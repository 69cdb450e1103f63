"""recorder/examine.py: one recording against what the log says of it, in its other forms and after its end. The plain
form and its attacks are in test_verify.py and test_attacks.py."""

from datetime import timedelta
from pathlib import Path

import pyrage
import pytest

from recorder.pack import Form, Packer
from recorder.verify import verify
from tests.recorder.support import START, Ticker, sealed

KEY = pyrage.x25519.Identity.generate()


def packed(directory: Path, *, age: bool) -> Path:
    (plain,) = sealed(directory, "s-1")
    form = Form(recipients=(str(KEY.to_public()),) if age else ())
    (done,) = Packer(directory, form, Ticker(START + timedelta(days=1))).round()
    assert not plain.exists()
    return directory / done.file


def kinds(directory: Path, *, key: bool = False) -> list[tuple[str, str]]:
    report = verify(directory, identities=[KEY] if key else [])
    return [(one.id, found.kind) for one in report.recordings for found in one.findings]


@pytest.mark.parametrize("age", [False, True])
@pytest.mark.parametrize("key", [False, True])
def test_stored_bytes_need_no_key(tmp_path: Path, age: bool, key: bool) -> None:
    path = packed(tmp_path, age=age)
    data = path.read_bytes()
    assert kinds(tmp_path, key=key) == []
    for harm, kind in (
        (data[:-1], "cut"),
        (data + b"x", "added"),
        (data[:-1] + bytes([data[-1] ^ 1]), "changed"),
        (b"", "cut"),
    ):
        path.write_bytes(harm)
        assert kinds(tmp_path, key=key) == [("s-1", kind)]
    path.unlink()
    assert kinds(tmp_path, key=key) == [("s-1", "missing")]


def test_another_file_beside_it(tmp_path: Path) -> None:
    path = packed(tmp_path, age=False)
    path.with_name("s-1.jsonl").write_bytes(b"{}\n")
    assert kinds(tmp_path) == [("s-1", "unlisted")]
    path.with_name("s-1.jsonl").unlink()
    path.with_name("s-1.jsonl.age").write_bytes(b"x")
    assert kinds(tmp_path) == [("s-1", "unlisted")]


def test_a_copy_in_either_form(tmp_path: Path) -> None:
    (plain,) = sealed(tmp_path / "r", "s-1")
    copies = [tmp_path / "copy.jsonl", tmp_path / "copy.jsonl.zst"]
    copies[0].write_bytes(plain.read_bytes())
    Packer(tmp_path / "r", Form(), Ticker(START + timedelta(days=1))).round()
    copies[1].write_bytes(plain.with_name("s-1.jsonl.zst").read_bytes())
    for copy in copies:
        assert verify(tmp_path / "r", ids={"s-1"}, copies={"s-1": copy}).ok
        copy.write_bytes(copy.read_bytes()[:-3] + b"!!!")
        assert not verify(tmp_path / "r", ids={"s-1"}, copies={"s-1": copy}).ok
