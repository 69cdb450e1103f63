"""recorder/broad.py: many processes say what one would say, of whole files and of damaged ones."""

from pathlib import Path

import pytest

from recorder import broad, chain
from recorder.walk import walk

COUNT = 1200  # over two powers of ten


def lines() -> list[bytes]:
    made, prev = [], chain.GENESIS
    for number in range(1, COUNT + 1):
        body = b'{"event":"statement","n":%d,"sql":"%b"}' % (number, b"x" * (number % 50))
        line = chain.compose(number, b'"2026-11-23T09:00:00.%dZ"' % (number % 7), prev, body)
        prev = chain.digest(line)
        made.append(line + b"\n")
    return made


LINES = lines()
HARMS = {
    "whole": LINES,
    "torn": [*LINES, b'{"seq":1201'],
    "changed": [*LINES[:600], LINES[600].replace(b"n", b"m"), *LINES[601:]],
    "removed": [*LINES[:599], *LINES[600:]],
    "moved": [*LINES[:10], LINES[11], LINES[10], *LINES[12:]],
    "first gone": LINES[1:],
    "last unreadable": [*LINES[:-1], b"nonsense\n"],
    "nonsense in the middle": [*LINES[:600], b"nonsense\n", *LINES[600:]],
}


@pytest.mark.parametrize("harm", HARMS)
def test_it_is_what_one_reader_says(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "s-1.jsonl"
    path.write_bytes(b"".join(HARMS[harm]))
    wanted = {1, 2, 599, 600, 601, 1000, 1200, 5000}
    alone = walk(path, "f", wanted=wanted)
    assert broad.read(path, "f", wanted=wanted, large=1) == alone
    assert bool(alone.findings) is (harm not in ("whole", "torn"))


def test_a_piece_of_nothing_and_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "s-1.jsonl"
    for data in (b"", b"x", b"\n", LINES[0], LINES[0][:-1]):
        path.write_bytes(data)
        assert broad.read(path, "f", large=0) == walk(path, "f")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        broad.read(path, "f", large=0)


def test_many_files_are_what_each_is_alone(tmp_path: Path) -> None:
    jobs = []
    for number, harm in enumerate([*HARMS, *HARMS]):
        path = tmp_path / f"s-{number}.jsonl"
        path.write_bytes(b"".join(HARMS[harm]))
        jobs.append(broad.Job(path, f"f-{number}", {1, 600, 1200}))
    (tmp_path / "s-large.jsonl").write_bytes(b"".join(LINES) * 5)
    (tmp_path / "s-bad.jsonl.zst").write_bytes(b"nonsense")
    odd = [
        broad.Job(tmp_path / "s-large.jsonl", "l", ()),
        broad.Job(tmp_path / "s-gone.jsonl", "g", ()),
        broad.Job(tmp_path / "s-bad.jsonl.zst", "b", ()),
        broad.Job(None, "", ()),
    ]
    jobs[3:3] = odd
    large = 4 * len(b"".join(LINES))
    alone = [None if job in odd else walk(job.path or tmp_path, job.file, wanted=job.wanted) for job in jobs]
    assert list(broad.many(jobs, large=large)) == alone
    assert list(broad.many(jobs[:2], large=large)) == [None, None]  # too little work
