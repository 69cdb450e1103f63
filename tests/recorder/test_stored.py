"""recorder/stored.py: whatever form a recording has, its lines are those that were written."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
import zstandard

from recorder import stored
from recorder.stored import BrokenError, SealedError

LINES = [b'{"seq":%d}\n' % number for number in range(50_000)]
DATA = b"".join(LINES)
KEY = pyrage.x25519.Identity.generate()


def make(folder: Path, name: str, data: bytes = DATA) -> Path:
    path = folder / name
    if ".zst" in name:
        data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    if name.endswith(".age"):
        data = pyrage.encrypt(data, [KEY.to_public()])
    path.write_bytes(data)
    return path


FORMS = ["s-1" + suffix for suffix in stored.SUFFIXES]


@pytest.mark.parametrize("name", FORMS)
def test_lines_in_every_form(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, name)
    with stored.reading(path, [KEY]) as file:
        assert list(file) == LINES
    with stored.reading(path, [KEY]) as file:
        assert file.readline() == LINES[0]  # and no more: what is left must not hang or hurt
    with stored.reading(path, [KEY]) as file:
        blocks = iter(lambda: file.read(1 << 16), b"")
        assert b"".join(blocks) == DATA


def test_names() -> None:
    for name in FORMS:
        assert stored.session_id(f"2026/11/{name}") == "s-1"
        assert stored.suffix(name) == name.removeprefix("s-1")
    for name in ("s-1.jsonl.torn", "s-1.jsonl.zst.new", "s-1", "s-1.zst"):
        assert stored.suffix(name) == ""
    assert [stored.encrypted(name) for name in FORMS] == [False, False, True, True]


def test_what_is_there(tmp_path: Path) -> None:
    month = tmp_path / "2026" / "11"
    month.mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl.zst", "c.jsonl.zst.age", "d.jsonl.torn", "e.jsonl.zst.new"):
        (month / name).touch()
    assert stored.session_files(tmp_path) == ["2026/11/a.jsonl", "2026/11/b.jsonl.zst", "2026/11/c.jsonl.zst.age"]


@pytest.mark.parametrize("name", FORMS[1:])
def test_a_recording_that_was_packed_meanwhile_is_found(tmp_path: Path, name: str) -> None:
    plain = tmp_path / "s-1.jsonl"
    assert stored.locate(plain) == plain
    path = make(tmp_path, name)
    assert stored.locate(plain) == path
    with stored.reading(plain, [KEY]) as file:
        assert file.readline() == LINES[0]
    with pytest.raises(FileNotFoundError), stored.reading(tmp_path / "other.jsonl"):
        pass


def test_a_locked_one_says_what_it_needs(tmp_path: Path) -> None:
    path = make(tmp_path, "s-1.jsonl.zst.age")
    with pytest.raises(SealedError, match="--identity FILE"), stored.reading(path):
        pass
    with (
        pytest.raises(SealedError, match="to other keys"),
        stored.reading(path, [pyrage.x25519.Identity.generate()]) as f,
    ):
        f.read(1)


@pytest.mark.parametrize("name", FORMS[1:])
def test_a_damaged_one_is_an_error_and_never_a_shorter_one(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, name)
    data = path.read_bytes()
    harms: list[Callable[[], int]] = [
        lambda: path.write_bytes(data[: len(data) // 2] + b"!!" + data[len(data) // 2 + 2 :])
    ]
    if name.endswith(".age"):
        harms.append(lambda: path.write_bytes(data[:-10]))
        harms.append(lambda: path.write_bytes(data[:100]))
    for harm in harms:
        harm()
        with pytest.raises((BrokenError, SealedError)), stored.reading(path, [KEY]) as file:
            for _ in file:
                pass


@pytest.mark.parametrize("name", ["s-1.jsonl.zst", "s-1.jsonl.zst.age"])
@pytest.mark.parametrize("cut", [40, 5_000, 30_000])
def test_one_that_was_cut_off_is_no_shorter_one(tmp_path: Path, name: str, cut: int) -> None:
    path = make(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(BrokenError), stored.reading(path, [KEY]) as file:
        list(file)


def test_the_standard_tools_read_it(tmp_path: Path) -> None:
    path = make(tmp_path, "s-1.jsonl.zst")
    try:
        assert subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout == DATA
    except FileNotFoundError:
        pytest.skip("no zstd program here")


def test_identity_files(tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text(f"# created: 2026-11-26\n# public key: {KEY.to_public()}\n{KEY}\n")
    path = make(tmp_path, "s-1.jsonl.zst.age")
    with stored.reading(path, stored.identities(file)) as lines:
        assert lines.readline() == LINES[0]
    for text, why in (
        ("# nothing\n", "age-keygen"),
        ("nonsense\n", "no age identity"),
        ("-----BEGIN X PRIVATE KEY-----", "OpenSSH"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=why):
            stored.identities(file)
    with pytest.raises(OSError):
        stored.identities(tmp_path / "none")


def test_an_ssh_key_is_an_identity(tmp_path: Path) -> None:
    file = tmp_path / "id_ed25519"
    try:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen here")
    recipient = pyrage.ssh.Recipient.from_str(file.with_suffix(".pub").read_text())
    path = tmp_path / "s-1.jsonl.age"
    path.write_bytes(pyrage.encrypt(DATA, [recipient]))
    with stored.reading(path, stored.identities(file)) as lines:
        assert lines.readline() == LINES[0]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = make(tmp_path, "s-1.jsonl.zst.age")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with stored.reading(path, [KEY]) as file:
            file.readline()
    assert len(os.listdir("/proc/self/fd")) == before
