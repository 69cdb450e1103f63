"""The folder that the attacks of attacks.py are made on, and the hands of whoever makes them.

One of each: plain, compressed, encrypted and expired recordings, one whose writer died, grants, a key that was rotated,
a hold, checkpoints. It is built once and copied for each attack.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyrage

from recorder import retention
from recorder.events import GrantEvent
from recorder.heads import Given
from recorder.journal import Recorder, append_installation
from recorder.nodelog import NodeLog
from recorder.pack import Form, Packer
from recorder.seal import Signer
from recorder.treelog import TreeLog
from recorder.verify import Report, verify
from tests.recorder.support import START, Ticker, end, play, start, statement

AGE = pyrage.x25519.Identity.generate()
DAY = timedelta(days=1)


def session(directory: Path, name: str, at: datetime = START) -> Path:
    """A sealed session of six lines, with a checkpoint before its last."""
    recorder = Recorder(directory, now=Ticker(at))
    recording = play(recorder, name)
    recorder.checkpoint()
    recording.close(end())
    recorder.close()
    return recording.path


def build(directory: Path) -> None:
    """The folder as an honest installation leaves it, after a crash of its last server."""
    session(directory, "gone")
    retention.prune(directory, lambda: START + DAY, 1.0, why="old", by="ops")
    session(directory, "packed")
    Packer(directory, Form(), Ticker(START + DAY)).round()
    session(directory, "locked")
    Packer(directory, Form(recipients=(str(AGE.to_public()),)), Ticker(START + DAY)).round()
    shutil.copy(directory / "keys/signing.pem", directory.with_name("old.pem"))
    node = NodeLog(directory, sync=False)
    node.rotate(START, "ops")
    node.close()
    shutil.copy(directory / "keys/public.pem", directory.with_name("kept.pem"))
    for number in range(3):
        append_installation(directory, GrantEvent(action="created", grant=f"g-{number}", by="ops"), Ticker())
    session(directory, "one")
    shutil.copytree(directory, directory.with_name("earlier"))
    session(directory, "two")
    retention.hold(directory, lambda: START, id_="two", reason="case 17", by="legal")
    recorder = Recorder(directory, now=Ticker())
    play(recorder, "died")
    recorder.checkpoint()
    shutil.copytree(directory, crashed := directory.with_name("crashed"))  # without the seal that closing writes
    recorder.close()
    shutil.rmtree(directory)
    crashed.rename(directory)
    TreeLog(directory).round(START)
    shutil.copy(directory / "checkpoint", directory.with_name("shipped"))


@dataclass
class Folder:
    """Where an attacker works."""

    directory: Path
    origin: Path
    checkpoints: list[Path] = field(default_factory=list)
    public_key: Path | None = None

    def __post_init__(self) -> None:
        month = self.directory / "2026" / "11"
        self.one, self.two, self.died = (month / f"{name}.jsonl" for name in ("one", "two", "died"))
        self.packed, self.locked = month / "packed.jsonl.zst", month / "locked.jsonl.zst.age"
        self.node, self.head = self.directory / "node.jsonl", self.directory / "node.head"
        self.installation = self.directory / "installation.jsonl"
        self.checkpoint, self.key = self.directory / "checkpoint", self.directory / "keys" / "public.pem"

    def verify(self, *, key: bool = True) -> Report:
        """As somebody who has all that was kept elsewhere."""
        given = [Given(str(file), file.read_bytes()) for file in self.checkpoints]
        identities = [AGE] if key else []
        return verify(self.directory, public_key=self.public_key, checkpoints=given, identities=identities)

    def other(self) -> Path:
        """Another installation's folder, with a recording of the same name."""
        directory = self.directory.with_name("other")
        session(directory, "one", START + DAY)
        TreeLog(directory).round(START)
        return directory

    def put_back(self) -> None:
        """The whole folder as it was before the last sessions."""
        shutil.rmtree(self.directory)
        shutil.copytree(self.origin.with_name("earlier"), self.directory)

    def line_of(self, event: str, id_: str = "") -> int:
        """Where (from 0) the node log's last line of this event stands."""
        lines = split(self.node)
        mark = f'"event":"{event}"'.encode() + (f',"id":"{id_}"'.encode() if id_ else b"")
        return max(number for number, line in enumerate(lines) if mark in line)

    def drop(self, *numbers: int) -> None:
        """Lines (from 0) of the node log are taken out."""
        lines = split(self.node)
        self.node.write_bytes(b"".join(line for number, line in enumerate(lines) if number not in numbers))

    def sign_again(self, number: int, signer: Signer, change: Callable[[bytes], bytes] = lambda body: body) -> None:
        """Line `number` (from 0) of the node log, changed and signed by another key."""
        lines = split(self.node)
        body = change(lines[number][: lines[number].index(b',"key"')] + b"}")
        lines[number] = signer.sign(body) + b"\n"
        self.node.write_bytes(b"".join(lines))


def split(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data, (path, old)
    path.write_bytes(data.replace(old, new, 1))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def respell(path: Path, at: int) -> None:
    """Another letter there: what was base64 still is."""
    data = bytearray(path.read_bytes())
    data[at] = ord("B") if data[at] == ord("A") else ord("A")
    path.write_bytes(data)


def order(path: Path, *numbers: int) -> None:
    """The file's lines in this order; what is not named is removed."""
    lines = split(path)
    path.write_bytes(b"".join(lines[number] for number in numbers))


def shorten(path: Path, count: int) -> None:
    os.truncate(path, path.stat().st_size - count)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def swap(one: Path, two: Path) -> None:
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def rewrite(path: Path, name: str) -> None:
    """Somebody who knows the format writes a file of as many lines anew, and its chain fits."""
    forge = path.parents[2].with_name("forge")
    recorder = Recorder(forge, now=Ticker())
    recording = recorder.open(name, start(name))
    for n in range(4):
        recording.append(statement(n, "select 'nothing to see'"))
    recording.close(end())
    recorder.close()
    path.write_bytes(recording.path.read_bytes())
    shutil.rmtree(forge)
