"""recorder/rotation.py: a new key takes over, whoever dies meanwhile, and the verifier follows."""

import os
import shutil
from pathlib import Path

import pytest

from recorder import files, rotation
from recorder.journal import Recorder
from recorder.nodelog import NodeLog
from recorder.seal import Signer, fingerprint, load_public, old_keys, public_key_file
from recorder.treelog import TreeLog
from recorder.verify import Report, verify
from tests.recorder.support import START, Ticker, end, play, sealed


def rotate(directory: Path) -> str:
    node = NodeLog(directory, sync=False)
    try:
        return node.rotate(START, "ops")
    finally:
        node.close()


def kinds(report: Report) -> set[tuple[str, str]]:
    return {(one.id, found.kind) for one in report.recordings for found in one.findings}


def keep(directory: Path, name: str) -> Path:
    kept = directory.parent / name
    shutil.copy(public_key_file(directory), kept)
    return kept


def test_every_key_of_the_chain_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    sealed(folder, "s-1")
    kept = [keep(folder, "0.pem")]
    for number in (1, 2):
        assert rotate(folder) == fingerprint(load_public(public_key_file(folder)))
        kept.append(keep(folder, f"{number}.pem"))
        recorder = Recorder(folder, now=Ticker())
        play(recorder, f"t-{number}").close(end())
        recorder.close()
    TreeLog(folder).round(START)
    assert len(old_keys(folder)) == 2
    for key in (None, *kept):
        report = verify(folder, public_key=key)
        assert report.ok, report.to_dict()
    assert oct((folder / "keys/signing.pem").stat().st_mode)[-3:] == "600"
    assert not (folder / "keys/signing.next").exists()


def test_a_server_that_runs_takes_the_new_key(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    print_ = rotate(tmp_path)
    recording.close(end())
    recorder.close()
    assert f'"key":"{print_}"'.encode() in (tmp_path / "node.jsonl").read_bytes().splitlines()[-1]
    assert verify(tmp_path).ok


def test_the_old_key_is_worth_nothing_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    sealed(folder, "s-1")
    old = Signer.load(folder, create=False)
    kept = keep(folder, "old.pem")
    rotate(folder)
    node = folder / "node.jsonl"
    lines = node.read_bytes().splitlines(keepends=True)
    last = lines[-1][: lines[-1].index(b',"key"')] + b"}"
    node.write_bytes(b"".join(lines[:-1]) + old.sign(last) + b"\n")
    assert ("node", "key") in kinds(verify(folder))
    assert ("node", "key") in kinds(verify(folder, public_key=kept))


def test_a_rotation_is_signed_by_the_old_key(tmp_path: Path) -> None:
    """A log of another hand that ends in a rotation to the true key: that key signed nothing of it."""
    folder = tmp_path / "r"
    sealed(folder, "s-1")
    kept, secret = keep(folder, "true.pem"), (folder / "keys/signing.pem").read_bytes()
    shutil.rmtree(folder)
    sealed(folder, "s-1")
    node = NodeLog(folder, sync=False)
    (folder / "keys/signing.next").write_bytes(secret)
    node.close()
    assert ("node", "key") in kinds(verify(folder, public_key=kept))


@pytest.mark.parametrize("step", ["prepared", "half", "named", "named and started"])
def test_a_death_in_the_middle(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(tmp_path, "s-1")
    before = Signer.load(tmp_path, create=False).fingerprint
    if step == "prepared":
        rotation.prepare(tmp_path)
    elif step == "half":
        (tmp_path / "keys/signing.next").write_bytes(b"-----BEGIN")
    else:
        # What finishes it is not called any more, as after a kill.
        monkeypatch.setattr(rotation, "finish", lambda directory: None)
        rotate(tmp_path)
        monkeypatch.undo()
        if step == "named":  # and the line of the new key did not get there
            node, head = tmp_path / "node.jsonl", tmp_path / "node.head"
            lines = node.read_bytes().splitlines(keepends=True)
            os.truncate(node, len(b"".join(lines[:-1])))
            head.write_bytes(head.read_bytes())
    recorder = Recorder(tmp_path, now=Ticker())
    play(recorder, "s-2").close(end())
    recorder.close()
    assert not (tmp_path / "keys/signing.next").exists()
    changed = Signer.load(tmp_path, create=False).fingerprint != before
    assert changed is step.startswith("named")
    if step != "named":  # there the log is cut, as node.head knows
        assert verify(tmp_path).ok, verify(tmp_path).to_dict()


def test_a_death_after_the_first_line_of_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written in one go: then whoever looks next, and writes nothing, leaves nothing that looks forged."""
    sealed(tmp_path, "s-1")
    TreeLog(tmp_path).round(START)
    written: list[bytes] = []

    def dies(fd: int, data: bytes) -> None:
        os.write(fd, data)
        written.append(data)
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(files, "write_all", dies)
        with pytest.raises(KeyboardInterrupt):
            rotate(tmp_path)
    assert b"key.rotated" in written[0]
    TreeLog(tmp_path).round(START)
    assert verify(tmp_path).ok, verify(tmp_path).to_dict()
    assert not (tmp_path / "keys/signing.next").exists()


def test_marks(tmp_path: Path) -> None:
    assert rotation.mark(tmp_path) == (0, 0)
    sealed(tmp_path)
    before = rotation.mark(tmp_path)
    rotation.settle(tmp_path, tmp_path / "node.jsonl")
    assert rotation.mark(tmp_path) == before
    rotate(tmp_path)
    assert rotation.mark(tmp_path) != before
