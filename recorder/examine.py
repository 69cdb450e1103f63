"""One recording held against what the node log says of it: its checkpoints, its seal, its stored form, its deletion.

Must not trust the file's name, nor what it says of itself. Invariant: what a crash or a running writer leaves behind
(no seal, a half line at the end, a form that is not finished) is no damage; every other difference is a finding.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from recorder import broad, stored
from recorder.entries import Stored
from recorder.events import SessionStart
from recorder.nodeview import Named, NodeView
from recorder.recovery import ADOPTABLE
from recorder.stored import BrokenError, Identity, SealedError
from recorder.walk import Finding, Walk, walk

INSTALLATION_ID = "installation"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Checked:
    """One recording's result; `state` is sealed, open, interrupted, expired or damaged. `lines` is None where no line
    was read. `read` is false where the stored bytes are right and nobody could look into them."""

    id: str
    file: str
    state: str
    lines: int | None
    findings: tuple[Finding, ...]
    read: bool = True


@dataclass(frozen=True, slots=True)
class Examiner:
    """Checks the recordings of one folder. `live` are the files that are being written, `copies` files to read in place
    of those in the folder, `keys` open what is encrypted."""

    directory: Path
    view: NodeView
    live: Collection[str]
    copies: Mapping[str, Path]
    keys: Sequence[Identity] = ()

    def job(self, id_: str, named: Named) -> broad.Job:
        """What of a recording can be read ahead of `named`, by another process."""
        path = self._place(id_, named) if named.expired is None or id_ in self.copies else None
        if path is None or stored.encrypted(path):
            return broad.Job(None, "", ())
        return broad.Job(path, self._shown(id_, path), {head.seq for head in named.heads})

    def named(self, id_: str, named: Named, seen: Walk | None = None) -> Checked:
        """A recording that the node log names; `seen` where it was read ahead."""
        path = self._place(id_, named)
        file = named.file if path is None else self._shown(id_, path)
        if named.expired is not None and id_ not in self.copies:
            return self._expired(id_, named, path)
        if path is None:
            file = named.stored.file if named.stored is not None else named.file
            gone = Finding("missing", file, None, f"line {named.line} of the node log names it, and it is gone")
            return Checked(id_, file, "damaged", None, (gone,))
        if named.stored is not None and stored.suffix(path) not in ("", stored.PLAIN):
            return self._packed(id_, named, named.stored, path, file, seen)
        return self._plain(id_, named, path, file, seen)

    def _shown(self, id_: str, path: Path) -> str:
        named = self.view.recordings[id_]
        if id_ not in self.copies:
            return path.relative_to(self.directory).as_posix()
        return named.stored.file if named.stored is not None and stored.suffix(path) != stored.PLAIN else named.file

    def _place(self, id_: str, named: Named) -> Path | None:
        """Where it lies: a copy, the form that the log says, or the plain file where that form is not finished."""
        if id_ in self.copies:
            return self.copies[id_]
        files = [named.stored.file] if named.stored is not None else []
        paths = (self.directory / file for file in [*files, named.file] if file)
        return next((path for path in paths if path.is_file()), None)

    def _plain(self, id_: str, named: Named, path: Path, file: str, seen: Walk | None) -> Checked:
        seen = seen or broad.read(path, file, wanted={head.seq for head in named.heads})
        findings = list(seen.findings)
        if id_ != INSTALLATION_ID:
            findings += _identity(id_, file, seen)
        findings += _heads(file, seen, named, findings)
        findings += _seal(file, seen, named, findings)
        if findings:
            state = "damaged"
        elif named.seal is not None:
            state = named.seal.state
        else:
            state = "open" if file in self.live or id_ == INSTALLATION_ID else "interrupted"
        return Checked(id_, file, state, seen.lines, tuple(findings))

    def _packed(self, id_: str, named: Named, entry: Stored, path: Path, file: str, seen: Walk | None) -> Checked:
        """First the stored bytes, which need no key; then what they hold, as if it were a plain file."""
        findings = self._beside(named, entry)
        if found := _stored_bytes(path, file, entry):
            return Checked(id_, file, "damaged", None, tuple(found + findings))
        state = named.seal.state if named.seal is not None else "sealed"
        try:
            seen = seen or walk(path, file, wanted={head.seq for head in named.heads}, keys=self.keys)
        except SealedError:
            return Checked(id_, file, "damaged" if findings else state, None, tuple(findings), read=False)
        except BrokenError as cause:
            findings.append(Finding("unreadable", file, None, str(cause)))
            return Checked(id_, file, "damaged", None, tuple(findings))
        inside = list(seen.findings)
        inside += _identity(id_, file, seen)
        inside += _heads(file, seen, named, inside)
        inside += _seal(file, seen, named, inside)
        if not inside and (seen.sha256, seen.size) != (entry.plain_sha256, entry.plain_bytes):
            inside.append(Finding("changed", file, seen.lines, "what it holds is not what was sealed"))
        findings += inside
        return Checked(id_, file, "damaged" if findings else state, seen.lines, tuple(findings))

    def _beside(self, named: Named, entry: Stored) -> list[Finding]:
        """The plain file, where it still lies beside its other form."""
        plain = self.directory / named.file
        if entry.file == named.file or not plain.exists():
            return []
        if _measure(plain) == (entry.plain_bytes, entry.plain_sha256):
            return []  # its removal was cut short
        return [Finding("unlisted", named.file, None, "lies beside the stored recording, and is not what was sealed")]

    def _expired(self, id_: str, named: Named, path: Path | None) -> Checked:
        """Deleted on purpose; until the file is really gone, it has to be the one that the log says."""
        entry = named.expired
        # Also as it was sealed where it is stored: who packed it may have died before it lay there.
        sealed = {one.sha256 for one in (named.seal, named.stored) if one is not None}
        findings = []
        if entry is not None and sealed and entry.sha256 not in sealed:
            text = "the node log deleted other bytes than it had sealed"
            findings.append(Finding("changed", entry.file, None, text))
        if entry is not None and path is not None and _measure(path) != (entry.bytes, entry.sha256):
            file = path.relative_to(self.directory).as_posix()
            findings.append(Finding("unlisted", file, None, "was deleted on purpose, and another file lies here"))
        return Checked(id_, named.file, "damaged" if findings else "expired", None, tuple(findings))

    def unlisted(self, file: str) -> Checked:
        """A file that the node log does not name: the start of a session whose opening was cut short, or put there by
        another hand."""
        id_ = stored.session_id(file)
        if stored.suffix(file) != stored.PLAIN:
            found = Finding("unlisted", file, None, "the node log does not name this file")
            return Checked(id_, file, "damaged", None, (found,))
        try:
            seen = walk(self.directory / file, file)
        except (FileNotFoundError, IsADirectoryError):  # or a link to nowhere
            found = Finding("unlisted", file, None, "the node log does not name this, and it is no file")
            return Checked(id_, file, "damaged", None, (found,))
        findings = list(seen.findings)
        if seen.lines > ADOPTABLE or id_ in self.view.recordings:
            findings.append(Finding("unlisted", file, None, "the node log does not name this file"))
        state = "damaged" if findings else "open" if file in self.live else "interrupted"
        return Checked(id_, file, state, seen.lines, tuple(findings))


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()


def _stored_bytes(path: Path, file: str, entry: Stored) -> list[Finding]:
    size, digest = _measure(path)
    if (size, digest) == (entry.bytes, entry.sha256):
        return []
    if size < entry.bytes:
        return [Finding("cut", file, None, f"it was stored with {entry.bytes} bytes, and has {size}")]
    if size > entry.bytes:
        return [Finding("added", file, None, f"it was stored with {entry.bytes} bytes, and has {size}")]
    return [Finding("changed", file, None, "the bytes are not those that were stored")]


def _identity(id_: str, file: str, seen: Walk) -> list[Finding]:
    try:
        start = msgspec.json.decode(seen.first, type=SessionStart)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []  # not a session's first line: the chain, the seal or the checkpoints say so
    if start.session == id_:
        return []
    return [Finding("swapped", file, 1, f"holds the recording of {start.session}")]


def _heads(file: str, seen: Walk, named: Named, known: list[Finding]) -> list[Finding]:
    for head in sorted(named.heads, key=lambda head: head.seq):
        if head.seq > seen.lines:
            return [Finding("cut", file, seen.lines + 1, f"line {head.seq} was there at a checkpoint, and is gone")]
        if head.seq and seen.hashes[head.seq] != head.hash and not known:
            return [Finding("changed", file, head.seq, "is another line than a checkpoint of the node log saw")]
    return []


def _seal(file: str, seen: Walk, named: Named, known: list[Finding]) -> list[Finding]:
    seal = named.seal
    if seal is None or known:
        return []
    if (seen.lines, seen.size, seen.sha256, seen.last) == (seal.lines, seal.bytes, seal.sha256, seal.last):
        return []
    if seen.lines < seal.lines:
        return [Finding("cut", file, seen.lines + 1, f"it was sealed with {seal.lines} lines")]
    if seen.lines > seal.lines or seen.torn:
        return [Finding("added", file, seal.lines + 1, f"it was sealed with {seal.lines} lines")]
    return [Finding("changed", file, seal.lines, "the bytes are not those that were sealed")]
