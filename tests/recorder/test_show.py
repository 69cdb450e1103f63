"""What people read after a command."""

import io
from dataclasses import replace
from pathlib import Path

from msgspec import structs
from rich.console import Console

from recorder import index, show, timeline
from recorder.verify import verify
from tests.recorder.support import sealed


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=40), out


def test_a_whole_folder(tmp_path: Path) -> None:
    sealed(tmp_path)
    to, out = console()
    report = verify(tmp_path)
    show.report(to, report)
    assert out.getvalue().splitlines() == [
        "sealed      s-1  6 lines",
        "open        node  5 lines",
        f"Signatures checked with key {report.key.fingerprint} (found beside the recordings: {report.key.file})",
        "intact: 1 open, 1 sealed",
    ]


def test_damage(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"select 1", b"select 2"))
    to, out = console()
    show.report(to, verify(tmp_path))
    text = out.getvalue()
    assert "damaged     s-1" in text
    assert "    changed: 2026/11/s-1.jsonl:2 is not what the next line was chained to" in text
    assert "NOT INTACT: 1 damaged, 1 open" in text


def test_no_key(tmp_path: Path) -> None:
    sealed(tmp_path)
    (tmp_path / "keys" / "public.pem").unlink()
    to, out = console()
    show.report(to, verify(tmp_path))
    assert "No signature was checked" in out.getvalue()


def test_many_recordings_are_counted_not_listed(tmp_path: Path) -> None:
    sealed(tmp_path, *(f"s-{n}" for n in range(21)), statements=0)
    to, out = console()
    show.report(to, verify(tmp_path))
    assert len(out.getvalue().splitlines()) == 2
    assert "intact: 1 open, 21 sealed" in out.getvalue()


def test_sessions(tmp_path: Path) -> None:
    sealed(tmp_path, "s-1", "s-2")
    to, out = console()
    show.sessions(to, index.sessions(tmp_path))
    lines = out.getvalue().splitlines()
    assert lines[0].split() == [
        "SESSION", "PERSON", "DATABASE", "GRANT", "STARTED", "LASTED", "STATE", "STATEMENTS", "REFUSED"
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["s-1", "s-2"]
    assert "2026-11-23 09:00:00Z" in lines[1]


def test_one_session(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    to, out = console()
    show.session(to, index.find(tmp_path, "s-1"), timeline.summary(path))
    text = out.getvalue()
    assert "person     jane (acme)" in text
    assert "policy     vendor-readonly abababababab" in text
    assert "statements 2 (0 refused, 0 failed)" in text
    assert f"recording  {path}" in text
    assert "signing" not in text
    total = timeline.summary(path)
    assert total.start is not None
    total = replace(total, start=structs.replace(total.start, signing=["nda 60cc66"]))
    show.session(to, index.find(tmp_path, "s-1"), total)
    assert "signing    nda 60cc66" in out.getvalue()
