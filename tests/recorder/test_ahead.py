"""The write-ahead file: what only it has is put back into recordings after a crash of the system, and nothing else is.

A power cut is played by taking from the recordings what was never synced in them.
"""

import json
import os
import random
from pathlib import Path

import pytest

from recorder import ahead
from recorder.ahead import Frame, Segment
from recorder.files import held
from recorder.journal import Recorder, Recording
from recorder.verify import verify
from tests.recorder.support import Hand, Ticker, end, outcome, start, statement
from tests.recorder.test_recovery import crash


def grouped(folder: Path, hand: Hand, **more: int) -> Recorder:
    return Recorder(folder, durability="fsync", now=Ticker(), turns=hand.turns, lock=False, **more)  # type: ignore[arg-type]


def fell(recorder: Recorder) -> None:
    """The system goes down: as `crash`, and the threads are gone too."""
    group, keeper = recorder._common.group, recorder._common.keeper
    assert group is not None
    assert keeper is not None
    keeper.close()
    group.close(whole=False)
    crash(recorder)


def committed(recorder: Recorder, hand: Hand, session: str, statements: int = 5) -> tuple[Recording, int]:
    """A recording with statements that are safe, and how many of its bytes were synced in its own file."""
    recording = recorder.open(session, start(session))
    size = recording.path.stat().st_size
    for n in range(1, statements + 1):
        recording.append(statement(n, f"select {n} /* {'x' * 300} */"))
        recording.commit()
        hand.settle(recorder)
        recording.append(outcome(n))
    return recording, size


def texts(path: Path) -> list[str]:
    return [line["sql"] for line in map(json.loads, path.read_bytes().splitlines()) if line["event"] == "statement"]


def test_frames_come_back_as_they_were_written(tmp_path: Path) -> None:
    segment = Segment(tmp_path, "1-1", 1 << 20)
    frames = [Frame(f"2026/11/s-{n}.jsonl", n * 10, b"x" * n) for n in range(50)]
    segment.write(frames[:20])
    segment.write(frames[20:])
    assert list(ahead.read(segment.path)) == frames
    assert segment.path.stat().st_size == 1 << 20
    assert oct(segment.path.stat().st_mode)[-3:] == "600"
    segment.restart()
    segment.write(frames[:1])
    assert list(ahead.read(segment.path)) == frames[:1]  # what stands behind it is of another generation
    segment.close(remove=True)
    assert not segment.path.exists()


@pytest.mark.thorough
def test_a_frame_that_is_not_whole_ends_the_reading(tmp_path: Path) -> None:
    segment = Segment(tmp_path, "1-1", 1 << 20)
    frames = [Frame(f"2026/11/s-{n}.jsonl", n * 10, b"line %d\n" % n) for n in range(3)]
    segment.write(frames)
    data = segment.path.read_bytes()
    ends = [data.index(b"line %d\n" % n) + 7 for n in range(3)]
    chance = random.Random(3)
    for _ in range(200):
        at = chance.randrange(segment.used)
        segment.path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        assert list(ahead.read(segment.path)) == frames[: sum(end <= at for end in ends)]
        segment.path.write_bytes(data[:at])
        assert list(ahead.read(segment.path)) == frames[: sum(end <= at for end in ends)]
    segment.close(remove=True)


@pytest.mark.parametrize("lost", ["all", "some", "zeros", "nothing"])
def test_what_the_system_lost_in_the_recordings_is_put_back(tmp_path: Path, lost: str) -> None:
    hand = Hand()
    recorder = grouped(tmp_path, hand)
    one, synced = committed(recorder, hand, "s-1")
    two, _ = committed(recorder, hand, "s-2")
    whole = one.path.read_bytes()
    fell(recorder)
    keep = {"all": synced, "some": len(whole) - 400, "zeros": len(whole), "nothing": len(whole)}[lost]
    data = whole[:keep] if lost != "zeros" else whole[: synced + 50] + bytes(len(whole) - synced - 50)
    one.path.write_bytes(data)
    again = Recorder(tmp_path, now=Ticker())
    again.close()
    assert one.path.read_bytes().startswith(whole)
    assert texts(one.path) == texts(two.path) == [f"select {n} /* {'x' * 300} */" for n in range(1, 6)]
    report = verify(tmp_path)
    assert report.ok, report.to_dict()
    assert {c.id: c.state for c in report.recordings} == {"s-1": "interrupted", "s-2": "interrupted", "node": "open"}
    assert not list((tmp_path / ahead.FOLDER).iterdir())
    if lost in ("all", "some"):
        last = json.loads(one.path.read_bytes().splitlines()[-1])
        assert f"{len(whole) - keep} bytes were taken from its write-ahead file" in last["detail"]
    if lost == "zeros":
        assert one.path.with_name("s-1.jsonl.torn").exists()  # nothing is thrown away


