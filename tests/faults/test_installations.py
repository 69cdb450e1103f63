"""Two installations, one recordings folder: the second refuses, running or not, server and command line alike."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder import files
from recorder.events import GrantEvent
from recorder.journal import Recorder, RecordError, append_installation
from recorder.verify import verify
from tests.live.house import House
from tests.recorder.support import Ticker, play


def daypass(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    return house.run(*words)


def create(house: House) -> subprocess.CompletedProcess[str]:
    return daypass(
        house,
        *("grant", "create", "--person", "a@b.example", "--vendor", "Acme", "--database", "shop"),
        *("--policy", "reader", "--for", "1h", "--reason", "a test"),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_installation_is_refused(make_house: Callable[..., House], workers: int) -> None:
    first = make_house()
    folder = first.folder / "recordings"
    first.start()
    second = make_house(recording={"dir": str(folder)}, workers=workers)
    for running in (True, False):
        if not running:
            first.stop()
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
        served = daypass(second, "serve")
        assert served.returncode == 3
        assert "belongs to another installation of daypass" in served.stdout + served.stderr
        granted = create(second)
        assert granted.returncode == 3
        assert "belongs to another installation of daypass" in granted.stderr.replace("\n", " ")
        assert json.loads(daypass(second, "grant", "list", "-o", "json").stdout) == []
        if not running:  # the first writes what is its own at any time
            assert before == {
                path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
            }
    assert create(first).returncode == 0
    assert verify(folder).ok


def test_a_folder_is_claimed_once(tmp_path: Path) -> None:
    play(recorder := Recorder(tmp_path, now=Ticker()))
    recorder.close()
    Recorder(tmp_path, now=Ticker(), installation="one").close()  # a folder from before there were marks
    Recorder(tmp_path, now=Ticker(), installation="one").close()
    with pytest.raises(RecordError, match="belongs to another installation"):
        Recorder(tmp_path, now=Ticker(), installation="two")
    event = GrantEvent(action="created", grant="g-1", by="ops")
    with pytest.raises(RecordError, match="belongs to another installation"):
        append_installation(tmp_path, event, Ticker(), installation="two")
    append_installation(tmp_path, event, Ticker(), installation="one")
    assert [path.name for path in tmp_path.glob(f"{files.OWNER}*")] == [files.OWNER]
    assert verify(tmp_path).ok
