"""A disk that says no, or takes long, at one place: nothing is sent unrecorded, and nobody else waits for it."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.wire import build
from recorder.verify import verify
from tests.faults.conftest import Figure
from tests.faults.disks import Shim
from tests.faults.test_record import executed, recorded_texts
from tests.live.house import House, until
from tests.live.raw import Raw, fatal

WHERE = {
    "a statement's write": ("write", "/s-"),
    "the write-ahead file's write": ("write", ".wal"),
    "the write-ahead file's sync": ("sync", ".wal"),
    "the recording's own sync": ("sync", "/s-"),
    "the node log's write": ("write", "node.jsonl"),
    "the node log's sync": ("sync", "node.jsonl"),
    "node.head": ("write", "node.head"),
    "the folder's sync": ("sync", "recordings/20"),
}
QUICK = [("write", "a statement's write"), ("fsync", "the write-ahead file's sync")]
PLACES = [
    pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow)
    for each in [
        *(("fsync", place) for place in WHERE),
        *(("write", place) for place in list(WHERE)[::4]),
        ("write", "node.head"),
    ]
]


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim(tmp_path)


@pytest.fixture
def make_shimmed(
    shim: Shim, make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], House]]:
    """A running daypass whose calls meet the library."""
    with ExitStack() as stack:

        def make(durability: str) -> House:
            house = make_house(recording={"durability": durability})
            with monkeypatch.context() as patch:
                for name, value in shim.environment.items():
                    patch.setenv(name, value)
                house.start()
            stack.callback(shim.order)
            return house

        yield make


def ready(house: House) -> bool:
    return any(house.http("/readyz")[0] == 200 for _ in until(15, 0.1))


@pytest.mark.parametrize(("durability", "place"), PLACES)
def test_an_error_of_the_disk(
    make_shimmed: Callable[[str], House], shim: Shim, durability: str, place: str, figure: Figure
) -> None:
    house = make_shimmed(durability)
    login = house.grant()
    call, part = WHERE[place]
    word = f"disk_error_{durability}_{list(WHERE).index(place)}_"  # the server and its log are the other tests' too
    sent = answered = 0
    for _ in range(2):
        with Raw(house.port).login(login) as raw:
            raw.send(build.query(b"select 0 as %s" % word.encode()))
            raw.until("Z")
            shim.order((call, part, errno.EIO, 0))
            for number in range(1, 200):
                sent += 1
                raw.send(build.query(b"select %d as %s%d" % (number, word.encode(), sent)))
                messages = raw.until("Z", "E")
                if messages[-1][0] == "E":
                    assert fatal(messages)[0] == "58030"
                    break
                answered += 1
                if number == 3 and "/s-" not in part and ".wal" not in part:
                    break  # met by the end of the session only, or by the next login
            with Raw(house.port) as another:
                another.start(login[0])
                heard = another.prove(login[1])
                if heard and heard[-1][0] == "E":
                    assert fatal(heard)[0] in ("58030", "53100")
        shim.order()
        assert ready(house), (house.folder / "serve.log").read_text()[-2000:]
    ran = executed(house, word)
    assert answered <= len(ran) <= sent + 2
    assert set(ran) <= recorded_texts(house)
    for _ in until(12, 0.2):
        report = verify(house.folder / "recordings")
        assert report.ok, report.to_dict()
        states = {checked.state for checked in report.recordings if checked.id.startswith("s-")}
        if states <= {"sealed", "interrupted"}:
            break
    assert states <= {"sealed", "interrupted"}
    assert house.stop() == 0
    assert not list((house.folder / "recordings").glob(".ahead/*.wal")) or durability == "fsync"
    house.start()
    house.stop()
    assert verify(house.folder / "recordings").ok
    figure(f"EIO, {durability}: {place}", f"{sent} statements", "0 sent unrecorded; 0 damaged; ready again", "0")


def test_a_slow_disk_holds_up_who_waits_for_it_and_nobody_else(
    make_shimmed: Callable[[str], House], shim: Shim, figure: Figure
) -> None:
    house = make_shimmed("fsync")
    login = house.grant()
    with Raw(house.port).login(login) as raw:
        raw.send(build.query(b"select 0 as slow_disk"))
        raw.until("Z")
        shim.order(("sync", ".wal", 0, 3000))
        began = time.monotonic()
        raw.send(build.query(b"select 1 as slow_disk"))
        time.sleep(0.3)
        longest, looks = 0.0, 0
        while time.monotonic() - began < 2.0:
            asked = time.monotonic()
            assert house.http("/healthz")[0] == 200
            longest = max(longest, time.monotonic() - asked)
            ran = len(executed(house, "slow_disk"))
            if time.monotonic() - began < 3.0:
                looks += 1
                assert ran == 1, "sent before it was on the disk"
        assert looks, "this machine is too slow for this test"
        raw.until("Z")
        took = time.monotonic() - began
        assert 3.0 <= took < 6.0
        assert longest < 1.0
        assert len(executed(house, "slow_disk")) == 2
    shim.order()
    figure("a disk that takes 3 s to sync", "a statement", f"sent after {took:.1f} s; others wait {longest:.2f} s", "-")


def test_a_login_that_waits_for_the_disk_holds_nobody_up(make_shimmed: Callable[[str], House], shim: Shim) -> None:
    house = make_shimmed("fsync")
    login = house.grant()
    with Raw(house.port).login(login) as raw:
        shim.order(("sync", "node.jsonl", 0, 1500))
        began = time.monotonic()
        opened: list[float] = []

        def log_in() -> None:
            with Raw(house.port).login(login):
                opened.append(time.monotonic() - began)

        thread = threading.Thread(target=log_in)
        thread.start()
        time.sleep(0.4)
        asked = time.monotonic()
        raw.send(build.query(b"select 1 as meanwhile"))
        raw.until("Z")
        took = time.monotonic() - asked
        thread.join()
        assert took < 1.0
        assert opened[0] >= 1.5
    shim.order()
    assert house.stop() == 0
    lines = [json.loads(line) for line in (house.folder / "recordings" / "node.jsonl").read_bytes().splitlines()]
    assert [line["state"] for line in lines if line["event"] == "seal"] == ["sealed", "sealed"]
