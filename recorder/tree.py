"""The Merkle tree of RFC 6962 (as RFC 9162 has it too): roots, and proofs that one thing is in it or that it only grew.

A leaf is the hash of one line of the node log, its bytes without the newline. Knows hashes only: no files, no
signatures. Invariant: what `inclusion` and `consistency` give is what any verifier of such trees accepts.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY = sha256().digest()


def leaf(data: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\0" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\1" + left + right).digest()


class Frontier:
    """A tree that grows: the roots of its whole subtrees, the largest first, which is all that a root needs."""

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)
        if len(self.nodes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} whole subtrees")

    def add(self, leaf_hash: bytes) -> None:
        """One more leaf."""
        nodes, carry, grown = self.nodes, self.size, leaf_hash
        while carry & 1:
            grown = node(nodes.pop(), grown)
            carry >>= 1
        nodes.append(grown)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree as it is."""
        if not self.nodes:
            return EMPTY
        found = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            found = node(left, found)
        return found


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    frontier = Frontier()
    for one in leaves:
        frontier.add(one)
    return frontier.root()


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The proof that the leaf at `index` (from 0) is in the tree of all these."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"there is no leaf {index} in a tree of {len(leaves)}")
    return _path(_levels(leaves), index, 0, len(leaves) - 1)


def consistency(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """The proof that the tree of the `first` leaves grew into the tree of all these."""
    if not 0 <= first <= len(leaves):
        raise ValueError(f"a tree of {len(leaves)} leaves did not grow out of one of {first}")
    if first in (0, len(leaves)):
        return []
    levels, level, at, last = _levels(leaves), 0, first - 1, len(leaves) - 1
    while at & 1:
        at, last, level = at >> 1, last >> 1, level + 1
    start = [levels[level][at]] if at else []
    return start + _path(levels, at, level, last)


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All hashes, from the leaves up; one without a partner goes up as it is."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [node(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
        levels.append(above + below[-1:] if len(below) % 2 else above)
    return levels


def _path(levels: list[list[bytes]], at: int, level: int, last: int) -> list[bytes]:
    found = []
    while last:
        if (at ^ 1) <= last:
            found.append(levels[level][at ^ 1])
        at, last, level = at >> 1, last >> 1, level + 1
    return found


def includes(path: Sequence[bytes], *, index: int, size: int, leaf_hash: bytes, root_hash: bytes) -> bool:
    """Whether `path` proves that the leaf stands at `index` of the tree of `size` leaves with this root."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf_hash
    for other in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node(other, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, other)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root_hash


def grew(path: Sequence[bytes], *, first: int, first_root: bytes, second: int, second_root: bytes) -> bool:
    """Whether `path` proves that the tree of `first` leaves is the beginning of the tree of `second`."""
    if first in (0, second):
        return not path and (second_root == first_root if first else first_root == EMPTY)
    if not 0 < first < second or not path:
        return False
    steps = list(path) if first & (first - 1) else [first_root, *path]
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for other in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node(other, old), node(other, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node(new, other)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root
