"""Checkpoints held against the node log: does it still hold, unchanged, what a signed tree head once saw?

A checkpoint from off the machine is the one thing that tells of a log that was rolled back, or written anew by somebody
who has the key. Must not read the log: it takes the leaves. Invariant: a checkpoint that does not fit is a finding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import checkpoint, files, tree
from recorder.checkpoint import Checkpoint
from recorder.walk import Finding


@dataclass(frozen=True, slots=True)
class Given:
    """A file with checkpoints. `ours`: it lies in the folder itself, so that whoever changed the log had it too."""

    name: str
    data: bytes
    ours: bool = False


def check(given: Iterable[Given], leaves: Sequence[bytes], keys: Sequence[Ed25519PublicKey]) -> list[Finding]:
    """What does not fit. Without `keys` no signature is checked."""
    findings: list[Finding] = []
    heads: list[tuple[Checkpoint, Given]] = []
    for file in given:
        notes = checkpoint.parse_all(file.data)
        if file.ours and len(notes) != 1:
            notes = [None]
        for note in notes or [None]:
            if note is None:
                kind = "changed" if file.ours else "unreadable"
                findings.append(Finding(kind, file.name, None, "is no checkpoint, or not as it was written"))
            elif keys and not any(note.signed_by(key) for key in keys):
                findings.append(Finding("signature", file.name, None, _stranger(note)))
            else:
                heads.append((note, file))
    return findings + _compare(heads, leaves)


def _stranger(note: Checkpoint) -> str:
    return f"the checkpoint of {note.origin} over {note.size} lines is signed by no key that signed this log"


def _compare(heads: list[tuple[Checkpoint, Given]], leaves: Sequence[bytes]) -> list[Finding]:
    findings, frontier, rewritten = [], tree.Frontier(), False
    for note, file in sorted(heads, key=lambda head: head[0].size):
        if note.size > len(leaves):
            kind = "cut" if file.ours else "rolled-back"
            text = f"checkpoint {file.name} saw {note.size} lines; {len(leaves)} are here"
            findings.append(Finding(kind, files.NODE, len(leaves) + 1, text))
            continue
        for one in leaves[frontier.size : note.size]:
            frontier.add(one)
        if frontier.root() != note.root and not rewritten:
            rewritten = True
            text = f"lines 1 to {note.size} are not those that checkpoint {file.name} saw"
            findings.append(Finding("rewritten", files.NODE, None, text))
    return findings