def test_a_power_cut_at_any_moment_loses_nothing_that_was_told(tmp_path: Path) -> None:
    """Of each file a random part survives that is not shorter than what was synced; of the frames all that were."""
    chance = random.Random(5)
    for round_ in range(6):
        folder, hand = tmp_path / str(round_), Hand()
        recorder = grouped(folder, hand)
        told: dict[Path, int] = {}
        synced: dict[Path, int] = {}
        recordings = [recorder.open(f"s-{n}", start(f"s-{n}")) for n in range(4)]
        for recording in recordings:
            told[recording.path] = synced[recording.path] = recording.path.stat().st_size
        for n in range(1, 40):
            for recording in chance.sample(recordings, 2):
                recording.append(statement(n, "x" * chance.randrange(2000)))
                recording.commit()
            if chance.random() < 0.5:
                hand.settle(recorder)
                told = {path: path.stat().st_size for path in told}
            if chance.random() < 0.1:
                recorder.checkpoint()
                hand.settle(recorder)
                synced = {path: path.stat().st_size for path in told}
        fell(recorder)
        for path in told:
            os.truncate(path, chance.randint(synced[path], path.stat().st_size))
        before = {path: path.read_bytes() for path in told}
        assert verify(folder).ok  # also where nobody has put anything back yet
        Recorder(folder, now=Ticker()).close()
        report = verify(folder)
        assert report.ok, report.to_dict()
        for path, size in told.items():
            assert path.read_bytes().startswith(before[path][: synced[path]])
            assert path.stat().st_size >= size


def test_what_a_hand_cut_below_what_was_synced_is_not_mended(tmp_path: Path) -> None:
    hand = Hand()
    recorder = grouped(tmp_path, hand)
    recording, _ = committed(recorder, hand, "s-1")
    recorder.checkpoint()
    hand.settle(recorder)
    fell(recorder)
    os.truncate(recording.path, 40)
    Recorder(tmp_path, now=Ticker()).close()
    assert not verify(tmp_path).ok


def test_a_sealed_recording_is_not_touched(tmp_path: Path) -> None:
    hand = Hand()
    recorder = grouped(tmp_path, hand)
    recording, _ = committed(recorder, hand, "s-1")
    committed(recorder, hand, "s-2")
    recording.close(end())
    hand.settle(recorder)
    fell(recorder)
    os.truncate(recording.path, recording.path.stat().st_size - 500)
    cut = recording.path.read_bytes()
    Recorder(tmp_path, now=Ticker()).close()
    assert recording.path.read_bytes() == cut
    assert not verify(tmp_path).ok


def test_the_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    hand = Hand()
    recorder = grouped(tmp_path, hand)
    recording, _ = committed(recorder, hand, "s-1")
    other = Recorder(tmp_path, now=Ticker(), lock=False)
    assert other.recovered == other.checkpoint() == []
    assert len(list((tmp_path / ahead.FOLDER).glob("*.wal"))) == 2
    recording.close(end())
    recorder.close()
    assert not list((tmp_path / ahead.FOLDER).iterdir())  # all is synced and sealed: nobody needs them
    other.close()
    assert not held(recording.path)
    assert verify(tmp_path).ok


def test_a_name_in_a_frame_leads_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    Recorder(folder, now=Ticker()).close()
    (tmp_path / "victim.jsonl").write_bytes(b"mine\n")
    segment = Segment(folder, "1-1", 1 << 20)
    segment.write([Frame("../victim.jsonl", 5, b"yours\n"), Frame("node.jsonl", 0, b"{}\n")])
    segment.close(remove=False)
    Recorder(folder, now=Ticker()).close()
    assert (tmp_path / "victim.jsonl").read_bytes() == b"mine\n"
    assert verify(folder).ok
