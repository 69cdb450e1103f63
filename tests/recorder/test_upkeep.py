"""recorder/upkeep.py and recorder/witness.py: a server's rounds, and what a put-back folder cannot hide."""

import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from recorder import checkpoint, retention
from recorder.files import RecordError
from recorder.heads import Given
from recorder.journal import Recorder
from recorder.nodelog import NodeLog
from recorder.pack import Form
from recorder.upkeep import Upkeep
from recorder.verify import verify
from recorder.witness import Witness
from tests.recorder.support import START, Ticker, end, play, sealed


class Wall:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = START + timedelta(minutes=1)

    def __call__(self) -> datetime:
        return self.at


def test_a_round_does_what_is_due(tmp_path: Path) -> None:
    wall, shipped = Wall(), list[bytes]()
    recorder = Recorder(tmp_path, now=wall)
    upkeep = Upkeep(tmp_path, form=Form(), retain=30 * 86_400.0, now=wall, ships=[shipped.append])
    play(recorder).close(end())
    done = upkeep.round()
    assert (done.packed, done.deleted) == ([], [])
    assert shipped == [done.checkpoint]
    wall.at += timedelta(seconds=61)
    done = upkeep.round()
    assert [one.id for one in done.packed] == ["s-1"]
    assert shipped[-1] == done.checkpoint == (tmp_path / "checkpoint").read_bytes()
    assert upkeep.round().checkpoint is None
    wall.at += timedelta(days=31)
    assert [one.id for one in upkeep.round().deleted] == ["s-1"]
    recorder.close()
    assert verify(tmp_path).ok
    upkeep.last_words()
    found = checkpoint.parse((tmp_path / "checkpoint").read_bytes())
    assert found is not None
    assert found.size == verify(tmp_path).log.lines


def test_pruning_is_once_a_day_and_only_where_it_is_wanted(tmp_path: Path) -> None:
    wall = Wall()
    sealed(tmp_path, "s-1")
    wall.at += timedelta(days=50)
    assert Upkeep(tmp_path, form=Form(), retain=None, now=wall).round().deleted == []
    upkeep = Upkeep(tmp_path, form=Form(), retain=86_400.0 * 50.5, now=wall)
    assert upkeep.round().deleted == []
    wall.at += timedelta(hours=23)
    assert upkeep.round().deleted == []
    wall.at += timedelta(hours=2)
    assert len(upkeep.round().deleted) == 1


def test_what_is_to_be_encrypted_does_not_wait(tmp_path: Path) -> None:
    import pyrage

    recipient = str(pyrage.x25519.Identity.generate().to_public())
    sealed(tmp_path, "s-1")
    wall = Wall()
    assert len(Upkeep(tmp_path, form=Form(recipients=(recipient,)), retain=None, now=wall).round().packed) == 1


def test_a_stopped_one_leaves_all_as_it_is(tmp_path: Path) -> None:
    (plain,) = sealed(tmp_path, "s-1")
    wall = Wall()
    wall.at += timedelta(days=9)
    upkeep = Upkeep(tmp_path, form=Form(), retain=1.0, now=wall)
    upkeep.stop()
    done = upkeep.round()
    assert (done.packed, done.deleted) == ([], [])
    assert done.checkpoint is not None
    assert plain.exists()
    upkeep.last_words()


def test_one_that_cannot_be_reached_keeps_nothing_from_the_others(tmp_path: Path) -> None:
    def away(note: bytes) -> None:
        raise OSError("no route")

    sealed(tmp_path, "s-1")
    shipped: list[bytes] = []
    upkeep = Upkeep(tmp_path, form=Form(), retain=None, now=Wall(), ships=[shipped.append, away, shipped.append])
    with pytest.raises(OSError, match="no route"):
        upkeep.round()
    assert len(shipped) == 2


class TestWitness:
    """Beside the state lies the newest checkpoint: a folder that was put back does not fit it, and never will."""

    def grown(self, tmp_path: Path) -> tuple[Path, Path]:
        folder, file = tmp_path / "r", tmp_path / "state.db-checkpoint"
        sealed(folder, "s-1")
        self.serve(folder, file)
        shutil.copytree(folder, tmp_path / "old")
        recorder = Recorder(folder, now=Ticker())
        play(recorder, "s-2").close(end())
        recorder.close()
        self.serve(folder, file)
        return folder, file

    def serve(self, folder: Path, file: Path) -> None:
        Upkeep(folder, form=Form(), retain=None, now=Wall(), ships=[Witness(file, folder)]).round()

    def kinds(self, folder: Path, file: Path) -> list[str]:
        report = verify(folder, checkpoints=[Given(str(file), file.read_bytes())])
        return [found.kind for one in report.recordings for found in one.findings]

    def test_it_follows(self, tmp_path: Path) -> None:
        folder, file = self.grown(tmp_path)
        assert file.read_bytes() == (folder / "checkpoint").read_bytes()
        assert oct(file.stat().st_mode)[-3:] == "600"
        assert self.kinds(folder, file) == []

    def test_a_folder_put_back_as_a_whole(self, tmp_path: Path) -> None:
        folder, file = self.grown(tmp_path)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "old", folder)
        assert verify(folder).ok  # by itself it tells nothing
        assert self.kinds(folder, file) == ["rolled-back"]
        for number in range(4):  # a server goes on in it, beyond what the file has seen
            recorder = Recorder(folder, now=Ticker())
            play(recorder, f"t-{number}").close(end())
            recorder.close()
            with pytest.raises(RecordError, match="put back"):
                self.serve(folder, file)
        assert self.kinds(folder, file) == ["rewritten"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for somebody else")
def test_what_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    """`sudo daypass recording rotate-key` must not lock the server out of its own record."""
    folder = tmp_path / "r"
    sealed(folder, "s-1")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 4711, 4712)
    node = NodeLog(folder, sync=False)
    node.rotate(START, "root")
    node.close()
    wall = Wall()
    wall.at += timedelta(days=1)
    assert len(Upkeep(folder, form=Form(), retain=None, now=wall).round().packed) == 1
    retention.hold(folder, wall, grant="g-1", reason="case", by="root")
    strangers = [path for path in folder.rglob("*") if (path.stat().st_uid, path.stat().st_gid) != (4711, 4712)]
    assert strangers == []
