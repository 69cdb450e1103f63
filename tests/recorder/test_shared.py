"""Files with several writers: every line has its place, whoever wrote it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from recorder.events import GrantEvent
from recorder.journal import append_installation
from recorder.shared import Installation, SharedLog
from recorder.verify import verify
from recorder.walk import walk
from tests.recorder.support import START, Ticker, sealed

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from recorder.events import GrantEvent
from recorder.journal import append_installation
for n in range(15):
    event = GrantEvent(action="created", grant=f"{sys.argv[2]}-{n}", by="ops")
    append_installation(Path(sys.argv[1]), event, lambda: datetime.now(UTC))
"""


def grant(name: str) -> GrantEvent:
    return GrantEvent(action="created", grant=name, by="ops")


def test_two_writers_in_turn(tmp_path: Path) -> None:
    one, two = (SharedLog(tmp_path / "f", sync=False) for _ in range(2))
    for n in range(3):
        one.append([(START, grant(f"a{n}"))])
        two.append([(START, grant(f"b{n}")), (START, grant(f"c{n}"))])
    assert one.head(START) == two.head(START)
    seen = walk(tmp_path / "f", "f")
    assert (seen.lines, seen.findings) == (9, [])


def test_writers_at_the_same_time_in_a_new_folder(tmp_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "abc"]
    assert [process.wait(30) for process in running] == [0, 0, 0]
    report = verify(tmp_path)
    assert report.ok, report.to_dict()
    assert report.recordings[0].lines == 45


def test_a_torn_line_is_cut_aside_and_said_so(tmp_path: Path) -> None:
    append_installation(tmp_path, grant("g-1"), Ticker())
    path = tmp_path / "installation.jsonl"
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"seq":2,"at":"20')
    append_installation(tmp_path, grant("g-2"), Ticker())
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["event"] for line in lines] == ["grant", "recovered", "grant"]
    assert (lines[1]["offset"], lines[1]["bytes"]) == (size, 17)
    assert (tmp_path / "installation.jsonl.torn").read_bytes() == b'{"seq":2,"at":"20\n'
    assert verify(tmp_path).ok


def test_a_cut_made_between_two_processes_is_not_laundered(tmp_path: Path) -> None:
    for n in range(3):
        append_installation(tmp_path, grant(f"g-{n}"), Ticker())
    path = tmp_path / "installation.jsonl"
    os.truncate(path, sum(len(line) for line in path.read_bytes().splitlines(keepends=True)[:2]))
    append_installation(tmp_path, grant("g-9"), Ticker())
    report = verify(tmp_path)
    assert {found.kind for found in report.recordings[0].findings} == {"changed"}
    path.unlink()
    assert verify(tmp_path).recordings[0].findings[0].kind == "missing"


def test_in_place(tmp_path: Path) -> None:
    sealed(tmp_path)
    file = Installation(tmp_path, sync=False)
    assert file.in_place()
    file.path.rename(tmp_path / "elsewhere")
    assert not file.in_place()
    file.path.touch()
    assert not file.in_place()
    file.close()
    file.close()
