"""The table of attacks: what a hand in the recordings folder can do, and what `verify` says to it.

`python -m tests.recorder.attacks` prints docs/reference/verify.md; test_attacks.py holds page and table together.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyrage
import zstandard

from recorder import chain
from recorder.entries import Expired
from recorder.events import encode
from recorder.nodelog import NodeLog
from recorder.seal import Signer
from recorder.treelog import TreeLog
from recorder.verify import Report
from tests.recorder.attacked import (
    AGE,
    Folder,
    append,
    build,
    edit,
    flip,
    order,
    respell,
    rewrite,
    session,
    shorten,
    split,
    swap,
)
from tests.recorder.support import START


@dataclass(frozen=True)
class Attack:
    """`finds`: the recording (or `node`) and the kind of a finding that there must be."""

    what: str
    act: Callable[[Folder], object]
    finds: tuple[str, str]


@dataclass(frozen=True)
class Table:
    title: str
    attacks: list[Attack]


def chained_anew(f: Folder) -> None:
    """A statement of a sealed recording is changed, and everything behind it chained to it again."""
    lines, prev = split(f.one), chain.GENESIS
    lines[1] = lines[1].replace(b"select 1", b"select 7")
    for number, line in enumerate(lines):
        text = line[:-1].replace(line[line.index(b'"prev":"') + 8 :][:64], prev.encode())
        lines[number], prev = text + b"\n", chain.digest(text)
    f.one.write_bytes(b"".join(lines))


def last_lines_anew(f: Folder) -> None:
    """As `chained_anew` in a recording without a seal: only the checkpoint of the log knows better."""
    lines = split(f.died)
    f.died.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b'"rows":1', b'"rows":0'))


def recompress(f: Folder) -> None:
    data = zstandard.ZstdDecompressor().decompress(f.packed.read_bytes())
    f.packed.write_bytes(zstandard.ZstdCompressor(level=19).compress(data))


def encrypt_anew(f: Folder) -> None:
    data = pyrage.decrypt(f.locked.read_bytes(), [AGE])
    size = f.locked.stat().st_size
    while len(again := pyrage.encrypt(data, [AGE.to_public()])) != size:
        pass  # the header has some bytes by chance
    f.locked.write_bytes(again)


def forged_line(f: Folder, line: bytes) -> None:
    """A line that nobody signed, chained to the last."""
    last = chain.decode(split(f.node)[-1])
    assert last is not None
    composed = chain.compose(last.seq + 1, b'"2026-11-24T00:00:00Z"', chain.digest(split(f.node)[-1][:-1]), line)
    append(f.node, composed + b"\n")


def tombstone(f: Folder, name: str) -> bytes:
    data = {
        "id": name,
        "file": f"2026/11/{name}.jsonl",
        "sha256": "00",
        "bytes": 1,
        "sealed_at": "",
        "why": "",
        "by": "",
    }
    return encode(Expired(**data))  # type: ignore[arg-type]


def buried_under_a_hold(f: Folder) -> None:
    node = NodeLog(f.directory, sync=False)
    seal = next(line for line in split(f.node) if b'"event":"seal","id":"two"' in line)
    sha256 = seal[seal.index(b'"sha256":"') + 10 :][:64].decode()
    entry = Expired(id="two", file="2026/11/two.jsonl", sha256=sha256, bytes=1, sealed_at="", why="", by="")
    node.append([(START, entry)])
    node.close()
    f.two.unlink()


def other_key(f: Folder) -> None:
    """A folder of the same sessions, sealed with another key."""
    shutil.rmtree(f.directory)
    session(f.directory, "one")
    session(f.directory, "two")
    f.public_key = f.origin.with_name("kept.pem")


def same_key(f: Folder) -> None:
    """The same, with the installation's own key."""
    keys = f.directory.with_name("stolen")
    shutil.copytree(f.directory / "keys", keys)
    shutil.rmtree(f.directory)
    f.directory.mkdir()
    shutil.copytree(keys, f.directory / "keys")
    for number in range(40):  # as long as the true one
        session(f.directory, f"s-{number}")
    TreeLog(f.directory).round(START)
    f.public_key, f.checkpoints = f.origin.with_name("kept.pem"), [f.origin.with_name("shipped")]


def put_back(f: Folder) -> None:
    f.put_back()
    f.checkpoints = [f.origin.with_name("shipped")]


def log_put_back(f: Folder) -> None:
    """The log and all that belongs to it as they were; the recordings stay."""
    earlier = f.origin.with_name("earlier")
    for file in (f.node, f.head, f.installation):
        shutil.copy(earlier / file.name, file)
    f.checkpoint.unlink()
    shutil.rmtree(f.directory / "checkpoints")


