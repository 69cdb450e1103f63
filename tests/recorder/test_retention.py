"""recorder/retention.py: what is old goes with a tombstone, what is held stays, and what goes without one is missed."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from recorder import index, pack, retention
from recorder.entries import Expired
from recorder.journal import Recorder
from recorder.nodelog import NodeLog
from recorder.pack import Form, Packer
from recorder.retention import HoldError
from recorder.verify import verify
from tests.recorder.support import START, Ticker, end, play, sealed, start

DAY = 86_400.0


def after(days: float) -> datetime:
    return START + timedelta(days=days)


def prune(directory: Path, days: float = 100, retain: float = 90 * DAY) -> tuple[list[str], list[str]]:
    gone, held = retention.prune(directory, lambda: after(days), retain, why="90 days", by="ops")
    return [one.id for one in gone], [one.id for one in held]


def states(directory: Path) -> dict[str, str]:
    return {one.id: one.state for one in verify(directory).recordings}


def kinds(directory: Path) -> list[tuple[str, str]]:
    return [(one.id, found.kind) for one in verify(directory).recordings for found in one.findings]


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_old_goes_and_is_not_missing(tmp_path: Path, packed: bool) -> None:
    one, two = sealed(tmp_path, "s-1", "s-2")
    if packed:
        Packer(tmp_path, Form(), lambda: after(1)).round()
    one.with_name("s-1.jsonl.torn").write_bytes(b"x")
    assert prune(tmp_path, days=80) == ([], [])
    assert [one.id for one in retention.due(tmp_path, after(100), 90 * DAY)] == ["s-1", "s-2"]
    assert prune(tmp_path) == (["s-1", "s-2"], [])
    assert list(one.parent.iterdir()) == []
    assert states(tmp_path) == {"s-1": "expired", "s-2": "expired", "node": "open"}
    assert verify(tmp_path).ok
    assert [(one.state, one.grant) for one in index.sessions(tmp_path)] == [("expired", "g-7k3m9x2q")] * 2
    tombstone = retention.read(tmp_path).expired["s-1"]
    assert (tombstone.why, tombstone.by, tombstone.grant) == ("90 days", "ops", "g-7k3m9x2q")
    assert prune(tmp_path, days=200) == ([], [])
    assert two.name == "s-2.jsonl"


def test_what_was_never_sealed_stays(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    play(recorder)
    assert prune(tmp_path) == ([], [])
    recorder.close()


def test_what_is_missing_gets_no_tombstone(tmp_path: Path) -> None:
    one, _ = sealed(tmp_path, "s-1", "s-2")
    one.unlink()
    assert prune(tmp_path) == (["s-2"], [])
    assert kinds(tmp_path) == [("s-1", "missing")]


def test_a_hold_on_one_recording(tmp_path: Path) -> None:
    sealed(tmp_path, "s-1", "s-2")
    hold = retention.hold(tmp_path, lambda: START, id_="s-1", reason="case 17", by="legal")
    assert prune(tmp_path) == (["s-2"], ["s-1"])
    with pytest.raises(HoldError, match="deleted already"):
        retention.hold(tmp_path, lambda: START, id_="s-2", reason="too late", by="legal")
    with pytest.raises(HoldError, match=f"there are {hold.hold}"):
        retention.release(tmp_path, lambda: START, "h-none", reason="", by="legal")
    assert retention.release(tmp_path, lambda: START, hold.hold, reason="closed", by="legal") == hold
    with pytest.raises(HoldError, match="there is none"):
        retention.release(tmp_path, lambda: START, hold.hold, reason="closed", by="legal")
    assert prune(tmp_path) == (["s-1"], [])
    assert verify(tmp_path).ok


@pytest.mark.parametrize("packed", [False, True])
def test_a_hold_on_a_grant_holds_what_is_still_to_come(tmp_path: Path, packed: bool) -> None:
    retained = tmp_path / "r"
    sealed(retained, "s-1")
    retention.hold(retained, lambda: START, grant="g-7k3m9x2q", reason="case 17", by="legal")
    recorder = Recorder(retained, now=Ticker())
    play(recorder, "s-2").close(end())
    other = recorder.open("s-3", start("s-3", grant="g-other"))
    other.close(end())
    recorder.close()
    if packed:
        Packer(retained, Form(), lambda: after(1)).round()
    gone, held = prune(retained)
    assert (gone, sorted(held)) == (["s-3"], ["s-1", "s-2"])
    assert verify(retained).ok


def test_a_death_between_tombstone_and_file(tmp_path: Path) -> None:
    (one,) = sealed(tmp_path, "s-1")
    data = one.read_bytes()
    prune(tmp_path)
    one.write_bytes(data)  # as if it had not got that far
    assert states(tmp_path) == {"s-1": "expired", "node": "open"}
    assert verify(tmp_path).ok
    one.write_bytes(data + b"x")  # but no other file may take its place
    assert kinds(tmp_path) == [("s-1", "unlisted")]
    prune(tmp_path)
    assert not one.exists()
    assert verify(tmp_path).ok


def test_deleted_after_a_death_in_the_middle_of_packing(tmp_path: Path) -> None:
    """The log says `stored`, and the plain file is what lies there: it may be deleted as it was sealed."""
    (one,) = sealed(tmp_path, "s-1")
    data = one.read_bytes()
    Packer(tmp_path, Form(), lambda: after(1)).round()
    packed = one.with_name("s-1.jsonl.zst")
    packed.rename(packed.with_name(f"{packed.name}.new"))
    one.write_bytes(data)
    assert verify(tmp_path).ok
    assert prune(tmp_path) == (["s-1"], [])
    assert kinds(tmp_path) == []
    assert states(tmp_path) == {"s-1": "expired", "node": "open"}


def test_a_tombstone_for_a_held_recording_is_found(tmp_path: Path) -> None:
    """By the key's holder, around the command: the log says so itself."""
    one, _ = sealed(tmp_path, "s-1", "s-2")
    retention.hold(tmp_path, lambda: START, id_="s-1", reason="case 17", by="legal")
    seal = retention.read(tmp_path).sealed["s-1"][0]
    node = NodeLog(tmp_path, sync=False)
    fact = {"id": "s-1", "file": seal.file, "bytes": seal.bytes, "sealed_at": "", "why": "", "by": ""}
    node.append([(START, Expired(**fact, sha256=seal.sha256))])  # type: ignore[arg-type]
    one.unlink()
    assert kinds(tmp_path) == [("node", "hold")]
    node.append([(START, Expired(**fact | {"id": "s-2"}, sha256="00"))])  # type: ignore[arg-type]
    node.close()
    assert ("s-2", "changed") in kinds(tmp_path)


def test_one_at_a_time(tmp_path: Path) -> None:
    sealed(tmp_path, "s-1")
    with pack.alone(tmp_path):
        assert prune(tmp_path) == ([], [])
    assert prune(tmp_path) == (["s-1"], [])


def test_an_unreadable_start_has_no_grant(tmp_path: Path) -> None:
    (one,) = sealed(tmp_path, "s-1")
    one.write_bytes(b"nonsense\n")
    assert [found.grant for found in retention.due(tmp_path, after(100), DAY)] == [""]
    assert retention.read(tmp_path / "none").sealed == {}
