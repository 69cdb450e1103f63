"""recorder/heads.py: what checkpoints say about a log, those beside it and those from elsewhere."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder import checkpoint, tree
from recorder.heads import Given, check

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
LEAVES = [tree.leaf(b"%d" % number) for number in range(10)]
ORIGIN = "daypass/node/x"


def note(size: int, leaves: list[bytes] = LEAVES, key: Ed25519PrivateKey = KEY) -> bytes:
    return checkpoint.compose(ORIGIN, size, tree.root(leaves[:size]), key)


def kinds(*given: Given, leaves: list[bytes] = LEAVES) -> list[str]:
    return [found.kind for found in check(given, leaves, [KEY.public_key()])]


def test_what_fits() -> None:
    assert kinds(*(Given(str(size), note(size)) for size in (0, 10, 3, 7))) == []
    assert kinds(Given("many", b"\n".join(note(size) for size in range(11)))) == []


def test_a_log_that_was_rolled_back() -> None:
    assert kinds(Given("kept", note(10)), leaves=LEAVES[:8]) == ["rolled-back"]
    assert kinds(Given("here", note(10), ours=True), leaves=LEAVES[:8]) == ["cut"]
    assert kinds(Given("kept", note(8)), Given("later", note(10)), leaves=LEAVES[:9]) == ["rolled-back"]


def test_a_log_that_was_written_anew() -> None:
    other = [*LEAVES[:4], tree.leaf(b"other"), *LEAVES[5:]]
    findings = check([Given("a", note(4)), Given("b", note(6)), Given("c", note(10))], other, [KEY.public_key()])
    assert [(found.kind, found.detail) for found in findings] == [
        ("rewritten", "lines 1 to 6 are not those that checkpoint b saw")
    ]


def test_what_is_no_checkpoint_of_this_log() -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    assert kinds(Given("a", note(4, key=stranger))) == ["signature"]
    assert check([Given("a", note(4, key=stranger))], LEAVES, []) == []  # there was no key to check with
    assert kinds(Given("a", b"nonsense")) == ["unreadable"]
    assert kinds(Given("a", b"")) == ["unreadable"]
    assert kinds(Given("a", note(4) + b"x", ours=True)) == ["changed"]
    assert kinds(Given("a", note(4) + note(5), ours=True)) == ["changed"]