def replaced(target: Callable[[Folder], Path], source: Callable[[Folder], Path]) -> Callable[[Folder], object]:
    return lambda f: shutil.copy(source(f), target(f))


def sign(f: Folder, event: str, name: str, change: Callable[[bytes], bytes] = lambda body: body) -> None:
    f.sign_again(f.line_of(event, name), Signer.load(f.other(), create=False), change)


def sign_with_the_old_key(f: Folder) -> None:
    shutil.copy(f.origin.with_name("old.pem"), f.directory / "keys" / "signing.pem")
    f.sign_again(len(split(f.node)) - 1, Signer.load(f.directory, create=False))


RECORDING = [
    Attack("a byte of a statement changed", lambda f: edit(f.one, b"select 1", b"select 7"), ("one", "changed")),
    Attack("a person's name changed", lambda f: edit(f.one, b"jane", b"john"), ("one", "changed")),
    Attack("a verdict changed and all that follows chained anew", chained_anew, ("one", "changed")),
    Attack("written anew as a whole, with a chain that fits", lambda f: rewrite(f.one, "one"), ("one", "changed")),
    Attack("a line removed", lambda f: order(f.one, 0, 1, 3, 4, 5), ("one", "removed")),
    Attack("the first line removed", lambda f: order(f.one, 1, 2, 3, 4, 5), ("one", "removed")),
    Attack("a line added that stands elsewhere", lambda f: order(f.one, 0, 1, 2, 1, 3, 4, 5), ("one", "added")),
    Attack("a line added behind the end", lambda f: order(f.one, 0, 1, 2, 3, 4, 5, 2), ("one", "added")),
    Attack("an empty line added", lambda f: edit(f.one, b"\n", b"\n\n"), ("one", "unreadable")),
    Attack("bytes added behind the end", lambda f: append(f.one, b"x"), ("one", "added")),
    Attack("two lines exchanged", lambda f: order(f.one, 0, 2, 1, 3, 4, 5), ("one", "reordered")),
    Attack("the last line cut off", lambda f: order(f.one, 0, 1, 2, 3, 4), ("one", "cut")),
    Attack("cut below a checkpoint", lambda f: order(f.one, 0, 1), ("one", "cut")),
    Attack("cut in the middle of a line", lambda f: shorten(f.one, 20), ("one", "cut")),
    Attack("its last newline removed", lambda f: shorten(f.one, 1), ("one", "cut")),
    Attack("emptied", lambda f: f.one.write_bytes(b""), ("one", "cut")),
    Attack("line ends changed to CR LF", lambda f: f.one.write_bytes(f.one.read_bytes().replace(b"\n", b"\r\n")), ("one", "changed")),
    Attack("deleted", lambda f: f.one.unlink(), ("one", "missing")),
    Attack("renamed", lambda f: f.one.rename(f.one.with_name("nine.jsonl")), ("nine", "unlisted")),
    Attack("copied under another name", lambda f: shutil.copy(f.one, f.one.with_name("nine.jsonl")), ("nine", "unlisted")),
    Attack("copied to another month", lambda f: shutil.copytree(f.one.parent, f.one.parent.with_name("12")), ("one", "unlisted")),
    Attack("replaced by another recording", replaced(lambda f: f.one, lambda f: f.two), ("one", "swapped")),
    Attack("exchanged with another recording", lambda f: swap(f.one, f.two), ("two", "swapped")),
    Attack(
        "replaced by one of the same name from another installation",
        replaced(lambda f: f.one, lambda f: f.other() / "2026/11/one.jsonl"),
        ("one", "changed"),
    ),
]  # fmt: skip
STORED = [
    Attack("a byte of a compressed one changed", lambda f: flip(f.packed, 100), ("packed", "changed")),
    Attack("a compressed one cut", lambda f: shorten(f.packed, 1), ("packed", "cut")),
    Attack("bytes added to a compressed one", lambda f: append(f.packed, b"\0"), ("packed", "added")),
    Attack("compressed anew, with the same contents", recompress, ("packed", "cut")),
    Attack("a compressed one deleted", lambda f: f.packed.unlink(), ("packed", "missing")),
    Attack("another file put beside it, uncompressed", lambda f: shutil.copy(f.one, f.one.with_name("packed.jsonl")), ("packed", "unlisted")),
    Attack("replaced by a plain one of another hand", lambda f: (f.packed.unlink(), rewrite(f.one.with_name("packed.jsonl"), "packed")), ("packed", "changed")),
    Attack("a byte of an encrypted one changed, seen without its key", lambda f: flip(f.locked, -1), ("locked", "changed")),
    Attack("an encrypted one cut, seen without its key", lambda f: shorten(f.locked, 16), ("locked", "cut")),
    Attack("encrypted anew to the same key", encrypt_anew, ("locked", "changed")),
    Attack("an encrypted one deleted", lambda f: f.locked.unlink(), ("locked", "missing")),
    Attack("exchanged with another stored one", lambda f: swap(f.packed, f.locked), ("locked", "cut")),
]  # fmt: skip
UNSEALED = [
    Attack("cut below its last checkpoint, its writer dead", lambda f: order(f.died, 0, 1), ("died", "cut")),
    Attack("its last line written anew, its writer dead", last_lines_anew, ("died", "changed")),
    Attack("deleted, its writer dead", lambda f: f.died.unlink(), ("died", "missing")),
    Attack("a grant's line changed", lambda f: edit(f.installation, b"g-1", b"g-7"), ("installation", "changed")),
    Attack("the last grant's line cut off", lambda f: order(f.installation, 0, 1), ("installation", "cut")),
    Attack("all grants' lines deleted", lambda f: f.installation.unlink(), ("installation", "missing")),
]
LOG = [
    Attack("node log deleted", lambda f: f.node.unlink(), ("node", "missing")),
    Attack("node log emptied", lambda f: f.node.write_bytes(b""), ("node", "cut")),
    Attack("node log replaced by nonsense", lambda f: f.node.write_bytes(b"nonsense\n"), ("node", "unreadable")),
    Attack("a seal removed", lambda f: f.drop(f.line_of("seal", "one")), ("node", "removed")),
    Attack(
        "a recording's end and its seal removed",
        lambda f: (order(f.one, 0, 1, 2, 3, 4), f.drop(f.line_of("seal", "one"))),
        ("node", "removed"),
    ),
    Attack("a recording removed with all that names it", lambda f: (f.one.unlink(), f.drop(f.line_of("open", "one"), f.line_of("seal", "one"))), ("node", "removed")),
    Attack("the log's last line cut off", lambda f: f.drop(len(split(f.node)) - 1), ("node", "cut")),
    Attack("cut in the middle of the last line", lambda f: shorten(f.node, 9), ("node", "cut")),
    Attack("a seal edited", lambda f: edit(f.node, b'"lines":6', b'"lines":5'), ("node", "signature")),
    Attack("two lines of the log exchanged", lambda f: order(f.node, 0, 2, 1, *range(3, len(split(f.node)))), ("node", "reordered")),
    Attack("a seal repeated", lambda f: append(f.node, split(f.node)[f.line_of("seal", "one")]), ("node", "added")),
    Attack("a line added that nobody signed", lambda f: forged_line(f, b'{"event":"node.start","pid":1,"public":""}'), ("node", "key")),
    Attack("a seal signed with another key", lambda f: sign(f, "seal", "one"), ("node", "key")),
    Attack(
        "re-sealed with another key, to fit a recording that was cut",
        lambda f: (order(f.one, 0, 1, 2, 3, 4), sign(f, "seal", "one", lambda b: b.replace(b'"lines":6', b'"lines":5'))),
        ("node", "key"),
    ),
    Attack("a line of another installation's log added", lambda f: append(f.node, split(f.other() / "node.jsonl")[-1]), ("node", "key")),
    Attack("a line signed with the old key after the rotation", sign_with_the_old_key, ("node", "key")),
    Attack("the rotation removed", lambda f: f.drop(f.line_of("key.rotated")), ("node", "removed")),
    Attack("the signed end of the log deleted", lambda f: f.head.unlink(), ("node", "missing")),
    Attack("the signed end of the log changed", lambda f: flip(f.head, 8), ("node", "changed")),
    Attack("the signed end of another log in its place", replaced(lambda f: f.head, lambda f: f.other() / "node.head"), ("node", "changed")),
    Attack("log, its end and its checkpoints put back to an older state, recordings not", log_put_back, ("two", "unlisted")),
]  # fmt: skip
KEYS = [
    Attack("the public key deleted", lambda f: f.key.unlink(), ("node", "key")),
    Attack("another public key in its place", replaced(lambda f: f.key, lambda f: f.other() / "keys/public.pem"), ("node", "key")),
    Attack("everything sealed again with another key (public key kept elsewhere)", other_key, ("node", "key")),
    Attack("everything written anew with the installation's own key (checkpoint kept elsewhere)", same_key, ("node", "rewritten")),
    Attack("the whole folder put back to an older state (checkpoint kept elsewhere)", put_back, ("node", "rolled-back")),
    Attack("the newest checkpoint deleted", lambda f: f.checkpoint.unlink(), ("node", "missing")),
    Attack("a byte of a checkpoint changed", lambda f: respell(f.checkpoint, 60), ("node", "signature")),
    Attack("another log's checkpoint in its place", replaced(lambda f: f.checkpoint, lambda f: f.other() / "checkpoint"), ("node", "signature")),
    Attack("a byte of a day's checkpoint changed", lambda f: respell(f.directory / "checkpoints/2026-11-23", -5), ("node", "signature")),
]  # fmt: skip
DELETION = [
    Attack("deleted with a tombstone that nobody signed", lambda f: (f.one.unlink(), forged_line(f, tombstone(f, "one"))), ("one", "missing")),
    Attack("a true tombstone removed from the log", lambda f: f.drop(f.line_of("expired", "gone")), ("gone", "missing")),
    Attack("another file where an expired one lay", lambda f: shutil.copy(f.one, f.one.with_name("gone.jsonl")), ("gone", "unlisted")),
    Attack("deleted by the key's holder while a hold was on it", buried_under_a_hold, ("node", "hold")),
]  # fmt: skip

