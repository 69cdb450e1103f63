"""Walking a chain: what each kind of harm is called, and on which line."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder import chain
from recorder.walk import MOST, in_order, walk


def lines(count: int = 6) -> list[bytes]:
    made, head = [], chain.START
    for n in range(1, count + 1):
        line = chain.compose(n, b'"t"', head.hash, b'{"event":"e","n":%d}' % n)
        head = chain.Head(n, chain.digest(line))
        made.append(line + b"\n")
    return made


def kinds(path: Path, data: bytes) -> list[tuple[str, int | None]]:
    path.write_bytes(data)
    return [(found.kind, found.line) for found in walk(path, "f").findings]


def test_a_whole_file(tmp_path: Path) -> None:
    made = lines()
    (tmp_path / "f").write_bytes(b"".join(made) + b'{"half')
    heard: list[int] = []
    seen = walk(tmp_path / "f", "f", wanted={2, 99}, each=lambda number, raw, line: heard.append(line.seq))
    assert (seen.lines, seen.findings, seen.torn, seen.first) == (6, [], 6, made[0][:-1])
    assert seen.hashes == {2: chain.digest(made[1][:-1])}
    assert seen.last == chain.digest(made[-1][:-1])
    assert heard == [1, 2, 3, 4, 5, 6]


def test_harm_has_a_name_and_a_place(tmp_path: Path) -> None:
    a, b, c, d, e, f = lines()
    other = c.replace(b'"n":3', b'"n":9')
    path = tmp_path / "f"
    assert kinds(path, b"") == []
    assert kinds(path, a + b + other + d + e + f) == [("changed", 3)]
    assert kinds(path, a.replace(b"000", b"001", 1) + b) == [("changed", 1), ("changed", 1)]
    assert kinds(path, a + b + d + e + f) == [("removed", 3)]
    assert kinds(path, c + d) == [("removed", 1), ("removed", 1)]
    assert kinds(path, a + b + c + c + d) == [("added", 4)]
    assert kinds(path, a + b + other + c + d) == [("added", 4)]
    assert kinds(path, a + b + d + c + e + f) == [("reordered", 4)]
    assert kinds(path, a + b"nonsense\n" + c + d) == [("unreadable", 2)]
    assert kinds(path, a + b[:-1] + c + d) == [("unreadable", 2), ("removed", 3)]


def test_a_file_of_nonsense_is_not_listed_for_ever(tmp_path: Path) -> None:
    assert len(kinds(tmp_path / "f", b"x\n" * 1000)) == MOST
    huge = chain.compose(10**15, b'"t"', chain.GENESIS, b'{"event":"e"}')
    assert len(kinds(tmp_path / "f", huge + b"\n")) <= MOST


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        walk(tmp_path / "none", "none")


def plainly(lines: list[bytes], first: int, last: str) -> list[str] | None:
    """`in_order`, one line after another: each has the head that we would have written."""
    hashes, at = [], lines[0].find(b'","prev":"', 0, 200)
    for seq, line in enumerate(lines, first):
        fits = line.startswith(b'{"seq":%d,"at":"' % seq) and len(str(seq)) == len(str(first))
        if at < 0 or not fits or line[at : at + 85] != f'","prev":"{last}","event":"'.encode():
            return None
        last = chain.digest(line)
        hashes.append(last)
    return hashes


@settings(max_examples=300, deadline=None)
@given(
    first=st.sampled_from([10, 95, 4000]),
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=12),
    harm=st.none() | st.tuples(st.integers(0, 11), st.integers(0, 160), st.integers(0, 255)),
)
def test_all_at_once_says_what_one_after_another_says(
    first: int, texts: list[str], harm: tuple[int, int, int] | None
) -> None:
    last, made = chain.digest(b"before"), list[bytes]()
    for seq, text in enumerate(texts, first):
        body = msgspec.json.encode({"event": "statement", "sql": text})
        made.append(chain.compose(seq, b'"2026-11-23T09:00:00Z"', chain.digest(made[-1]) if made else last, body))
    if harm is not None:
        at, place, byte = harm
        line = bytearray(made[at % len(made)])
        line[place % len(line)] = byte
        made[at % len(made)] = bytes(line)
    once = in_order(made, first, last)
    assert once == plainly(made, first, last)
    assert harm is not None or once is not None or first == 95
