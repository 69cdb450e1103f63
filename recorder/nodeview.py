"""The node log as a verifier reads it: only what the keys' holder signed counts.

Collects, for each recording, where it lies, which ends were checkpointed, its seal, its stored form and its deletion;
follows the key from rotation to rotation; and says what is wrong with the log itself. Must not open recordings.
Invariant: a line without a right signature adds nothing but a finding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import chain, files, nodelog, tree
from recorder.entries import (
    At,
    Checkpoint,
    Expired,
    Hold,
    KeyRotated,
    NodeCut,
    NodeEntry,
    NodeStart,
    Opened,
    Release,
    Seal,
    Stored,
    TreeStart,
    decode_entry,
)
from recorder.seal import check_line, check_text, fingerprint, raw_public
from recorder.walk import Finding, walk

_LOOKS = 3


@dataclass(slots=True)
class Named:
    """What the node log says of one recording."""

    file: str
    line: int
    heads: list[At] = field(default_factory=list)
    seal: Seal | None = None
    stored: Stored | None = None
    expired: Expired | None = None


@dataclass(slots=True)
class NodeView:
    """The log's content by recording id, the log's length, and what is wrong with it. `leaves` are the hashes of its
    lines as leaves of the tree, `keys` those that signed it, `origin` the tree's name where it has one."""

    recordings: dict[str, Named] = field(default_factory=dict)
    lines: int = 0
    findings: list[Finding] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    keys: list[Ed25519PublicKey] = field(default_factory=list)
    origin: str | None = None

    def files(self) -> set[str]:
        """Every file that the log names, in the form that it has now or had before."""
        named = self.recordings.values()
        return {one.file for one in named} | {one.stored.file for one in named if one.stored is not None}


def read(directory: Path, key: Ed25519PublicKey | None, old: Sequence[Ed25519PublicKey] = ()) -> NodeView:
    """Read and check the log of a recordings folder. `key` is the one that is trusted: it must have signed the log,
    from its start or from a rotation on; `old` may help to read on where the log's own start is damaged. Without a
    key nothing is believed less, but that is a finding of its own."""
    view = NodeView()
    # node.head first: it is never ahead of the log, so a log that grows meanwhile still fits it
    for _ in range(_LOOKS):
        end_text = _read_end_file(directory)
        end = nodelog.read_end(end_text) if end_text else None
        if end is not None or not end_text:
            break  # else it may have been read while it was written over
    path = directory / files.NODE
    hashes: dict[int, str] = {}
    if path.exists():
        reader = _Reader(view, key, old)
        seen = walk(
            path,
            files.NODE,
            wanted={end.seq} if end is not None else (),
            each=reader.line,
            every=lambda text: view.leaves.append(tree.leaf(text)),
        )
        view.lines, hashes = seen.lines, seen.hashes
        view.findings = seen.findings + view.findings + reader.finish()
    signers = view.keys or ([key] if key is not None else [])
    if end is not None and signers and not any(check_text(end.text(), end.sig, one) for one in signers):
        end = None
    view.findings += _check_end(end_text, end, view.lines, hashes)
    return view


