"""No change of a sealed recording or of the node log goes unseen: any byte, any removal, move or doubling of lines.

And the other way round: whatever is recorded in whatever order verifies, however the writer ends.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recorder.events import Cancel, Event, Notice, Outcome
from recorder.journal import Recorder
from recorder.verify import verify
from tests.recorder.support import Ticker, end, sealed, start, statement

QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass(frozen=True)
class Stored:
    """A folder with one small sealed recording, and what its files held."""

    directory: Path
    files: dict[str, bytes]

    def harmed(self, name: str, data: bytes) -> bool:
        """Whether verify finds this content of one file."""
        path = self.directory / name
        path.write_bytes(data)
        try:
            return not verify(self.directory).ok
        finally:
            path.write_bytes(self.files[name])


RECORDING = "2026/11/s-1.jsonl"
CHAINED = (RECORDING, "node.jsonl")
GUARDED = (*CHAINED, "node.head")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    directory = tmp_path_factory.mktemp("recordings")
    sealed(directory, statements=1)
    yield Stored(directory, {name: (directory / name).read_bytes() for name in GUARDED})
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", GUARDED)
@pytest.mark.thorough
def test_every_byte_counts(stored: Stored, name: str) -> None:
    data = stored.files[name]
    masks = (0x01, 0x20, 0x80)  # another digit, another case, no longer ASCII; a newline is hit by all of them
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= masks[at % len(masks)]
        assert stored.harmed(name, bytes(changed)), (at, masks[at % len(masks)], data[max(0, at - 20) : at + 20])
    assert verify(stored.directory).ok


@QUIET
@given(
    name=st.sampled_from(GUARDED),
    at=st.integers(0),
    byte=st.integers(0, 255),
    chance=st.sampled_from(["change", "insert", "cut"]),
)
def test_any_byte_changed_added_or_removed(stored: Stored, name: str, at: int, byte: int, chance: str) -> None:
    data = stored.files[name]
    at %= len(data)
    new = b"" if chance == "cut" else bytes([byte])
    changed = data[:at] + new + data[at + (chance != "insert") :]
    assert stored.harmed(name, changed) == (changed != data)


@QUIET
@given(name=st.sampled_from(CHAINED), keep=st.integers(0))
@example(name=RECORDING, keep=0)
@example(name="node.jsonl", keep=0)
def test_any_cut(stored: Stored, name: str, keep: int) -> None:
    data = stored.files[name]
    assert stored.harmed(name, data[: keep % len(data)])


@QUIET
@given(name=st.sampled_from(CHAINED), order=st.lists(st.integers(0, 9), max_size=9))
def test_any_other_order_of_lines(stored: Stored, name: str, order: list[int]) -> None:
    lines = stored.files[name].splitlines(keepends=True)
    chosen = [index % len(lines) for index in order]
    assert stored.harmed(name, b"".join(lines[index] for index in chosen)) == (chosen != list(range(len(lines))))


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(statement, st.integers(1, 99), st.text(max_size=300)),
    st.builds(
        Outcome,
        n=st.integers(1, 99),
        rows=st.integers(0, 2**40),
        bytes=st.integers(0, 2**40),
        ms=st.floats(0, 1e6),
        sqlstate=st.none() | st.just("42501"),
    ),
    st.builds(Notice, severity=st.just("NOTICE"), sqlstate=st.just("00000"), text=st.text()),
    st.just(Cancel()),
)
STEPS = st.lists(EVENTS | st.sampled_from(["flush", "checkpoint", "verify"]), max_size=12)


@QUIET
@given(steps=STEPS, ending=st.sampled_from(["seal", "close", "die"]))
def test_whatever_is_recorded_verifies(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Event | str], ending: str
) -> None:
    directory = tmp_path_factory.mktemp("r")
    recorder = Recorder(directory, now=Ticker())
    recording = recorder.open("s-1", start())
    for step in steps:
        match step:
            case Event():
                recording.append(step)
            case "flush":
                recording.flush()
            case "checkpoint":
                recorder.checkpoint()
            case "verify":
                assert verify(directory).ok
    if ending == "seal":
        recording.close(end())
    if ending == "die":
        recorder.waiting.clear()
        recording._lines.clear()
        recording.release()
        recorder.let_go()
        recorder._closed = True
        assert verify(directory).recordings[0].state == "interrupted"
        recorder = Recorder(directory, now=Ticker())
    recorder.close()
    report = verify(directory)
    assert report.ok, report.to_dict()
    assert report.recordings[0].state == ("sealed" if ending == "seal" else "interrupted")
    shutil.rmtree(directory)
