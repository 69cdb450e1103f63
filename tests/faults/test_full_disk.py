"""A disk that is full: at every write there is, nothing is called recorded that is not, and sessions end in order."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from proxy.wire import build
from recorder.events import GrantEvent
from recorder.journal import Recorder, RecordError, Recording, append_installation
from recorder.reserve import Reserve, free
from recorder.verify import verify
from tests.faults.conftest import Figure
from tests.faults.disks import fill, small_disk
from tests.faults.scale import LONG
from tests.faults.test_record import executed
from tests.live.house import House, until
from tests.live.raw import Raw, fatal
from tests.recorder.support import Hand, Ticker, end, outcome, start, statement

PAGE = 4096
BIG = "x" * 1500


def told(path: Path) -> list[int]:
    """The numbers of the statements in a recording."""
    lines = [line for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    return [line["n"] for line in map(json.loads, lines) if line["event"] == "statement"]


def live(recorder: Recorder, hand: Hand | None, kept: dict[str, list[int]]) -> None:
    """Everything that a server writes, going on past what fails as a server does; `kept`: what was safe when."""

    def settled() -> None:
        if hand is not None:
            hand.settle(recorder)

    recordings: list[Recording] = []
    for round_ in range(3):
        found: list[Recording | RecordError] = []
        recorder.open_soon(f"s-{round_}", start(f"s-{round_}"), found.append)
        settled()
        recordings += [each for each in found if isinstance(each, Recording)]
        for n in range(1, 5):
            for recording in recordings:
                with contextlib.suppress(RecordError):
                    number = round_ * 10 + n
                    recording.append(statement(number, f"select '{BIG}'"))
                    recording.commit()
                    settled()
                    if recording.broken is None:
                        kept.setdefault(recording.id, []).append(number)
                    recording.append(outcome(number))
            recorder.flush_all()
            settled()
        with contextlib.suppress(RecordError):
            event = GrantEvent(action="created", grant=f"g-{round_}", by="ops", detail={"reason": BIG})
            append_installation(recorder.directory, event, Ticker())
        recorder.checkpoint()
        settled()
    for recording in recordings:
        with contextlib.suppress(RecordError):
            recording.close(end())
    settled()


@pytest.mark.parametrize("reserved", [0, 256 << 10])
@pytest.mark.parametrize("durability", ["write", "fsync"])
def test_at_every_write_there_is(tmp_path: Path, reserved: int, durability: str, figure: Figure) -> None:
    """Page by page more room, so that each write in turn is the one that meets the full disk."""
    failed = complete = 0
    for pages in range(0, 40, 1 if LONG else 4):
        hand = Hand() if durability == "fsync" else None
        with small_disk(tmp_path / f"disk{pages}", 24 << 20) as disk:
            folder = disk / "recordings"
            recorder = Recorder(
                folder,
                durability=durability,
                now=Ticker(),
                free_floor=0,
                reserved=reserved,
                turns=hand.turns if hand else None,
            )
            full = fill(disk, leave=pages * PAGE)
            kept: dict[str, list[int]] = {}
            live(recorder, hand, kept)
            recordings = {path.stem: path for path in folder.glob("*/*/*.jsonl")}
            for session, numbers in kept.items():
                assert set(numbers) <= set(told(recordings[session])), (pages, session)
            during = verify(folder)
            assert during.ok, (pages, during.to_dict())
            failed += not recorder.healthy()
            complete += recorder.healthy()
            if reserved:
                states = {checked.state for checked in during.recordings if checked.id in kept}
                assert states <= {"sealed"}, (pages, during.to_dict())
            full.unlink()
            for _ in range(2):
                recorder.checkpoint()
                if hand is not None:
                    hand.settle(recorder)
            assert recorder.healthy(), recorder.fault
            assert recorder.reserved == reserved
            after = verify(folder)
            assert after.ok, (pages, after.to_dict())
            states = {checked.state for checked in after.recordings if checked.id.startswith("s-")}
            assert states <= {"sealed", "interrupted"}
            recorder.close()
            assert verify(folder).ok
    assert failed > (12 if LONG else 3)
    assert complete > 3
    figure(
        f"ENOSPC at each write site, {durability}, reserve {reserved >> 10} KiB",
        f"{failed} places at which the disk was full",
        "0 called recorded that was not; 0 damaged" + ("; every session sealed" if reserved else ""),
        "0",
    )


def test_the_reserve_is_room_that_comes_back(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        before = free(disk)
        reserve = Reserve(disk, 1 << 20)
        assert (reserve.held, reserve.missing, reserve.spend()) == (0, 1 << 20, False)
        reserve.make()
        reserve.make()
        assert (reserve.held, reserve.missing) == (1 << 20, 0)
        assert before - free(disk) == 1 << 20
        assert not list(disk.iterdir())  # nothing that somebody could forget
        assert reserve.spend()
        assert reserve.spend()  # still somebody's, until it is made again
        assert free(disk) == before
        fill(disk, leave=PAGE)
        with pytest.raises(OSError, match="No space"):
            reserve.make()
        assert free(disk) == PAGE
        assert Reserve(disk, 0).spend() is False


@pytest.mark.thorough
def test_sessions_end_sealed_on_a_full_disk_and_none_begins(
    make_house: Callable[..., House], tmp_path: Path, figure: Figure
) -> None:
    with small_disk(tmp_path / "disk", 32 << 20) as disk:
        settings = {"dir": str(disk / "recordings"), "min_free": "1MiB", "reserve": "1MiB"}
        house = make_house(recording=settings)
        house.start()
        login = house.grant()
        assert "daypass_recording_reserve_bytes 1.048576e+06" in house.http("/metrics")[1]
        with psycopg.connect(house.dsn(login), autocommit=True) as idle, Raw(house.port).login(login) as raw:
            idle.execute("select 0 as full_disk")
            full = fill(disk, leave=200_000)
            assert house.http("/readyz")[0] == 503
            with Raw(house.port) as third:
                third.start(login[0])
                refused = fatal(third.prove(login[1]))
            assert refused[0] == "53100"
            for number in range(1, 1000):
                raw.send(build.query(b"select %d as full_disk, '%s'" % (number, b"x" * 2000)))
                messages = raw.until("Z", "E")
                if messages[-1][0] == "E":
                    break
            assert fatal(messages)[0] == "58030"
            with contextlib.suppress(psycopg.Error):  # the other session is ended too, though it says nothing
                for _ in until(5):
                    idle.execute("select 1 as late_full_disk")
            assert idle.closed
        ran = executed(house, "full_disk")
        paths = list((disk / "recordings").glob("*/*/s-*.jsonl"))
        recorded = {
            event["sql"]
            for path in paths
            for event in map(json.loads, path.read_bytes().splitlines())
            if "sql" in event
        }
        assert set(ran) <= recorded
        for _ in until(5):
            report = verify(disk / "recordings")
            if all(checked.state == "sealed" for checked in report.recordings if checked.id.startswith("s-")):
                break
        assert report.ok
        assert {checked.state for checked in report.recordings if checked.id.startswith("s-")} == {"sealed"}
        last = [json.loads(path.read_bytes().splitlines()[-1]) for path in paths]
        assert [(line["event"], line["reason"]) for line in last] == [("session.end", "recording")] * 2
        assert "daypass_recording_reserve_bytes 0.0" in house.http("/metrics")[1]
        full.unlink()
        for _ in until(5):
            if house.http("/readyz")[0] == 200:
                break
        assert "daypass_recording_reserve_bytes 1.048576e+06" in house.http("/metrics")[1]
        with psycopg.connect(house.dsn(login)) as again:
            again.execute("select 1")
        house.stop()
        figure(
            "the disk is full, with a reserve", f"{len(ran)} statements, two sessions", "both sealed; 53100", "sealed"
        )


def test_a_folder_on_a_full_disk_at_the_start(tmp_path: Path) -> None:
    """It starts, is not healthy, and is as soon as there is room."""
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        Recorder(disk / "recordings", now=Ticker()).close()
        full = fill(disk, leave=16 * PAGE)
        recorder = Recorder(disk / "recordings", now=Ticker(), free_floor=1 << 20, reserved=1 << 20)
        assert not recorder.healthy()
        assert not recorder.roomy()
        assert "MiB free" in str(recorder.fault)
        full.unlink()
        recorder.probe()
        assert recorder.healthy()
        assert recorder.roomy()
        recorder.close()