class _Reader:
    """Takes the lines in order, each checked with the key that was in force there."""

    def __init__(self, view: NodeView, key: Ed25519PublicKey | None, old: Sequence[Ed25519PublicKey]) -> None:
        self._view = view
        self._trusted = key
        self._old = old
        self._key: Ed25519PublicKey | None = None
        self._other_key = False
        self._held: dict[str, Hold] = {}

    def line(self, number: int, raw: bytes, header: chain.Line) -> None:
        entry = decode_entry(raw, header.event)
        if self._trusted is not None:
            if self._key is None:
                self._key = self._first_key(raw, entry)
            if self._key is None or not check_line(raw, self._key):
                self._unsigned(number, raw)
                return
            if self._key not in self._view.keys:
                self._view.keys.append(self._key)
        self._entry(number, entry, header.at)

    def finish(self) -> list[Finding]:
        """What only the end tells: the trusted key has to be one of those that signed; else nothing is believed."""
        if self._trusted is None or self._trusted in self._view.keys or not self._view.keys:
            return []
        what = f"was never signed with key {fingerprint(self._trusted)}, but with {fingerprint(self._view.keys[0])}"
        self._view.recordings.clear()
        self._view.keys.clear()
        return [Finding("key", files.NODE, 1, what)]

    def _first_key(self, raw: bytes, entry: NodeEntry | None) -> Ed25519PublicKey | None:
        said = raw_public(entry.public) if isinstance(entry, NodeStart) else None
        candidates = [key for key in (self._trusted, said, *self._old) if key is not None]
        return next((key for key in candidates if check_line(raw, key)), None)

    def _entry(self, number: int, entry: NodeEntry | None, at: str) -> None:
        if isinstance(entry, Opened):
            named = self._named(entry.id, entry.file, number)
            if named.file != entry.file:  # what is sealed under it would stand for the other
                self._note("added", number, f"names {entry.id} a second time, in another file ({entry.file})")
            if entry.first != chain.GENESIS:
                named.heads.append(At(entry.id, 1, entry.first))
        elif isinstance(entry, Checkpoint):
            for head in entry.heads:
                file = files.INSTALLATION if head.id == "installation" else ""
                self._named(head.id, file, number).heads.append(head)
        elif isinstance(entry, Seal):
            self._named(entry.id, entry.file, number).seal = entry
        elif isinstance(entry, Stored):
            self._named(entry.id, entry.was, number).stored = entry
        elif isinstance(entry, Expired):
            self._expired(number, entry)
        elif isinstance(entry, Hold):
            self._held[entry.hold] = entry
        elif isinstance(entry, Release):
            self._held.pop(entry.hold, None)
        elif isinstance(entry, TreeStart):
            self._view.origin = entry.origin
        elif isinstance(entry, KeyRotated) and self._trusted is not None:
            self._key = raw_public(entry.public) or self._key
        elif isinstance(entry, NodeCut):
            lost = f"lines {entry.have + 1} to {entry.last}" if entry.last > entry.have else f"line {entry.have}"
            self._note("cut", number, f"{entry.detail} ({lost}), seen when the log was next opened")

    def _expired(self, number: int, entry: Expired) -> None:
        named = self._named(entry.id, entry.file, number)
        named.expired = entry
        grants = {entry.grant, named.stored.about.get("grant", "") if named.stored is not None else ""}
        for hold in self._held.values():
            if entry.id == hold.id or (hold.grant and hold.grant in grants):
                self._note("hold", number, f"{entry.id} was deleted while hold {hold.hold} was on it ({hold.reason})")

    def _named(self, id_: str, file: str, number: int) -> Named:
        named = self._view.recordings.setdefault(id_, Named(file, number))
        named.file = named.file or file  # a checkpoint alone (its `open` line was damaged) does not say where
        return named

    def _unsigned(self, number: int, raw: bytes) -> None:
        known = [key for key in (self._key, self._trusted, *self._view.keys) if key is not None]
        named = [key for key in known if f'"key":"{fingerprint(key)}"'.encode() in raw]
        if named and self._key in (None, *named):
            self._note("signature", number, "is not what was signed")
        elif named:
            self._note("key", number, "is signed with a key that was no longer, or not yet, in force")
        elif not self._other_key:
            self._other_key = True
            self._note("key", number, "is signed with another key (reported once)")

    def _note(self, kind: str, line: int, detail: str) -> None:
        self._view.findings.append(Finding(kind, files.NODE, line, detail))


def _read_end_file(directory: Path) -> bytes | None:
    try:
        return (directory / files.HEAD).read_bytes()
    except FileNotFoundError:
        return None


def _check_end(text: bytes | None, end: nodelog.End | None, lines: int, hashes: dict[int, str]) -> list[Finding]:
    if end is None:
        if not text and lines <= 1:  # nothing written yet, or its maker died between the log's first line and this file
            return []
        what = "is missing" if text is None else "is not what was written"
        return [Finding("changed" if text else "missing", files.HEAD, None, f"the end of the node log {what}")]
    if end.seq > lines:
        return [Finding("cut", files.NODE, lines + 1, f"lines {lines + 1} to {end.seq} were signed and are gone")]
    if hashes.get(end.seq) != end.hash:
        return [Finding("changed", files.NODE, end.seq, "is another line than the signed end of the log")]
    return []
