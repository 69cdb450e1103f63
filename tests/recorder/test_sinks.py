"""What is owed to sinks: recorder.sinks.feed, recorder.sinks.cursor, recorder.sinks.held and recorder.sinks.courier.

A sink here is a list that can be told not to take anything.
"""

import json
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest

from recorder import checkpoint, retention
from recorder.files import RecordError
from recorder.journal import Recorder, append_installation
from recorder.pack import Form
from recorder.sinks import courier, cursor, held
from recorder.sinks.courier import Courier, NotTaken
from recorder.sinks.feed import Item
from recorder.upkeep import Upkeep
from recorder.verify import verify
from tests.recorder.support import START, Ticker, end, outcome, play, start, statement


class Sink:
    """Takes everything while `away` is None."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.away: NotTaken | None = None
        self.tries = 0

    def __call__(self, items: Sequence[Item]) -> None:
        self.tries += 1
        if self.away is not None and not (self.away.too_large and len(items) <= 2):
            raise self.away
        self.batches.append(list(items))

    @property
    def ids(self) -> list[str]:
        return [item.id for batch in self.batches for item in batch]

    def of(self, recording: str) -> list[int]:
        return [item.seq for batch in self.batches for item in batch if item.recording == recording]


class House:
    """A recordings folder, one sink, and a time that a test moves."""

    def __init__(self, directory: Path, *, sync: bool = False) -> None:
        self.directory = directory
        self.sync = sync
        self.wall, self.steady = START, 0.0
        self.sink = Sink()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.recorder = Recorder(directory, now=Ticker(), durability="fsync" if sync else "write")
        self.courier = self.hire()

    def hire(self, name: str = "siem", sink: Sink | None = None, *, history: bool = False) -> Courier:
        one = Courier(
            self.directory,
            name,
            sink or self.sink,
            sync=self.sync,
            now=lambda: self.wall,
            monotonic=lambda: self.steady,
            tell=lambda what, **facts: self.told.append((what, facts)),
        )
        one.begin(history=history)
        one.lead(True)
        return one

    def keep_up(self, form: Form, minutes: float = 2.0, *, retain: float | None = None) -> None:
        at = START + timedelta(minutes=minutes)
        Upkeep(self.directory, form=form, retain=retain, now=lambda: at).round()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "r")


def encrypting() -> Form:
    return Form(recipients=(str(pyrage.x25519.Identity.generate().to_public()),))


@pytest.mark.parametrize("sync", [False, True])
def test_every_line_once_in_order_while_a_session_grows(tmp_path: Path, sync: bool) -> None:
    house = House(tmp_path / "r", sync=sync)
    recording = play(house.recorder, "s-1", 2)
    house.courier.round()
    assert house.sink.of("s-1") == [1, 2, 3, 4, 5]
    house.courier.round()
    recording.append(statement(3, "select 3"))
    recording.flush()
    house.courier.round()
    recording.append(outcome(3))
    recording.close(end(3))
    house.courier.round()
    house.courier.round()
    lines = recording.path.read_bytes().splitlines()
    items = [item for batch in house.sink.batches for item in batch if item.recording == "s-1"]
    assert [item.line for item in items] == lines
    assert [item.id for item in items] == [f"s-1:{n}" for n in range(1, 9)]
    assert cursor.load(house.directory, "siem").open == {}
    assert house.courier.counts.backlog == 0
    assert house.courier.counts.delivered == len(house.sink.ids)


def test_two_hosts_of_one_installation_never_give_two_lines_one_id(tmp_path: Path) -> None:
    found: list[list[str]] = []
    for host in ("one", "two"):
        house = House(tmp_path / host)
        for _ in range(2):
            append_installation(house.directory, start(), now=lambda: START)
        house.courier.round()
        assert house.sink.of("installation") == [1, 2]
        found.append([id_ for id_ in house.sink.ids if id_.startswith("installation")])
    assert len({*found[0], *found[1]}) == 4, found
    assert all(id_.endswith((":1", ":2")) for ids in found for id_ in ids)


def test_the_frame_holds_the_line_as_it_is(house: House) -> None:
    recording = play(house.recorder)
    house.courier.round()
    framed = house.sink.batches[0][0].framed("0a1b")
    raw = recording.path.read_bytes().splitlines()[0]
    assert raw in framed
    assert json.loads(framed) == {
        "id": "s-1:1",
        "installation": "0a1b",
        "recording": "s-1",
        "line": json.loads(raw),
    }


def test_half_a_line_waits_until_it_is_whole(house: House) -> None:
    recording = play(house.recorder)
    with recording.path.open("ab") as file:
        file.write(b'{"seq":6,"at":"2026-11-23T09:00:00Z","prev":"","event":"not')
        file.flush()
        house.courier.round()
        assert house.sink.of("s-1") == [1, 2, 3, 4, 5]
        file.write(b'ice"}\n')
    house.courier.round()
    assert house.sink.of("s-1") == [1, 2, 3, 4, 5, 6]


def test_steps_of_the_installation_and_the_newest_checkpoint(house: House) -> None:
    append_installation(house.directory, start(), Ticker())
    house.keep_up(Form(compress=False))
    house.courier.round()
    house.courier.round()
    assert house.sink.of("installation") == [1]
    note = house.sink.batches[-1][-1]
    found = checkpoint.parse((house.directory / "checkpoint").read_bytes())
    assert found is not None
    assert note.id == f"checkpoint:{found.size}:{found.root.hex()[:16]}"
    assert json.loads(note.line)["note"].encode() == (house.directory / "checkpoint").read_bytes()
    assert json.loads(note.line)["at"] == note.at
    play(house.recorder, "s-2").close(end())
    house.keep_up(Form(compress=False))
    house.courier.round()
    assert len([id_ for id_ in house.sink.ids if id_.startswith("checkpoint:")]) == 2


class TestAway:
    def test_it_waits_longer_and_longer_and_then_gets_all_of_it_once(self, house: House) -> None:
        house.sink.away = NotTaken("no route")
        play(house.recorder, "s-1", 5).close(end())
        waits = []
        for _ in range(11):
            house.courier.round()
            waits.append(house.told[-1][1]["again_in"])
            tries = house.sink.tries
            house.steady += waits[-1] - 0.1
            house.courier.round()
            assert house.sink.tries == tries
            house.steady += 0.1
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
        assert house.courier.counts.errors == 11
        assert house.courier.counts.backlog == (house.directory / "2026/11/s-1.jsonl").stat().st_size
        assert cursor.load(house.directory, "siem").error == "no route"
        house.sink.away = None
        house.courier.round()
        assert house.sink.of("s-1") == list(range(1, 13))
        assert house.told[-1][0] == "sink_takes_again"
        assert cursor.load(house.directory, "siem").error == ""
        assert house.courier.counts.backlog == 0

    def test_another_sink_does_not_notice(self, house: House) -> None:
        other = Sink()
        second = house.hire("file", other)
        house.sink.away = NotTaken("no route")
        play(house.recorder)
        house.courier.round()
        second.round()
        assert other.of("s-1") == [1, 2, 3, 4, 5]

    def test_a_batch_that_is_too_large_comes_in_smaller_ones_at_once(self, house: House) -> None:
        house.sink.away = NotTaken("413", too_large=True)
        play(house.recorder, "s-1", 5)
        for _ in range(5):
            house.courier.round()
        assert house.sink.of("s-1") == list(range(1, 12))

    def test_after_a_restart_it_goes_on_where_it_was(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(courier, "LINES", 3)
        house.courier = house.hire()
        recording = play(house.recorder, "s-1", 5)
        house.courier.round()
        recording.append(statement(6))
        recording.flush()
        house.hire().round()
        assert house.sink.of("s-1") == list(range(1, 13))
        assert {len(batch) for batch in house.sink.batches[:3]} == {3}

    def test_what_was_taken_and_not_noted_comes_again_with_its_id(self, house: House) -> None:
        play(house.recorder)
        before = cursor.load(house.directory, "siem")
        house.courier.round()
        cursor.save(house.directory, "siem", before)  # as a process leaves it that dies between the two
        house.courier.round()
        assert house.sink.of("s-1") == [1, 2, 3, 4, 5] * 2
        assert len(set(house.sink.ids)) == len(house.sink.ids) / 2

    def test_a_folder_put_back_from_before_its_cursor(self, house: House, tmp_path: Path) -> None:
        """It has grown beyond the cursor again before anybody looked."""
        play(house.recorder, "s-1").close(end())
        old = shutil.copytree(house.directory, tmp_path / "old")
        open_ = play(house.recorder, "s-2")
        house.courier.round()
        last = cursor.load(house.directory, "siem")
        open_.close(end())
        house.recorder.close()
        shutil.rmtree(house.directory)
        old.rename(house.directory)
        cursor.save(house.directory, "siem", last)
        house.recorder = Recorder(house.directory, now=Ticker())
        play(house.recorder, "s-3-and-a-longer-name").close(end())
        house.recorder.close()
        assert (house.directory / "node.jsonl").stat().st_size > last.node
        house.hire().round()
        assert house.sink.of("s-3-and-a-longer-name") == [1, 2, 3, 4, 5, 6]

    def test_one_process_at_a_time(self, house: House) -> None:
        play(house.recorder)
        with cursor.locked(house.directory, "siem") as ours:
            assert ours
            house.courier.round()
        assert house.sink.tries == 0


class TestStored:
    """A sink is away while recordings are packed, encrypted and deleted."""

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_packing_takes_nothing_from_it(self, house: House, encrypted: bool) -> None:
        recording = play(house.recorder, "s-1", 3)
        house.courier.round()
        house.sink.away = NotTaken("no route")
        recording.append(statement(4))
        recording.close(end(4))
        other = play(house.recorder, "s-2", 3)
        other.close(end(3))
        house.keep_up(encrypting() if encrypted else Form())
        assert not recording.path.exists()
        house.courier.round()
        assert len(list((house.directory / ".sinks/held").glob("*"))) == (2 if encrypted else 0)
        house.sink.away, house.steady = None, 1e6
        house.courier.round()
        assert house.sink.of("s-1") == list(range(1, 10))
        assert house.sink.of("s-2") == list(range(1, 9))
        assert house.told[-1][0] == "sink_takes_again"
        assert house.courier.counts.skipped == 0
        house.courier.round()
        assert verify(house.directory).ok
        assert not list((house.directory / ".sinks").glob("held/*"))  # nobody needs the plain lines any more

    def test_without_sinks_nothing_plain_is_left(self, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path, now=Ticker())
        play(recorder).close(end())
        at = START + timedelta(minutes=2)
        Upkeep(tmp_path, form=encrypting(), retain=None, now=lambda: at).round()
        assert not (tmp_path / ".sinks").exists()
        recorder.close()

    def test_plain_lines_stay_as_long_as_one_sink_needs_them(self, house: House) -> None:
        late = Sink()
        second = house.hire("late", late)
        late.away = NotTaken("no route")
        play(house.recorder, "s-1").close(end())
        house.courier.round()
        second.round()
        house.keep_up(encrypting())
        house.courier.round()
        assert held.find(house.directory, "s-1") is not None
        late.away, house.steady = None, 1e6
        second.round()
        assert late.of("s-1") == house.sink.of("s-1")
        second.round()
        house.courier.round()
        assert held.find(house.directory, "s-1") is None

    def test_what_must_be_deleted_is_deleted_and_said(self, house: House) -> None:
        house.sink.away = NotTaken("no route")
        play(house.recorder, "s-1").close(end())
        house.keep_up(encrypting())
        assert held.find(house.directory, "s-1") is not None
        house.courier.round()
        later = START + timedelta(days=9)
        deleted, _ = retention.prune(house.directory, lambda: later, 86_400.0, why="old", by="daypass")
        assert [one.id for one in deleted] == ["s-1"]
        assert held.find(house.directory, "s-1") is None
        house.sink.away, house.steady = None, 1e6
        house.courier.round()
        assert house.sink.of("s-1") == []
        assert house.courier.counts.skipped == 1
        skipped = [facts for what, facts in house.told if what == "sink_skipped"]
        assert skipped == [{"sink": "siem", "reason": "recording s-1 was deleted before the sink had it all"}]


class TestBeginning:
    def test_a_new_sink_gets_what_is_open_and_all_that_comes(self, house: House) -> None:
        play(house.recorder, "s-1").close(end())
        open_ = play(house.recorder, "s-2")
        append_installation(house.directory, start(), Ticker())
        new = Sink()
        house.hire("new", new).round()
        assert new.of("s-1") == []
        assert new.of("s-2") == [1, 2, 3, 4, 5]
        assert new.of("installation") == []
        open_.close(end())

    def test_or_everything_there_is(self, house: House) -> None:
        play(house.recorder, "s-1").close(end())
        house.keep_up(Form())
        play(house.recorder, "s-2").close(end())
        new = Sink()
        house.hire("new", new, history=True).round()
        assert new.of("s-1") == new.of("s-2") == list(range(1, 7))

    def test_what_lies_encrypted_from_before_is_said_to_be_skipped(self, house: House) -> None:
        cursor.retire(house.directory, frozenset())
        play(house.recorder, "s-1").close(end())
        house.keep_up(encrypting())
        new = Sink()
        one = house.hire("new", new, history=True)
        one.round()
        assert one.counts.skipped == 1
        assert "encrypted" in house.told[-1][1]["reason"]

    def test_one_that_is_configured_no_more_is_owed_nothing_and_may_come_back(self, house: House) -> None:
        play(house.recorder, "s-1")
        house.courier.round()
        told: list[str] = []
        courier.retire(house.directory, ["other"], lambda what, **facts: told.append(facts["sink"]))
        assert told == ["siem"]
        assert cursor.known(house.directory) == []
        with pytest.raises(FileNotFoundError):  # one that still runs does not bring it back
            house.courier.round()
        assert cursor.known(house.directory) == []
        house.hire().round()
        assert house.sink.of("s-1") == [1, 2, 3, 4, 5]

    def test_a_damaged_cursor_is_no_fresh_start(self, house: House) -> None:
        cursor.path(house.directory, "siem").write_bytes(b"")
        with pytest.raises(RecordError, match="damaged"):
            house.courier.round()


def test_a_recording_that_somebody_removed_stops_nobody(house: House) -> None:
    gone = play(house.recorder, "s-1")
    gone.close(end())
    gone.path.unlink()
    play(house.recorder, "s-2").close(end())
    house.courier.round()
    assert house.sink.of("s-2") == list(range(1, 7))
    assert house.courier.counts.skipped == 1


def test_its_thread_delivers_while_it_leads_and_ends(house: House) -> None:
    import threading

    arrived = threading.Event()

    def take(items: Sequence[Item]) -> None:
        house.sink(items)
        arrived.set()

    one = house.hire("thread", take)  # type: ignore[arg-type]
    play(house.recorder)
    one.start()
    assert arrived.wait(10)
    play(house.recorder, "s-2")
    one.finish()
    one.join(10)
    assert house.sink.of("s-1") == house.sink.of("s-2") == [1, 2, 3, 4, 5]
