"""Group commit: one sync for all who wait, nobody told too early, and a sync that failed never tried again."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.events import Login
from recorder.group import Group, Keeper
from recorder.journal import Recorder, RecordError, Recording
from recorder.verify import verify
from tests.recorder.support import Hand, Ticker, end, outcome, start, statement
from tests.recorder.test_ahead import grouped


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def recorder(tmp_path: Path, hand: Hand) -> Iterator[Recorder]:
    recorder = grouped(tmp_path, hand)
    yield recorder
    recorder.close()


def group_of(recorder: Recorder) -> Group:
    assert recorder._common.group is not None
    return recorder._common.group


def refuses(fd: int) -> None:
    """From now on every write to this descriptor meets a full device, and every sync is an error: a pipe has none."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, fd)
    os.close(full)


def cannot_sync(fd: int) -> None:
    """Writes succeed and syncs do not: EINVAL, from the end of a pipe that nobody has to read."""
    out, into = os.pipe()
    os.dup2(into, fd)
    os.close(into)
    threading.Thread(
        target=lambda: [None for _ in iter(lambda: os.read(out, 65536), b"")] and None, daemon=True
    ).start()


def test_all_of_one_turn_share_a_sync(recorder: Recorder, hand: Hand) -> None:
    recordings = [recorder.open(f"s-{n}", start(f"s-{n}")) for n in range(50)]
    told: list[str] = []
    for recording in recordings:
        recording.append(statement())
        assert recording.commit(lambda id_=recording.id: told.append(id_)) is False  # type: ignore[misc]
    assert told == []
    hand.until(lambda: len(told) == 50)
    assert told == [recording.id for recording in recordings]
    assert recorder.syncs == 1
    for recording in recordings:
        recording.close(end())
    hand.settle(recorder)
    assert {c.state for c in verify(recorder.directory).recordings} == {"sealed", "open"}


def test_what_comes_while_the_disk_writes_is_the_next_group(recorder: Recorder, hand: Hand) -> None:
    one, two = recorder.open("s-1", start("s-1")), recorder.open("s-2", start("s-2"))
    told: list[int] = []
    one.append(statement())
    one.commit(lambda: told.append(1))
    hand.until(lambda: group_of(recorder)._busy)
    for recording in (one, two):
        recording.append(outcome())
        recording.commit(lambda: told.append(2))
    hand.until(lambda: len(told) == 3)
    assert told == [1, 2, 2]
    assert recorder.syncs == 2


def test_nothing_to_write_waits_for_nothing(recorder: Recorder) -> None:
    recording = recorder.open("s-1", start())
    assert recording.commit(lambda: None) is True


def test_outcomes_join_the_groups(recorder: Recorder, hand: Hand) -> None:
    recordings = [recorder.open(f"s-{n}", start(f"s-{n}")) for n in range(20)]
    for recording in recordings:
        recording.append(outcome())
    recorder.installation().append(Login(user="x", client_address="::1", outcome="refused", reason="expired"))
    recorder.flush_all()
    hand.settle(recorder)
    assert recorder.syncs == 1
    assert not recorder.waiting
    assert b'"login"' in recorder.installation().path.read_bytes()


def test_a_full_segment_gives_way_to_the_other(tmp_path: Path, hand: Hand) -> None:
    recorder = grouped(tmp_path, hand)
    group = group_of(recorder)
    group._size = 20_000
    used = set()
    recording = recorder.open("s-1", start())
    for n in range(60):
        recording.append(statement(n, "x" * 2000))
        recording.commit()
        hand.settle(recorder)
        assert group._segment is not None
        used.add(group._segment.path)
        assert group._segment.used < 30_000
    assert len(used) == 2
    recording.close(end())
    recorder.close()
    assert verify(tmp_path).ok


