"""The files of a key rotation: the next key is made beside the old one, and takes its place when the log names it.

    keys/signing.next     the next secret, until the log's `key.rotated` line is written
    keys/old/<print>.pem  the public keys of before, for whoever verifies

Call everything here with the node log held. Must not write the log. Invariant: whoever dies in between, the key in
force is the one that the log says, as soon as somebody looks.
"""

import os
from pathlib import Path

from recorder import chain, files
from recorder.entries import KeyRotated, decode_entry
from recorder.seal import Signer, fingerprint, load_secret, public_key_file, write_public, write_secret

_NEXT = "signing.next"
_MARK = b'"event":"key.rotated"'


def mark(directory: Path) -> tuple[int, int]:
    """Changes when another key takes the place."""
    try:
        found = (directory / "keys" / "signing.pem").stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_ino, found.st_mtime_ns


def prepare(directory: Path) -> Signer:
    """The next key, on disk and not in force. The log is to name it now."""
    return Signer(write_secret(directory / "keys" / _NEXT))


def finish(directory: Path) -> None:
    """Put the next key in the old one's place. OSError."""
    keys = directory / "keys"
    old = load_secret(keys / "signing.pem").public_key()
    fresh = load_secret(keys / _NEXT).public_key()
    files.make_folder(keys / "old")
    files.give(keys / "old")
    write_public(keys / "old" / f"{fingerprint(old)}.pem", old)
    write_public(public_key_file(directory), fresh)
    os.replace(keys / _NEXT, keys / "signing.pem")
    files.sync_folder(keys)


def settle(directory: Path, log: Path) -> None:
    """Somebody may have died in the middle of a rotation: finish it where the log names the next key, else forget it.
    OSError."""
    fresh = directory / "keys" / _NEXT
    if not fresh.exists():
        return
    try:
        public = load_secret(fresh).public_key().public_bytes_raw().hex()
    except ValueError:  # half written
        public = ""
    if public and public == _last_named(log):
        try:
            finish(directory)
        except ValueError as cause:
            raise files.RecordError(
                f"{directory / 'keys' / 'signing.pem'} holds no usable Ed25519 key: {cause}"
            ) from None
    else:
        fresh.unlink()


def _last_named(log: Path) -> str | None:
    found = None
    with log.open("rb") as lines:
        for raw in lines:
            if _MARK not in raw or not raw.endswith(b"\n"):
                continue
            entry = decode_entry(raw[:-1], _event(raw[:-1]))
            found = entry.public if isinstance(entry, KeyRotated) else found
    return found


def _event(raw: bytes) -> str:
    line = chain.decode(raw)
    return line.event if line is not None else ""
