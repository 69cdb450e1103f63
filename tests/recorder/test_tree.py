"""recorder/tree.py: the tree of RFC 6962, against its published vectors and a plain recursive twin."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder import tree

LEAVES = [
    tree.leaf(bytes.fromhex(text))
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_roots_of_the_certificate_transparency_vectors() -> None:
    assert tree.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [tree.root(LEAVES[: size + 1]).hex() for size in range(8)] == ROOTS


def test_the_proofs_of_the_certificate_transparency_vectors() -> None:
    assert [one.hex()[:8] for one in tree.inclusion(LEAVES, 0)] == ["96a296d2", "5f083f0a", "6b47aaf2"]
    assert [one.hex()[:8] for one in tree.inclusion(LEAVES, 5)] == ["bc1a0643", "ca854ea1", "d37ee418"]
    assert [one.hex()[:8] for one in tree.inclusion(LEAVES[:3], 2)] == ["fac54203"]
    assert [one.hex()[:8] for one in tree.consistency(LEAVES, 6)] == ["0ebc5d34", "ca854ea1", "d37ee418"]
    assert [one.hex()[:8] for one in tree.consistency(LEAVES[:5], 2)] == ["5f083f0a", "bc1a0643"]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return tree.EMPTY
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return tree.node(mth(leaves[:k]), mth(leaves[k:]))


def split(n: int) -> int:
    return 1 << ((n - 1).bit_length() - 1)


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def some(count: int) -> list[bytes]:
    return [tree.leaf(b"%d" % number) for number in range(count)]


@pytest.mark.parametrize("size", range(1, 34))
def test_every_small_tree_is_its_recursive_twin(size: int) -> None:
    leaves = some(size)
    root = mth(leaves)
    assert tree.root(leaves) == root
    for index in range(size):
        proof = tree.inclusion(leaves, index)
        assert proof == path(index, leaves)
        assert tree.includes(proof, index=index, size=size, leaf_hash=leaves[index], root_hash=root)
    for first in range(1, size + 1):
        proof = tree.consistency(leaves, first)
        assert proof == subproof(first, leaves, True)
        assert tree.grew(proof, first=first, first_root=mth(leaves[:first]), second=size, second_root=root)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 600), st.data())
@pytest.mark.thorough
def test_a_proof_fits_nothing_else(size: int, data: st.DataObject) -> None:
    leaves = some(size)
    index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    root, old = mth(leaves), mth(leaves[:first])
    proof, growth = tree.inclusion(leaves, index), tree.consistency(leaves, first)
    assert tree.includes(proof, index=index, size=size, leaf_hash=leaves[index], root_hash=root)
    assert tree.grew(growth, first=first, first_root=old, second=size, second_root=root)
    other = tree.leaf(b"other")
    assert not tree.includes(proof, index=index, size=size, leaf_hash=other, root_hash=root)
    assert not tree.includes(proof, index=index, size=size, leaf_hash=leaves[index], root_hash=other)
    assert not tree.includes([*proof, other], index=index, size=size, leaf_hash=leaves[index], root_hash=root)
    assert not tree.includes(proof, index=size, size=size, leaf_hash=leaves[index], root_hash=root)
    assert not tree.grew(growth, first=first, first_root=other, second=size, second_root=root)
    assert not tree.grew([*growth, other], first=first, first_root=old, second=size, second_root=root)
    if growth:
        at = data.draw(st.integers(0, len(growth) - 1))
        wrong = [*growth[:at], other, *growth[at + 1 :]]
        assert not tree.grew(wrong, first=first, first_root=old, second=size, second_root=root)
        assert not tree.grew(growth[:-1], first=first, first_root=old, second=size, second_root=root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        wrong = [*proof[:at], other, *proof[at + 1 :]]
        assert not tree.includes(wrong, index=index, size=size, leaf_hash=leaves[index], root_hash=root)


def test_the_empty_tree_grows_into_everything() -> None:
    leaves = some(5)
    assert tree.consistency(leaves, 0) == []
    assert tree.grew([], first=0, first_root=tree.EMPTY, second=5, second_root=tree.root(leaves))
    assert not tree.grew([], first=0, first_root=leaves[0], second=5, second_root=tree.root(leaves))
    assert not tree.grew([], first=6, first_root=leaves[0], second=5, second_root=tree.root(leaves))


def test_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no leaf 3"):
        tree.inclusion(some(3), 3)
    with pytest.raises(ValueError, match="did not grow"):
        tree.consistency(some(3), 4)
    with pytest.raises(ValueError, match="2 whole subtrees"):
        tree.Frontier(5, [b""])


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_frontier_goes_on_where_it_was_put_down(first: int, more: int) -> None:
    leaves = some(first + more)
    frontier = tree.Frontier()
    for one in leaves[:first]:
        frontier.add(one)
    again = tree.Frontier(frontier.size, frontier.nodes)
    for one in leaves[first:]:
        again.add(one)
    assert again.root() == mth(leaves)
