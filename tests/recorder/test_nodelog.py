"""The node log: what it names, and that its own end cannot be cut in silence."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from recorder import chain, nodelog
from recorder.events import Event, GrantEvent
from recorder.files import RecordError
from recorder.journal import append_installation
from recorder.nodelog import At, Checkpoint, NodeLog, Opened, Seal
from recorder.seal import check_line, load_public, public_key_file
from recorder.verify import verify
from tests.recorder.support import START, Ticker


def opened(id_: str) -> Event:
    return Opened(id=id_, file=f"2026/11/{id_}.jsonl", first="0" * 64)


def seal(id_: str) -> Event:
    return Seal(id=id_, file=f"2026/11/{id_}.jsonl", state="sealed", lines=1, last="0" * 64, bytes=1, sha256="0" * 64)


def write(directory: Path, *entries: Event) -> Path:
    node = NodeLog(directory, sync=False)
    node.start(START)
    for entry in entries:
        node.append([(START, entry)])
    node.close()
    return directory / "node.jsonl"


def names(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_bytes().splitlines()]


def test_every_line_is_signed_and_the_first_says_by_which_key(tmp_path: Path) -> None:
    path = write(tmp_path, opened("s-1"), Checkpoint(heads=[At("s-1", 3, "f" * 64)]), seal("s-1"))
    key = load_public(public_key_file(tmp_path))
    lines = path.read_bytes().splitlines()
    assert all(check_line(line, key) for line in lines)
    assert json.loads(lines[0])["public"] == key.public_bytes_raw().hex()
    assert names(path) == ["node.start", "node.start", "open", "checkpoint", "seal"]


def test_what_is_left_open(tmp_path: Path) -> None:
    path = write(tmp_path, opened("s-1"), opened("s-2"), seal("s-1"))
    follower = nodelog.Follower(path)
    assert [type(entry).__name__ for entry in follower.news()] == ["NodeStart"] * 2 + ["Opened"] * 2 + ["Seal"]
    assert follower.unsealed == {"s-2": "2026/11/s-2.jsonl"}
    assert nodelog.known_files(path) == {"2026/11/s-1.jsonl", "2026/11/s-2.jsonl"}
    assert list(follower.news()) == []
    with path.open("ab") as file:
        file.write(b'nonsense\n{"seq":6,"at":"","prev":"","event":"seal"}\n{"torn')
    follower.update()
    assert follower.unsealed == {"s-2": "2026/11/s-2.jsonl"}


@pytest.mark.parametrize("harm", ["cut", "cut all", "no head", "bad head", "last line"])
def test_a_log_that_does_not_fit_its_signed_end_says_so_for_ever(tmp_path: Path, harm: str) -> None:
    path, head = write(tmp_path, opened("s-1"), seal("s-1")), tmp_path / "node.head"
    lines = path.read_bytes().splitlines(keepends=True)
    if harm == "cut":
        os.truncate(path, len(b"".join(lines[:-1])))
    elif harm == "cut all":
        os.truncate(path, 0)
    elif harm == "no head":
        head.unlink()
    elif harm == "bad head":
        head.write_bytes(head.read_bytes().replace(b'"seq":4', b'"seq":3'))
        os.truncate(path, len(b"".join(lines[:-1])))
    else:
        path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b'"lines":1', b'"lines":2'))
    again = NodeLog(tmp_path, sync=True)
    again.start(START)
    again.close()
    assert names(path)[-2:] == ["node.cut", "node.start"]


def test_a_head_behind_the_log_is_as_a_crash_leaves_it(tmp_path: Path) -> None:
    path, head = write(tmp_path, opened("s-1")), tmp_path / "node.head"
    behind = head.read_bytes()
    write(tmp_path, seal("s-1"))
    head.write_bytes(behind)
    write(tmp_path)
    assert "node.cut" not in names(path)


def grant(directory: Path) -> None:
    append_installation(directory, GrantEvent(action="created", grant="g", by="ops", detail={}), Ticker())


@pytest.mark.parametrize("begin", [write, grant])
def test_a_death_between_the_very_first_lines_and_the_head(
    tmp_path: Path, begin: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(os, "pwrite", _dies)
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path)
    assert verify(tmp_path).ok
    path = write(tmp_path, opened("s-1"))
    assert "node.cut" not in names(path)


def _dies(*_: object) -> int:
    raise KeyboardInterrupt


def test_the_head_fits_one_sector(tmp_path: Path) -> None:
    write(tmp_path)
    data = (tmp_path / "node.head").read_bytes()
    assert len(data) == 512
    end = nodelog.read_end(data)
    assert end is not None
    assert end.seq == 2
    assert nodelog.read_end(data[:-1]) is None
    assert nodelog.read_end(data[:-2] + b"x\n") is None
    assert nodelog.read_end(b"") is None
    largest = nodelog.End(2**63, chain.GENESIS, "0" * 128)
    assert len(msgspec.json.encode(largest)) < 511


def test_a_log_without_its_key_is_not_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "keys" / "signing.pem").unlink()
    with pytest.raises(RecordError, match="put it back"):
        NodeLog(tmp_path, sync=False)
