"""recorder/checkpoint.py: signed notes as others write them, and that no byte of one can change."""

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from recorder import checkpoint, tree

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ROOT = tree.root([tree.leaf(b"one")])

NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SAYING = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
SIGNED = SAYING + f"\n— PeterNeumann {SIGNATURE}\n".encode()


def test_the_signed_note_that_everybody_knows() -> None:
    """The example of Go's package `note`: the key's name, its id, and what the signature covers."""
    name, hashed, data = NEUMANN.split("+", 2)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(data)[1:])
    assert checkpoint.key_id(name, key).hex() == hashed
    assert checkpoint.verifier_key(name, key) == NEUMANN
    signature = base64.b64decode(SIGNED.decode().rsplit(" ", 1)[1])
    assert signature[:4].hex() == hashed
    key.verify(signature[4:], SAYING)
    assert checkpoint.parse(SIGNED) is None  # a note, and no checkpoint


def test_the_published_checkpoint() -> None:
    data = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    ).encode()
    found = checkpoint.parse(data)
    assert found is not None
    assert (found.origin, found.size, found.root.hex()[:8]) == ("example.com/behind-the-sofa", 20852163, "0ac5186a")
    assert not found.signed_by(KEY.public_key())


def test_what_is_written_is_read() -> None:
    data = checkpoint.compose("daypass/node/ab", 1, ROOT, KEY)
    found = checkpoint.parse(data)
    assert found is not None
    assert (found.origin, found.size, found.root) == ("daypass/node/ab", 1, ROOT)
    assert found.signed_by(KEY.public_key())
    assert not found.signed_by(Ed25519PrivateKey.generate().public_key())


def test_no_byte_of_a_checkpoint_can_change() -> None:
    data = checkpoint.compose("daypass/node/ab", 1, ROOT, KEY)
    for at in range(len(data)):
        for mask in (0x01, 0x02, 0x04, 0x20, 0x80):
            changed = bytes((*data[:at], data[at] ^ mask, *data[at + 1 :]))
            found = checkpoint.parse(changed)
            assert found is None or not found.signed_by(KEY.public_key()), (at, mask)


def test_a_witness_may_add_its_signature() -> None:
    data = checkpoint.compose("daypass/node/ab", 1, ROOT, KEY) + "— witness.example AAAAAAAA\n".encode()
    found = checkpoint.parse(data)
    assert found is not None
    assert len(found.signatures) == 2
    assert found.signed_by(KEY.public_key())


def test_what_is_no_checkpoint() -> None:
    good = checkpoint.compose("daypass/node/ab", 1, ROOT, KEY)
    for bad in (
        b"",
        b"\n",
        b"\n\n",
        b"x\n1\n",
        good[:-1],
        good + b"\n",
        good.replace(b"\n1\n", b"\n01\n"),
        b"\xff" + good,
    ):
        assert checkpoint.parse(bad) is None
    assert checkpoint.parse(good.replace(b"\n1\n", b"\n-1\n")) is None
    assert checkpoint.parse(b"x\n1\nAAAA\n\n" + "— x AAAA\n".encode()) is None


def test_several_in_one_file() -> None:
    one, two = (checkpoint.compose("o", size, ROOT, KEY) for size in (1, 2))
    for data in (one + two, one + b"\n" + two, one + b"\n\n" + two + b"\n"):
        found = checkpoint.parse_all(data)
        assert [note.size if note else None for note in found] == [1, 2]
    assert checkpoint.parse_all(one + b"nonsense") == [checkpoint.parse(one), None]
    assert checkpoint.parse_all(b"") == []


def test_a_proof_is_a_file_that_others_read() -> None:
    leaves = [tree.leaf(b"%d" % number) for number in range(5)]
    note = checkpoint.compose("daypass/node/ab", 5, tree.root(leaves), KEY)
    data = checkpoint.proof(3, tree.inclusion(leaves, 3), note, b"more")
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nextra bW9yZQ==\nindex 3\n")
    found = checkpoint.parse_proof(data)
    assert found is not None
    index, path, head = found
    assert head == checkpoint.parse(note)
    assert tree.includes(path, index=index, size=head.size, leaf_hash=leaves[3], root_hash=head.root)
    assert checkpoint.parse_proof(note) is None
    assert checkpoint.parse_proof(data.replace(b"index", b"place")) is None
    assert checkpoint.parse_proof(data.replace(b"index 3", b"index x")) is None