@pytest.mark.parametrize("harm", [refuses, cannot_sync])
def test_a_write_ahead_file_that_fails_ends_all_sessions_in_order(recorder: Recorder, hand: Hand, harm: object) -> None:
    group = group_of(recorder)
    recordings = [recorder.open(f"s-{n}", start(f"s-{n}")) for n in range(3)]
    segment = group._segment
    assert segment is not None
    assert callable(harm)
    harm(segment._fd)
    told: list[Recording] = []
    for recording in recordings[:2]:
        recording.append(statement())
        recording.commit(lambda recording=recording: told.append(recording))  # type: ignore[misc]
    hand.until(lambda: len(told) == 2)
    assert all(recording.broken is not None for recording in recordings)
    assert not recorder.healthy()
    with pytest.raises(RecordError, match=r"write-ahead|cannot write"):
        recordings[2].commit()
    for recording in recordings:
        recording.close(end())
    hand.settle(recorder)
    states = {c.id: c.state for c in verify(recorder.directory).recordings}
    assert states == {"s-0": "sealed", "s-1": "sealed", "s-2": "sealed", "node": "open"}
    recorder.probe()
    hand.settle(recorder)
    assert recorder.healthy()
    assert group._segment is not None
    assert group._segment.path != segment.path
    fresh = recorder.open("s-9", start("s-9"))
    fresh.append(statement())
    fresh.commit(lambda: told.append(fresh))
    hand.until(lambda: fresh in told)
    assert fresh.broken is None


def test_a_recording_whose_sync_fails_is_never_synced_again(recorder: Recorder, hand: Hand) -> None:
    """All sessions end, this one's recording is finished from what the disk and the write-ahead file have."""
    one, two = recorder.open("s-1", start("s-1")), recorder.open("s-2", start("s-2"))
    for recording in (one, two):
        recording.append(statement(1, "select 'kept'"))
        recording.commit()
    hand.settle(recorder)
    cannot_sync(one._fd)
    recorder._open.pop("s-1")  # `check` would see that its file is another
    one.close(end())
    hand.settle(recorder)
    assert one.dead
    assert two.broken is not None
    assert not recorder.healthy()
    two.close(end())
    hand.settle(recorder)
    recorder.probe()
    hand.settle(recorder)
    assert recorder.healthy()
    assert b"select 'kept'" in one.path.read_bytes()
    states = {c.id: c.state for c in verify(recorder.directory).recordings}
    assert states == {"s-1": "interrupted", "s-2": "sealed", "node": "open"}


def test_opening_does_not_wait_for_the_disk_in_the_loop(recorder: Recorder, hand: Hand) -> None:
    found: list[Recording | RecordError] = []
    recorder.open_soon("s-1", start(), found.append)
    assert found == []
    hand.until(lambda: found)
    assert isinstance(found[0], Recording)
    assert b'"s-1"' in (recorder.directory / "node.jsonl").read_bytes()
    recorder.open_soon("s-1", start(), found.append)
    assert isinstance(found[1], RecordError)  # there is one already


def test_an_opening_that_the_disk_refuses_leaves_nothing(recorder: Recorder, hand: Hand) -> None:
    refuses(recorder._node._fd)
    found: list[Recording | RecordError] = []
    recorder.open_soon("s-1", start(), found.append)
    hand.until(lambda: found)
    assert isinstance(found[0], RecordError)
    assert not recorder.healthy()
    assert not list(recorder.directory.glob("*/*/*.jsonl"))


def test_closing_waits_for_what_is_under_way(tmp_path: Path, hand: Hand) -> None:
    recorder = grouped(tmp_path, hand)
    recordings = [recorder.open(f"s-{n}", start(f"s-{n}")) for n in range(5)]
    for recording in recordings:
        recording.append(statement())
        recording.commit()
    for recording in recordings[:3]:
        recording.close(end())
    recorder.close()
    report = verify(tmp_path)
    assert report.ok
    assert [c.state for c in report.recordings] == ["sealed"] * 3 + ["interrupted"] * 2 + ["open"]
    assert not list((tmp_path / ".ahead").iterdir())


