"""The node log as a verifier reads it: only what the key's holder signed counts.

Collects, for each recording, where it lies, which ends were checkpointed, and its seal; and says what is wrong with
the log itself. Must not open recordings. Invariant: a line without a right signature adds nothing but a finding.
"""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import chain, files, nodelog
from recorder.nodelog import At, Checkpoint, NodeCut, Opened, Seal
from recorder.seal import check_line, check_text, fingerprint
from recorder.walk import Finding, walk

_LOOKS = 3


@dataclass(slots=True)
class Named:
    """What the node log says of one recording."""

    file: str
    line: int
    heads: list[At] = field(default_factory=list)
    seal: Seal | None = None


@dataclass(slots=True)
class NodeView:
    """The log's content by recording id, the log's length, and what is wrong with it."""

    recordings: dict[str, Named] = field(default_factory=dict)
    lines: int = 0
    findings: list[Finding] = field(default_factory=list)

    def files(self) -> set[str]:
        """Every file that the log names."""
        return {named.file for named in self.recordings.values()}


def read(directory: Path, key: Ed25519PublicKey | None) -> NodeView:
    """Read and check the log of a recordings folder. Without a key nothing is believed less, but that is a finding of
    its own."""
    view = NodeView()
    # node.head first: it is never ahead of the log, so a log that grows meanwhile still fits it
    for _ in range(_LOOKS):
        end_text = _read_end_file(directory)
        end = _end(end_text, key)
        if end is not None or not end_text:
            break  # else it may have been read while it was written over
    path = directory / files.NODE
    hashes: dict[int, str] = {}
    if path.exists():
        reader = _Reader(view, key)
        seen = walk(path, files.NODE, wanted={end.seq} if end is not None else (), each=reader.line)
        view.lines, hashes = seen.lines, seen.hashes
        view.findings = seen.findings + view.findings
    view.findings += _check_end(end_text, end, view.lines, hashes)
    return view


class _Reader:
    def __init__(self, view: NodeView, key: Ed25519PublicKey | None) -> None:
        self._view = view
        self._key = key
        self._print = f'"key":"{fingerprint(key)}"'.encode() if key is not None else b""
        self._other_key = False

    def line(self, number: int, raw: bytes, header: chain.Line) -> None:
        if self._key is not None and not check_line(raw, self._key):
            self._unsigned(number, raw)
            return
        entry = nodelog.decode_entry(raw, header.event)
        if isinstance(entry, Opened):
            named = self._named(entry.id, entry.file, number)
            if entry.first != chain.GENESIS:
                named.heads.append(At(entry.id, 1, entry.first))
        elif isinstance(entry, Checkpoint):
            for head in entry.heads:
                file = files.INSTALLATION if head.id == "installation" else ""
                self._named(head.id, file, number).heads.append(head)
        elif isinstance(entry, Seal):
            self._named(entry.id, entry.file, number).seal = entry
        elif isinstance(entry, NodeCut):
            lost = f"lines {entry.have + 1} to {entry.last}" if entry.last > entry.have else f"line {entry.have}"
            self._note("cut", number, f"{entry.detail} ({lost}), seen when the log was next opened")

    def _named(self, id_: str, file: str, number: int) -> Named:
        named = self._view.recordings.setdefault(id_, Named(file, number))
        named.file = named.file or file  # a checkpoint alone (its `open` line was damaged) does not say where
        return named

    def _unsigned(self, number: int, raw: bytes) -> None:
        if self._print in raw:
            self._note("signature", number, "is not what was signed")
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


def _end(text: bytes | None, key: Ed25519PublicKey | None) -> nodelog.End | None:
    end = nodelog.read_end(text) if text else None
    if end is not None and key is not None and not check_text(end.text(), end.sig, key):
        return None
    return end


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
