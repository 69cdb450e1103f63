"""A proof for one recording: that its seal stands in the node log of a checkpoint, to be checked without the log.

    <the seal's line>  +  <path of hashes>  +  <checkpoint>       → verify_seal

Must not verify the recording itself. Invariant: a proof that is given out holds.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import chain, checkpoint, files, tree, treelog
from recorder.entries import Seal, Stored, decode_entry


class ProofError(Exception):
    """There is no seal, or no checkpoint that holds it."""


@dataclass(frozen=True, slots=True)
class Proof:
    """`line` is the log's own line (the seal, or the stored form, whichever came last); `file` the proof in the form of
    c2sp.org/tlog-proof."""

    line: bytes
    file: bytes


def seal(directory: Path, id_: str) -> Proof:
    """The proof for recording `id_` against the newest checkpoint. ProofError; OSError."""
    note = checkpoint.parse(data := _newest(directory))
    if note is None:
        raise ProofError(f"there is no checkpoint in {directory} yet; a server, or `recording checkpoint`, writes one")
    leaves: list[bytes] = []
    found: tuple[int, bytes] | None = None
    with (directory / files.NODE).open("rb") as lines:
        for raw in lines:
            if len(leaves) == note.size:
                break
            text = raw.rstrip(b"\n")
            leaves.append(tree.leaf(text))
            line = chain.decode(text)
            entry = decode_entry(text, line.event) if line is not None else None
            if isinstance(entry, Seal | Stored) and entry.id == id_:
                found = len(leaves) - 1, text
    if found is None:
        raise ProofError(f"recording {id_} is not sealed yet, or the newest checkpoint is older than its seal")
    index, text = found
    path = tree.inclusion(leaves, index)
    if not tree.includes(path, index=index, size=note.size, leaf_hash=leaves[index], root_hash=note.root):
        raise ProofError("the node log does not fit its checkpoint; `recording verify` says more")
    return Proof(text, checkpoint.proof(index, path, data, text))


def holds(line: bytes, file: bytes, key: Ed25519PublicKey) -> bool:
    """Whether `file` proves that the holder of `key` has this line in the log."""
    found = checkpoint.parse_proof(file)
    if found is None:
        return False
    index, path, note = found
    leaf = tree.leaf(line)
    return note.signed_by(key) and tree.includes(
        path, index=index, size=note.size, leaf_hash=leaf, root_hash=note.root
    )  # fmt: skip


def _newest(directory: Path) -> bytes:
    try:
        return (directory / treelog.CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return b""
