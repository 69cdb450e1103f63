"""recorder/prove.py: one seal, proven without the log."""

from datetime import timedelta
from pathlib import Path

import pytest

from recorder import prove
from recorder.pack import Form, Packer
from recorder.prove import ProofError
from recorder.seal import load_public, public_key_file
from recorder.treelog import TreeLog
from tests.recorder.support import START, Ticker, sealed


@pytest.mark.parametrize("packed", [False, True])
def test_a_proof_holds_for_its_line_alone(tmp_path: Path, packed: bool) -> None:
    sealed(tmp_path, "s-1", "s-2")
    if packed:
        Packer(tmp_path, Form(), Ticker(START + timedelta(days=1))).round()
    TreeLog(tmp_path).round(START)
    key = load_public(public_key_file(tmp_path))
    one, two = prove.seal(tmp_path, "s-1"), prove.seal(tmp_path, "s-2")
    assert (b'"event":"stored","id":"s-1"' if packed else b'"event":"seal","id":"s-1"') in one.line
    assert prove.holds(one.line, one.file, key)
    assert prove.holds(two.line, two.file, key)
    assert not prove.holds(one.line, two.file, key)
    assert not prove.holds(one.line + b" ", one.file, key)
    sealed(tmp_path / "other")
    assert not prove.holds(one.line, one.file, load_public(public_key_file(tmp_path / "other")))
    assert not prove.holds(one.line, b"nonsense", key)


def test_no_proof_without_a_checkpoint_or_a_seal(tmp_path: Path) -> None:
    sealed(tmp_path, "s-1")
    with pytest.raises(ProofError, match="no checkpoint"):
        prove.seal(tmp_path, "s-1")
    TreeLog(tmp_path).round(START)
    with pytest.raises(ProofError, match="not sealed"):
        prove.seal(tmp_path, "s-9")
    node = tmp_path / "node.jsonl"
    node.write_bytes(node.read_bytes().replace(b'"lines":6', b'"lines":5'))
    with pytest.raises(ProofError, match="does not fit"):
        prove.seal(tmp_path, "s-1")