def test_a_second_server_of_the_folder_has_files_of_its_own(tmp_path: Path, hand: Hand) -> None:
    """Also one with the same process id, from another container."""
    recorder = grouped(tmp_path, hand)
    keeper = Keeper(hand.turns)
    group = Group(tmp_path, hand.turns, keeper, lambda _: None, size=1 << 20)
    assert len(list((tmp_path / ".ahead").iterdir())) == 4
    keeper.close()
    group.close(whole=True)
    assert len(list((tmp_path / ".ahead").iterdir())) == 2
    recorder.close()


WRITER = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from recorder.journal import Recorder, Turns
from tests.recorder.support import end, outcome, start, statement


async def session(recorder, number):
    loop = asyncio.get_running_loop()
    for life in range(1000):
        opened = loop.create_future()
        name = f"{os.getpid()}-{number}-{life}"
        recorder.open_soon(name, start(name), opened.set_result)
        recording = await opened
        for n in range(1, 4 + number * 4):
            recording.append(statement(n, f"select {n} /* " + "x" * (n * 50) + " */"))
            told = loop.create_future()
            if not recording.commit(lambda: told.set_result(None)):
                await told
            assert recording.broken is None, recording.broken
            print(name, n, flush=True)
            recording.append(outcome(n))
        if life % 3:
            recording.close(end())


async def main():
    loop = asyncio.get_running_loop()
    recorder = Recorder(
        Path(sys.argv[1]), durability="fsync", now=lambda: datetime.now(UTC),
        turns=Turns(loop.call_soon, loop.call_soon_threadsafe),
    )
    recorder._common.group._size = 60_000
    sessions = [asyncio.ensure_future(session(recorder, number)) for number in range(8)]
    while True:
        await asyncio.sleep(0.05)
        recorder.flush_all()
        recorder.checkpoint()


asyncio.run(main())
"""


@pytest.mark.parametrize("points", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_in_the_middle_of_groups(tmp_path: Path, points: int) -> None:
    """What the killed process was told of is there, and nothing is called damaged, before anybody recovers or after."""
    chance = random.Random(points)
    said: dict[str, set[int]] = {}
    for _ in range(points):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        new: dict[str, set[int]] = {}
        for line in rest.decode().splitlines()[:-1]:  # the last one may be half a line
            id_, _, number = line.partition(" ")
            new.setdefault(id_, set()).add(int(number))
        said |= new
        for id_, numbers in new.items():
            (path,) = tmp_path.glob(f"*/*/{id_}.jsonl")
            assert numbers <= told_in(path)
        if points < 10:
            assert verify(tmp_path).ok
    report = verify(tmp_path)
    assert report.ok, report.to_dict()
    Recorder(tmp_path, now=Ticker()).close()
    report = verify(tmp_path)
    assert report.ok, report.to_dict()
    assert {"interrupted", "open"} <= {checked.state for checked in report.recordings}
    assert len(said) >= points
    assert sum(map(len, said.values())) > points
    assert not list((tmp_path / ".ahead").iterdir())
    for id_, numbers in said.items():
        (path,) = tmp_path.glob(f"*/*/{id_}.jsonl")
        assert numbers <= told_in(path)


def told_in(path: Path) -> set[int]:
    """The numbers of the statements in a recording."""
    lines = [line for line in path.read_bytes().splitlines() if b'"event":"statement"' in line and line.endswith(b"}")]
    return {json.loads(line)["n"] for line in lines}


def test_without_a_loop_every_flush_syncs_its_own_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, durability="fsync", now=Ticker())
    recording = recorder.open("s-1", start())
    recording.append(statement())
    assert recording.commit(lambda: None) is True
    assert not (tmp_path / ".ahead").exists()
    recording.close(end())
    recorder.close()
    assert verify(tmp_path).ok
