"""Checkpoints: the head of the tree over the node log, as a signed note that any C2SP tool reads.

    <origin>            — c2sp.org/tlog-checkpoint: three lines,
    <leaves>              an empty one, and the signatures
    <root, base64>        of c2sp.org/signed-note (Ed25519)

Knows bytes and keys; must not know where logs and checkpoints lie. Invariant: a checkpoint has one spelling, so no byte
of what was signed, or of our signature, can change unseen.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_DASH = "— "
_ED25519 = b"\x01"
PROOF = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. `text` is what was signed; `signatures` are (name, key id and signature), ours and others'."""

    origin: str
    size: int
    root: bytes
    text: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether the log itself, whose key this is, signed it."""
        wanted = key_id(self.origin, key)
        for name, data in self.signatures:
            if name == self.origin and data[:4] == wanted:
                try:
                    key.verify(data[4:], self.text)
                except InvalidSignature:
                    continue
                return True
        return False


def compose(origin: str, size: int, root: bytes, key: Ed25519PrivateKey) -> bytes:
    """A signed checkpoint."""
    text = f"{origin}\n{size}\n{_b64(root)}\n".encode()
    signature = key_id(origin, key.public_key()) + key.sign(text)
    return text + f"\n{_DASH}{origin} {_b64(signature)}\n".encode()


def parse(data: bytes) -> Checkpoint | None:
    """The checkpoint that `data` is, and nothing else; None where it is none."""
    try:
        text, empty, rest = data.decode().partition("\n\n")
        origin, size, root, *extensions = text.split("\n")
        signatures = tuple(_signature(line) for line in rest.removesuffix("\n").split("\n"))
        if not (empty and origin and rest.endswith("\n") and all(extensions) and str(int(size)) == size):
            return None
        found = Checkpoint(origin, int(size), _unb64(root), f"{text}\n".encode(), signatures)
    except (UnicodeDecodeError, ValueError):
        return None
    return found if len(found.root) == 32 and found.size >= 0 else None


def parse_all(data: bytes) -> list[Checkpoint | None]:
    """Checkpoints one after another, with an empty line between, as a sink that only appends leaves them."""
    notes: list[bytes] = []
    for line in data.splitlines(keepends=True):
        fresh = not notes or (_signed(notes[-1]) and not line.startswith(_DASH.encode()))
        if fresh and line.strip():
            notes.append(line)
        elif not fresh:
            notes[-1] += line
    return [parse(note) for note in notes]


def _signed(note: bytes) -> bool:
    return note.rstrip(b"\n").rpartition(b"\n")[2].startswith(_DASH.encode())


def _signature(line: str) -> tuple[str, bytes]:
    if not line.startswith(_DASH):
        raise ValueError("no signature")
    name, _, data = line.removeprefix(_DASH).rpartition(" ")
    return name, _unb64(data)


def key_id(name: str, key: Ed25519PublicKey) -> bytes:
    """The four bytes by which a signed note tells keys apart."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.public_bytes_raw()).digest()[:4]


def verifier_key(name: str, key: Ed25519PublicKey) -> str:
    """The key as one line, as tools for signed notes want it (`NAME+HASH+KEY`)."""
    return f"{name}+{key_id(name, key).hex()}+{_b64(_ED25519 + key.public_bytes_raw())}"


def proof(index: int, path: list[bytes], note: bytes, extra: bytes = b"") -> bytes:
    """The file of c2sp.org/tlog-proof: that the line at `index` (from 0) stands in the log of this checkpoint."""
    lines = [PROOF, *([f"extra {_b64(extra)}"] if extra else []), f"index {index}", *map(_b64, path)]
    return "\n".join(lines).encode() + b"\n\n" + note


def parse_proof(data: bytes) -> tuple[int, list[bytes], Checkpoint] | None:
    """What `proof` put together: index, path, checkpoint. None where it is no such file."""
    head, _, note = data.partition(b"\n\n")
    found = parse(note)
    lines = [line for line in head.decode("utf-8", "replace").split("\n") if not line.startswith("extra ")]
    try:
        if found is None or lines[0] != PROOF or not lines[1].startswith("index "):
            return None
        return int(lines[1].removeprefix("index ")), [_unb64(line) for line in lines[2:]], found
    except (IndexError, ValueError):
        return None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as cause:
        raise ValueError(str(cause)) from None
    if _b64(data) != text:
        raise ValueError("another spelling")
    return data
