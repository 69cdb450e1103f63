"""The chain: what a line is, and how a file's end is found again."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from recorder import chain
from recorder.events import encode
from tests.recorder.support import START, statement


def write(path: Path, data: bytes) -> chain.Tail:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return chain.read_tail(fd, len(data))
    finally:
        os.close(fd)


def test_a_line_pins_the_line_before_it() -> None:
    first = chain.compose(1, chain.stamp(START), chain.GENESIS, encode(statement(1)))
    second = chain.compose(2, chain.stamp(START), chain.digest(first), encode(statement(2)))
    line = json.loads(second)
    assert list(line)[:4] == ["seq", "at", "prev", "event"]
    assert (line["seq"], line["at"], line["event"]) == (2, "2026-11-23T09:00:00Z", "statement")
    assert line["prev"] == hashlib.sha256(first).hexdigest()
    assert json.loads(first)["prev"] == "0" * 64


def test_decode_takes_only_lines() -> None:
    assert chain.decode(b'{"seq":1,"at":"x","prev":"y","event":"z","new":[1]}') == chain.Line(1, "x", "y", "z")
    for bad in (b"", b"{}", b"[]", b'{"seq":"1","at":"x","prev":"y","event":"z"}', b"\xff", b'{"seq":1'):
        assert chain.decode(bad) is None


@pytest.mark.parametrize("size", [10, 200, 70_000, 300_000])
@pytest.mark.parametrize("torn", [b"", b'{"seq":3,"at', b"\0" * 5000])
def test_the_end_of_a_file_is_found(tmp_path: Path, size: int, torn: bytes) -> None:
    first = chain.compose(1, b'"t"', chain.GENESIS, b'{"event":"a"}')
    second = chain.compose(2, b'"t"', chain.digest(first), b'{"event":"b","fill":"%b"}' % (b"x" * size))
    whole = first + b"\n" + second + b"\n"
    tail = write(tmp_path / "f", whole + torn)
    assert tail == chain.Tail(chain.Head(2, chain.digest(second)), len(whole), torn, "b")


def test_the_end_of_an_empty_or_unfinished_file(tmp_path: Path) -> None:
    assert write(tmp_path / "f", b"") == chain.Tail(chain.START, 0, b"", "")
    assert write(tmp_path / "f", b'{"seq":1') == chain.Tail(chain.START, 0, b'{"seq":1', "")


def test_a_last_line_of_another_hand_is_counted(tmp_path: Path) -> None:
    tail = write(tmp_path / "f", b"a\nb\nnonsense\n")
    assert tail.head == chain.Head(3, chain.digest(b"nonsense"))
