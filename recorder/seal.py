"""Signing: the installation's Ed25519 key, and a line that carries its own signature.

A signed line ends in `,"key":"<16 hex>","sig":"<128 hex>"}`; the signature covers a fixed prefix and every byte
before `,"sig"`. Knows keys and bytes; must not know what a line says. Invariant: there is exactly one spelling of a
signed line (hex, lower case), so no byte of it can change and still verify.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from recorder.files import RecordError, give, make_folder, record_error

_CONTEXT = b"daypass node log v1\n"
_SIG = b',"sig":"'
_SIG_END = b'"}'
_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


class KeyFileError(Exception):
    """A key file that cannot be read or holds no Ed25519 key."""


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw public key, first 16 hex digits: what people compare."""
    return hashlib.sha256(key.public_bytes(*_RAW)).hexdigest()[:16]


class Signer:
    """Holds the secret key and signs lines with it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.key = key
        self.public = key.public_key()
        self.fingerprint = fingerprint(self.public)

    @classmethod
    def load(cls, directory: Path, *, create: bool) -> "Signer":
        """The folder's key; made when absent and `create`. RecordError otherwise. Call with the node log held against
        other processes."""
        secret, public = directory / "keys" / "signing.pem", public_key_file(directory)
        try:
            return cls(_load(secret, public))
        except FileNotFoundError:
            if not create:
                raise RecordError(
                    f"the signing key {secret} is gone, but recordings signed with it exist; "
                    f"put it back, or move {directory} away"
                ) from None
        except OSError as cause:
            raise record_error("read", secret, cause) from cause
        except (ValueError, UnsupportedAlgorithm) as cause:
            raise RecordError(f"{secret} holds no usable Ed25519 key: {cause}") from cause
        try:
            return cls(_create(secret, public))
        except OSError as cause:
            raise record_error("create", secret, cause) from cause

    def sign(self, line: bytes) -> bytes:
        """The line, a JSON object without newline, with `key` and `sig` added."""
        body = line[:-1] + b',"key":"' + self.fingerprint.encode() + b'"'
        return body + _SIG + self.key.sign(_CONTEXT + body).hex().encode() + _SIG_END

    def sign_text(self, text: bytes) -> str:
        """The signature (hex) over a short text that is no line, such as the end of the node log."""
        return self.key.sign(_CONTEXT + b"text\n" + text).hex()


def _load(secret: Path, public: Path) -> Ed25519PrivateKey:
    key = load_secret(secret)
    if not public.exists():  # its maker died between the two files
        write_public(public, key.public_key())
    return key


def load_secret(file: Path) -> Ed25519PrivateKey:
    """The secret key in a PEM file. OSError; ValueError where it is none of ours."""
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("another kind of key")
    return key


def _create(secret: Path, public: Path) -> Ed25519PrivateKey:
    make_folder(secret.parent)
    new = secret.with_name("signing.new")
    key = write_secret(new)
    new.rename(secret)
    write_public(public, key.public_key())
    return key


def write_secret(file: Path) -> Ed25519PrivateKey:
    """A new key, in place of whatever lies there, on the disk."""
    key = Ed25519PrivateKey.generate()
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    give(file)
    with open(fd, "wb") as out:
        out.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        out.flush()
        os.fsync(out.fileno())
    return key


def write_public(file: Path, key: Ed25519PublicKey) -> None:
    """The public key as PEM, whole or not at all."""
    new = file.with_name(f"{file.name}.new")
    new.write_bytes(_pem(key))
    give(new)
    new.replace(file)


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def raw_public(text: str) -> Ed25519PublicKey | None:
    """The key that a line of the node log names in hex; None where it names none."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        return None


def public_key_file(directory: Path) -> Path:
    """Where a recordings folder keeps the key that its signatures are checked against."""
    return directory / "keys" / "public.pem"


def old_keys(directory: Path) -> list[Ed25519PublicKey]:
    """The public keys that a recordings folder kept from before its rotations; what cannot be read is left out."""
    found = []
    for file in sorted((directory / "keys" / "old").glob("*.pem")):
        with contextlib.suppress(KeyFileError):
            found.append(load_public(file))
    return found


def load_public(file: Path) -> Ed25519PublicKey:
    """The public key in a PEM file. KeyFileError says what is wrong with it."""
    try:
        key = serialization.load_pem_public_key(file.read_bytes())
    except OSError as cause:
        raise KeyFileError(f"cannot read {file}: {cause.strerror}") from cause
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise KeyFileError(f"{file} holds no public key in PEM form") from cause
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{file} holds another kind of key than Ed25519")
    return key


def check_line(line: bytes, key: Ed25519PublicKey) -> bool:
    """Whether the line is exactly as the key's holder signed it."""
    body, found, rest = line.rpartition(_SIG)
    return bool(found) and rest.endswith(_SIG_END) and _check(_CONTEXT + body, rest[: -len(_SIG_END)], key)


def check_text(text: bytes, signature: str, key: Ed25519PublicKey) -> bool:
    """Whether the key's holder signed the text with `Signer.sign_text`."""
    return _check(_CONTEXT + b"text\n" + text, signature.encode(), key)


def _check(message: bytes, signature: bytes, key: Ed25519PublicKey) -> bool:
    try:
        raw = bytes.fromhex(signature.decode("ascii"))
        if raw.hex().encode() != signature:
            return False
        key.verify(raw, message)
    except (ValueError, InvalidSignature):
        return False
    return True