TABLES = [
    Table("A sealed recording", RECORDING),
    Table("A sealed recording in its stored form", STORED),
    Table("What is not sealed", UNSEALED),
    Table("The node log", LOG),
    Table("Keys, checkpoints, the whole folder", KEYS),
    Table("Deletion", DELETION),
]

UNSEEN = [
    Attack("the whole folder put back to an older state, and no checkpoint kept elsewhere", lambda f: f.put_back(), ("", "")),
    Attack("everything written anew with the installation's own key, and no checkpoint kept elsewhere", lambda f: (same_key(f), f.checkpoints.clear()), ("", "")),
    Attack("everything sealed again with another key, and no public key kept elsewhere", lambda f: (other_key(f), setattr(f, "public_key", None)), ("", "")),
    Attack("an older checkpoint of the same log put in the newest one's place", lambda f: None, ("", "")),
]  # fmt: skip
"""What nothing in the folder itself can tell. The page says so."""

HEAD = """# What verify finds

Every attack of this page is made on a real folder by `tests/recorder/attacks.py` and found by `daypass recording verify`; the page is
printed by `python -m tests.recorder.attacks`, and a test holds it against what is found. Beside these, every single byte of a
small recording (plain, compressed and encrypted), of the node log, of its signed end and of a checkpoint is flipped, one after
another, and found. What the words mean: [record.md](record.md#verify).
"""
TAIL = """
## Not found

Stated plainly. Nothing in the folder itself can tell these; keep the public key and checkpoints on another machine.

"""


