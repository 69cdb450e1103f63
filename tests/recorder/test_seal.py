"""Signing: keys on disk, and lines that cannot be changed."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from recorder.files import RecordError
from recorder.seal import KeyFileError, Signer, check_line, check_text, fingerprint, load_public, public_key_file


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    signer = Signer.load(tmp_path, create=True)
    secret = tmp_path / "keys" / "signing.pem"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    again = Signer.load(tmp_path, create=False)
    assert again.fingerprint == signer.fingerprint == fingerprint(load_public(public_key_file(tmp_path)))


def test_a_lost_public_key_is_written_again(tmp_path: Path) -> None:
    Signer.load(tmp_path, create=True)
    public_key_file(tmp_path).unlink()
    signer = Signer.load(tmp_path, create=False)
    assert fingerprint(load_public(public_key_file(tmp_path))) == signer.fingerprint


def test_a_lost_secret_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="put it back"):
        Signer.load(tmp_path, create=False)


def test_unusable_key_files(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signing.pem").write_text("nonsense")
    with pytest.raises(RecordError, match="no usable Ed25519 key"):
        Signer.load(tmp_path, create=True)
    with pytest.raises(KeyFileError, match="cannot read"):
        load_public(tmp_path / "none.pem")
    with pytest.raises(KeyFileError, match="no public key"):
        load_public(tmp_path / "keys" / "signing.pem")
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ec.pem").write_bytes(pem)
    with pytest.raises(KeyFileError, match="another kind"):
        load_public(tmp_path / "ec.pem")


def test_no_byte_of_a_signed_line_can_change(tmp_path: Path) -> None:
    signer = Signer.load(tmp_path, create=True)
    line = signer.sign(b'{"seq":1,"event":"seal"}')
    assert check_line(line, signer.public)
    assert line.endswith(b'"}')
    for at in range(len(line)):
        for mask in (0x01, 0x20, 0x80):
            changed = bytes((*line[:at], line[at] ^ mask, *line[at + 1 :]))
            assert not check_line(changed, signer.public), (at, mask)
    for other in (b"", b"{}", line + b" ", line[:-1], b'x,"sig":"zz"}'):
        assert not check_line(other, signer.public)


def test_signatures_of_texts_and_lines_differ(tmp_path: Path) -> None:
    signer = Signer.load(tmp_path, create=True)
    signature = signer.sign_text(b"1 abc")
    assert check_text(b"1 abc", signature, signer.public)
    assert not check_text(b"2 abc", signature, signer.public)
    assert not check_text(b"1 abc", signature.upper(), signer.public)
    assert not check_text(b"1 abc", "é", signer.public)
