"""recorder/pack.py: sealed recordings in another form, and a crash after every step of the way to it."""

import hashlib
import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest

from recorder import index, pack, stored, timeline
from recorder.entries import Stored
from recorder.journal import Recorder
from recorder.nodelog import NodeLog, entries
from recorder.pack import Form, Packer, StoppedError
from recorder.verify import verify
from tests.recorder.support import START, Ticker, end, play, sealed

KEY = pyrage.x25519.Identity.generate()
LATER = START + timedelta(days=1)
FORMS = [Form(), Form(recipients=(str(KEY.to_public()),)), Form(compress=False, recipients=(str(KEY.to_public()),))]


def packer(directory: Path, form: Form = FORMS[0], **more: Any) -> Packer:
    return Packer(directory, form, Ticker(LATER), **more)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*/*/*"))


def stored_entries(directory: Path) -> list[Stored]:
    return [entry for entry in entries(directory / "node.jsonl") if isinstance(entry, Stored)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.suffix)
def test_what_was_written_is_what_is_read(tmp_path: Path, form: Form) -> None:
    (plain,) = sealed(tmp_path)
    data, before = plain.read_bytes(), index.sessions(tmp_path)
    (done,) = packer(tmp_path, form).round()
    path = tmp_path / done.file
    assert names(tmp_path) == ["s-1" + form.suffix]
    with stored.reading(path, [KEY]) as file:
        assert file.read(1 << 20) == data
    assert (done.plain_bytes, done.plain_sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (done.bytes, done.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert oct(path.stat().st_mode)[-3:] == "600"
    (after,) = index.sessions(tmp_path)
    assert after.to_dict() == before[0].to_dict() | {"recording": str(path)}  # and it took no key
    assert [entry.event for entry in timeline.read(plain, [KEY])] == [
        entry.event for entry in timeline.read(path, [KEY])
    ]
    report = verify(tmp_path, identities=[KEY])
    assert report.ok
    assert [(one.state, one.lines, one.read) for one in report.recordings] == [("sealed", 6, True), ("open", 6, True)]
    blind = verify(tmp_path)
    assert blind.ok
    assert blind.recordings[0].read is not bool(form.recipients)
    assert packer(tmp_path, form).round() == []


def test_the_plain_form_is_left_alone(tmp_path: Path) -> None:
    sealed(tmp_path)
    assert packer(tmp_path, Form(compress=False)).round() == []
    assert names(tmp_path) == ["s-1.jsonl"]
    assert Packer(tmp_path / "none", Form(), Ticker()).round() == []


def test_it_waits_for_the_seal_and_for_its_age(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    open_one, done = play(recorder, "s-1"), play(recorder, "s-2")
    done.close(end())
    sealed_at = START + timedelta(seconds=5)
    assert Packer(tmp_path, Form(), lambda: sealed_at, delay=60).round() == []
    assert [one.id for one in Packer(tmp_path, Form(), lambda: LATER, delay=60).round()] == ["s-2"]
    open_one.close(end())
    later = packer(tmp_path)
    assert [one.id for one in later.round()] == ["s-1"]
    recorder.close()
    assert verify(tmp_path).ok


def test_one_at_a_time(tmp_path: Path) -> None:
    sealed(tmp_path)
    with pack.alone(tmp_path) as ours:
        assert ours
        assert packer(tmp_path).round() == []
    assert len(packer(tmp_path).round()) == 1


def test_what_is_not_as_it_was_sealed_stays(tmp_path: Path) -> None:
    one, two = sealed(tmp_path, "s-1", "s-2")
    one.write_bytes(one.read_bytes().replace(b"jane", b"john"))
    two.unlink()
    assert packer(tmp_path).round() == []
    assert names(tmp_path) == ["s-1.jsonl"]
    assert [one.state for one in verify(tmp_path).recordings] == ["damaged", "damaged", "open"]


def test_it_can_be_stopped(tmp_path: Path) -> None:
    sealed(tmp_path)
    with pytest.raises(StoppedError):
        packer(tmp_path, stopped=lambda: True).round()
    assert names(tmp_path) == ["s-1.jsonl"]
    assert len(packer(tmp_path).round()) == 1


class TestCrash:
    """The state that a death after each step leaves: nothing is damaged, and the next round goes on."""

    def steps(self, tmp_path: Path) -> tuple[Path, Path, bytes]:
        (plain,) = sealed(tmp_path)
        data = plain.read_bytes()
        packer(tmp_path).round()
        return plain, plain.with_name("s-1.jsonl.zst"), data

    def whole(self, tmp_path: Path, identities: int = 0) -> None:
        del identities
        assert verify(tmp_path).ok, verify(tmp_path).to_dict()
        assert [event.event for event in timeline.read(index.find(tmp_path, "s-1").path)]
        again = packer(tmp_path)
        again.round()
        assert names(tmp_path) == ["s-1.jsonl.zst"]
        assert len(stored_entries(tmp_path)) == 1
        assert verify(tmp_path).ok

    def test_half_written(self, tmp_path: Path) -> None:
        sealed(tmp_path)
        (tmp_path / "2026/11/s-1.jsonl.zst.new").write_bytes(b"half")
        (tmp_path / "2026/11/s-0.jsonl.zst.new").write_bytes(b"nobody's")
        self.whole(tmp_path)

    def test_entered_and_not_named(self, tmp_path: Path) -> None:
        plain, path, data = self.steps(tmp_path)
        path.rename(path.with_name(path.name + ".new"))
        plain.write_bytes(data)
        self.whole(tmp_path)

    def test_named_and_the_plain_one_not_removed(self, tmp_path: Path) -> None:
        plain, _, data = self.steps(tmp_path)
        plain.write_bytes(data)
        self.whole(tmp_path)

    def test_only_the_plain_one_is_left(self, tmp_path: Path) -> None:
        """As after a power cut that lost the rename; it is all there, and stays so."""
        plain, path, data = self.steps(tmp_path)
        path.unlink()
        plain.write_bytes(data)
        assert verify(tmp_path).ok
        packer(tmp_path).round()
        assert names(tmp_path) == ["s-1.jsonl"]
        assert verify(tmp_path).ok

    def test_the_log_cannot_be_written(self, tmp_path: Path) -> None:
        sealed(tmp_path)
        key = tmp_path / "keys" / "signing.pem"
        key.rename(key.with_name("away"))
        with pytest.raises(Exception, match="put it back"):
            packer(tmp_path).round()
        assert names(tmp_path) == ["s-1.jsonl"]
        key.with_name("away").rename(key)
        assert len(packer(tmp_path).round()) == 1


def test_security_reads_with_standard_tools(tmp_path: Path) -> None:
    (plain,) = sealed(tmp_path)
    lines = plain.read_bytes().splitlines()
    packer(tmp_path, FORMS[1]).round()
    path = plain.with_name("s-1.jsonl.zst.age")
    (tmp_path / "key.txt").write_text(f"{KEY}\n")
    age, zstd = shutil.which("age"), shutil.which("zstd")
    if zstd is None:
        pytest.skip("no zstd program here")
    if age is not None:
        command = [age, "-d", "-i", str(tmp_path / "key.txt"), str(path)]
        opened = subprocess.run(command, capture_output=True, check=True).stdout
    else:  # the library that age's users in Rust have
        opened = pyrage.decrypt(path.read_bytes(), [KEY])
    out = subprocess.run([zstd, "-dc"], input=opened, capture_output=True, check=True).stdout
    assert out.splitlines() == lines
    assert json.loads(lines[0])["event"] == "session.start"


def test_recipients() -> None:
    assert Form().suffix == ".jsonl.zst"
    with pytest.raises(ValueError, match=r"no public key of age \(age1…\)"):
        Form(recipients=("age1nonsense",))
    with pytest.raises(ValueError, match="no public key"):
        Form(recipients=("ssh-ed25519 AAAA",))


def test_a_busy_folder(tmp_path: Path) -> None:
    """A verifier beside a packer sees a whole folder at every moment."""
    paths = sealed(tmp_path, *(f"s-{number}" for number in range(12)))
    assert len(paths) == 12
    seen = 0

    def look() -> bool:
        nonlocal seen
        seen += 1
        report = verify(tmp_path)
        assert report.ok, report.to_dict()
        return False

    assert len(packer(tmp_path, stopped=look).round()) == 12
    assert seen > 12


def test_a_log_is_not_needed_to_be_ours(tmp_path: Path) -> None:
    """The entry is signed by whichever key is in force."""
    sealed(tmp_path)
    node = NodeLog(tmp_path, sync=False)
    node.rotate(LATER, "ops")
    node.close()
    packer(tmp_path).round()
    assert verify(tmp_path).ok