Played = dict[str, Report]


def play_all(scratch: Path) -> Played:
    """What verify says to each attack of the tables, and to what is not found."""
    origin = scratch / "origin"
    build(origin)
    found = {}
    for attack in [*(attack for table in TABLES for attack in table.attacks), *UNSEEN]:
        folder = played(origin, attack, scratch / "attacked")
        found[attack.what] = folder.verify(key="without its key" not in attack.what)
    return found


def page(found: Played) -> str:
    """docs/reference/verify.md as it has to be."""
    parts = [HEAD]
    for table in TABLES:
        rows = [f"| {attack.what} | {said(found, attack)} |" for attack in table.attacks]
        parts += [f"\n## {table.title}\n", "| attack | verify says |\n|---|---|", *rows]
    return "\n".join(parts) + "\n" + TAIL + "\n".join(f"- {attack.what}" for attack in UNSEEN) + "\n"


def said(found: Played, attack: Attack) -> str:
    """The findings of one attack, the one that must be there first."""
    id_, kind = attack.finds
    pairs = [(one.id, finding) for one in found[attack.what].recordings for finding in one.findings]
    pairs.sort(key=lambda pair: pair[0] != id_ or pair[1].kind != kind)
    if not pairs:
        return "nothing"
    _, first = pairs[0]
    line = f":{first.line}" if first.line is not None else ""
    more = f", and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    return f"`{first.kind}: {first.file}{line}`{more}"


def played(origin: Path, attack: Attack, directory: Path) -> Folder:
    """A fresh copy of the folder, attacked."""
    shutil.rmtree(directory, ignore_errors=True)
    for left in ("other", "stolen", "forge"):
        shutil.rmtree(directory.with_name(left), ignore_errors=True)
    shutil.copytree(origin, directory)
    folder = Folder(directory, origin)
    attack.act(folder)
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch_:
        sys.stdout.write(page(play_all(Path(scratch_))))
