"""Verifying: is every recording there, and is it what was written?

Each file is walked along its chain and held against the node log: the checkpoints of its growth, its seal, its name.
Changes nothing, and needs only the folder (a copy will do) and the public key. Must not trust: file names, the order
of files, lines without a signature.

Invariant: what a crash or a running writer leaves behind (no seal, a half line at the end) is `interrupted` or
`open`, never damage; every other difference is a finding. `docs/reference/record.md` says what cannot be found.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import files, nodelog, nodeview
from recorder.events import SessionStart
from recorder.nodelog import Opened, Seal
from recorder.nodeview import Named, NodeView
from recorder.recovery import ADOPTABLE
from recorder.seal import KeyFileError, fingerprint, load_public, public_key_file
from recorder.walk import Finding, Walk, walk

NODE_ID = "node"
INSTALLATION_ID = "installation"
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """One recording's result; `state` is sealed, open, interrupted or damaged. `lines` is None where there is no
    file."""

    id: str
    file: str
    state: str
    lines: int | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class KeyUsed:
    """The public key that signatures were checked with: `given` by the caller, or `found` in the folder itself."""

    fingerprint: str | None
    file: str
    source: str


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one run. `ok` is false as soon as one finding exists."""

    directory: Path
    key: KeyUsed
    recordings: tuple[Checked, ...]

    @property
    def ok(self) -> bool:
        return not any(checked.findings for checked in self.recordings)

    def to_dict(self) -> dict[str, Any]:
        """As `recording verify -o json` prints it."""
        return {
            "ok": self.ok,
            "directory": str(self.directory),
            "key": {"fingerprint": self.key.fingerprint, "file": self.key.file, "source": self.key.source},
            "recordings": [
                {
                    "id": checked.id,
                    "state": checked.state,
                    "file": checked.file,
                    "lines": checked.lines,
                    "findings": [
                        {"kind": found.kind, "file": found.file, "line": found.line, "detail": found.detail}
                        for found in checked.findings
                    ],
                }
                for checked in self.recordings
            ],
        }


def verify(
    directory: Path,
    *,
    ids: Collection[str] | None = None,
    public_key: Path | None = None,
    copies: Mapping[str, Path] | None = None,
) -> Report:
    """Check the recordings of a folder: all, or those of `ids` (the node log is always checked). `copies` are files
    to read in place of those in the folder, by id. KeyFileError for a `public_key` that is none; OSError for what
    cannot be read."""
    directory = directory.absolute()
    key, used, key_findings = _key(directory, public_key)
    present = files.session_files(directory)  # before the log: it names all of these
    for _ in range(_LOOKS):
        # Before the log: a writer seals before it lets go, so what nobody holds and the log then leaves open is dead.
        live = _held(directory, present)
        view = nodeview.read(directory, key)
        view.findings += key_findings if view.lines or present else []
        if present and not (directory / files.NODE).exists():
            view.findings.append(Finding("missing", files.NODE, None, "the node log is gone"))
        results = _results(_Check(directory, view, live=live, copies=copies or {}), view, present, ids)
        unlisted = {found.file for checked in results for found in checked.findings if found.kind == "unlisted"}
        if not unlisted & live:
            break  # else it may have been named in the log after we read that, and before we read the file
    return Report(directory, used, tuple(results))


def _held(directory: Path, present: list[str]) -> set[str]:
    """The recordings without a seal that a live process writes."""
    named: dict[str, bool] = {}
    for entry in nodelog.entries(directory / files.NODE):
        if isinstance(entry, Opened | Seal):
            named[entry.file] = isinstance(entry, Seal)
    return {file for file in present if not named.get(file) and files.held(directory / file)}


def _results(check: "_Check", view: NodeView, present: list[str], ids: Collection[str] | None) -> list[Checked]:
    installation = check.directory / files.INSTALLATION
    if installation.exists() and installation.stat().st_size:
        view.recordings.setdefault(INSTALLATION_ID, Named(files.INSTALLATION, 0))
    chosen = [(id_, named) for id_, named in view.recordings.items() if named.file and (ids is None or id_ in ids)]
    results = [check.named(id_, named) for id_, named in chosen]
    for file in sorted(set(present) - view.files()):
        if ids is None or Path(file).stem in ids:
            results.append(check.unlisted(file))
    if view.lines or view.findings:
        state = "damaged" if view.findings else "open"
        results.append(Checked(NODE_ID, files.NODE, state, view.lines, tuple(view.findings)))
    return results


def _key(directory: Path, given: Path | None) -> tuple[Ed25519PublicKey | None, KeyUsed, list[Finding]]:
    if given is not None:
        key = load_public(given)
        return key, KeyUsed(fingerprint(key), str(given), "given"), []
    file = public_key_file(directory)
    name = file.relative_to(directory).as_posix()
    try:
        key = load_public(file)
    except KeyFileError as error:
        return None, KeyUsed(None, str(file), "missing"), [Finding("key", name, None, f"{error}; no signature checked")]
    return key, KeyUsed(fingerprint(key), str(file), "found"), []


class _Check:
    def __init__(self, directory: Path, view: NodeView, *, live: Collection[str], copies: Mapping[str, Path]) -> None:
        self.directory = directory
        self._view = view
        self._live = live
        self._copies = copies

    def named(self, id_: str, named: Named) -> Checked:
        """A recording that the node log names."""
        file = named.file
        try:
            seen = walk(self._copies.get(id_, self.directory / file), file, wanted={head.seq for head in named.heads})
        except FileNotFoundError:
            gone = Finding("missing", file, None, f"line {named.line} of the node log names it, and it is gone")
            return Checked(id_, file, "damaged", None, (gone,))
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
            state = "open" if file in self._live or id_ == INSTALLATION_ID else "interrupted"
        return Checked(id_, file, state, seen.lines, tuple(findings))

    def unlisted(self, file: str) -> Checked:
        """A file that the node log does not name: the start of a session whose opening was cut short, or put there by
        another hand."""
        id_ = Path(file).stem
        seen = walk(self.directory / file, file)
        findings = list(seen.findings)
        if seen.lines > ADOPTABLE or id_ in self._view.recordings:
            findings.append(Finding("unlisted", file, None, "the node log does not name this file"))
        state = "damaged" if findings else "open" if file in self._live else "interrupted"
        return Checked(id_, file, state, seen.lines, tuple(findings))


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
