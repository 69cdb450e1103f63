"""The log of several processes is lines of JSON, whole ones, whoever writes at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.live.house import until

LOG = """
import sys, structlog
from proxy.server import logs
logs.as_json(int(sys.argv[1]))
log = structlog.get_logger()
log.info("up")
sys.stdin.readline()
for n in range(400):
    log.info("tick", n=n, padding="x" * 500)
"""


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab") as out:
        running = [
            subprocess.Popen(
                [sys.executable, "-u", "-c", LOG, str(number)], stdin=subprocess.PIPE, stdout=out, stderr=out
            )
            for number in (1, 2, 3)
        ]
        for _ in until(20):
            if path.read_text().count('"up"') == 3:
                break
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait(30) for process in running] == [0, 0, 0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3 * 401
    assert {line["worker"] for line in lines if line["event"] == "tick"} == {1, 2, 3}
    assert next(iter(lines[0])) == "event"
