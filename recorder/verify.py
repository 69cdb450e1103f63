"""Verifying: is every recording there, and is it what was written?

Reads the node log with the public key, holds it against every checkpoint there is, and each recording against the log.
Changes nothing, and needs only the folder (a copy will do), the public key and, to look into encrypted recordings, an
age identity. Must not trust: file names, the order of files, lines without a signature.

Invariant: what a crash or a running writer leaves behind is never damage; every other difference is a finding.
`docs/reference/record.md` says what cannot be found.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import broad, files, heads, nodelog, nodeview, stored, tree, treelog
from recorder.entries import Opened, Seal
from recorder.examine import INSTALLATION_ID, Checked, Examiner
from recorder.heads import Given
from recorder.nodeview import Named, NodeView
from recorder.seal import KeyFileError, fingerprint, load_public, old_keys, public_key_file
from recorder.stored import Identity
from recorder.walk import Finding

__all__ = ["INSTALLATION_ID", "NODE_ID", "Checked", "KeyUsed", "Report", "verify"]

NODE_ID = "node"
_LOOKS = 3
_RACY = frozenset({"unlisted", "missing"})


@dataclass(frozen=True, slots=True)
class KeyUsed:
    """The public key that signatures were checked with: `given` by the caller, or `found` in the folder itself."""

    fingerprint: str | None
    file: str
    source: str


@dataclass(frozen=True, slots=True)
class Log:
    """The node log that the recordings were held against: what a checkpoint of it would say, and how many did."""

    origin: str | None
    lines: int
    root: str
    checkpoints: int
    given: int


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one run. `ok` is false as soon as one finding exists."""

    directory: Path
    key: KeyUsed
    log: Log
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
            "log": {name: getattr(self.log, name) for name in self.log.__slots__},
            "recordings": [
                {
                    "id": checked.id,
                    "state": checked.state,
                    "file": checked.file,
                    "lines": checked.lines,
                    "read": checked.read,
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
    checkpoints: Sequence[Given] = (),
    identities: Sequence[Identity] = (),
) -> Report:
    """Check the recordings of a folder: all, or those of `ids` (the node log is always checked). `copies` are files
    to read in place of those in the folder, by id; `checkpoints` were kept elsewhere. KeyFileError for a `public_key`
    that is none; OSError for what cannot be read."""
    directory = directory.absolute()
    key, used, key_findings = _key(directory, public_key)
    old = _known_keys(directory)
    for _ in range(_LOOKS):
        present = stored.session_files(directory)  # before the log: it names all of these
        # Before the log: a writer seals before it lets go, so what nobody holds and the log then leaves open is dead.
        live = _held(directory, present)
        ours = [Given(name, data, ours=True) for name, data in treelog.notes(directory)]  # never ahead of the log
        size = _size(directory)
        view = nodeview.read(directory, key, old)
        view.findings += key_findings if view.lines or present else []
        if present and not (directory / files.NODE).exists():
            view.findings.append(Finding("missing", files.NODE, None, "the node log is gone"))
        view.findings += _checkpoints(directory, view, [*ours, *checkpoints])
        examiner = Examiner(directory, view, live=live, copies=copies or {}, keys=identities)
        results = _results(examiner, view, present, ids)
        doubtful = any(found.kind in _RACY for checked in results for found in checked.findings)
        if not doubtful or (_size(directory) == size and not live):
            break  # else it may have been named, stored or deleted after we read the log, and before we read the file
    log = Log(view.origin, view.lines, tree.root(view.leaves).hex(), len(ours), len(checkpoints))
    return Report(directory, used, log, tuple(results))


def _size(directory: Path) -> int:
    try:
        return (directory / files.NODE).stat().st_size
    except FileNotFoundError:
        return -1


def _checkpoints(directory: Path, view: NodeView, given: list[Given]) -> list[Finding]:
    findings = heads.check(given, view.leaves, view.keys)
    newest = treelog.CHECKPOINT
    if view.origin is not None and not (directory / newest).is_file():
        findings.append(Finding("missing", newest, None, "the newest checkpoint of the node log is gone"))
    return findings


def _held(directory: Path, present: list[str]) -> set[str]:
    """The recordings without a seal that a live process writes."""
    named: dict[str, bool] = {}
    for entry in nodelog.entries(directory / files.NODE):
        if isinstance(entry, Opened | Seal):
            named[entry.file] = isinstance(entry, Seal)
    plain = (file for file in present if stored.suffix(file) == stored.PLAIN)
    return {file for file in plain if not named.get(file) and files.held(directory / file)}


def _results(check: Examiner, view: NodeView, present: list[str], ids: Collection[str] | None) -> list[Checked]:
    installation = check.directory / files.INSTALLATION
    if installation.exists() and installation.stat().st_size:
        view.recordings.setdefault(INSTALLATION_ID, Named(files.INSTALLATION, 0))
    chosen = [(id_, named) for id_, named in view.recordings.items() if named.file and (ids is None or id_ in ids)]
    ahead = broad.many([check.job(id_, named) for id_, named in chosen]) if chosen else ()
    results = [check.named(id_, named, seen) for (id_, named), seen in zip(chosen, ahead, strict=True)]
    for file in sorted(set(present) - view.files()):
        if ids is None or stored.session_id(file) in ids:
            results.append(check.unlisted(file))
    if view.lines or view.findings:
        state = "damaged" if view.findings else "open"
        results.append(Checked(NODE_ID, files.NODE, state, view.lines, tuple(view.findings)))
    return results


def _known_keys(directory: Path) -> list[Ed25519PublicKey]:
    """All keys in the folder: hints to read on with, nothing that is trusted."""
    try:
        return [load_public(public_key_file(directory)), *old_keys(directory)]
    except KeyFileError:
        return old_keys(directory)


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
