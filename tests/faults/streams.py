"""Streams of client messages, and what chance may do to them.

A stream is a plausible conversation: statements that are allowed, masked and denied, both protocols, names that are
used twice, errors, COPY. Mutations act on fields (a message twice, away, elsewhere, another type) and on bytes.
Everything comes from one `random.Random`, so a seed is a stream.
"""

from __future__ import annotations

import itertools
import random

from proxy.wire import build
from proxy.wire.client import PORTAL, STATEMENT

TEXTS = (
    b"select 1", b"select name from products", b"select * from customers", b"select email, id from customers c",
    b"select * from hr.salaries", b"delete from orders", b"select 1; select 2", b"begin", b"commit", b"rollback",
    b"select 1; delete from orders; select 2", b"", b" ; ", b"select nonsense(",
    b"show search_path", b"copy orders (id) to stdout", b"copy orders from stdin", b"select $1::int",
    b"select pg_read_file('x')",
    b"select id from orders where id = $1", b"select '\xc3\xa9\xe2\x82\xac'", b"select '\xff'", b"-- nothing",
    b"/* x */",
    b"select count(*) from orders o join customers c on c.id = o.customer_id", b"set search_path to hr",
    b"select '" + b"x" * 1990 + b"'", b"select '" + b"x" * 3000 + b"'", b"table customers",
)  # fmt: skip
NAMES = (b"", b"", b"", b"a", b"b", b"\xff\xfe", b"n" * 63, b"n" * 70)
JUNK = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\4", b"\0\0\0\3", b"Q", b"S\0\0\0\4")


def message(chance: random.Random) -> bytes:
    """One message that a client may send."""
    draw = chance.random()
    name, portal = chance.choice(NAMES), chance.choice(NAMES)
    if draw < 0.22:
        return build.query(chance.choice(TEXTS))
    if draw < 0.34:
        return build.parse(name, chance.choice(TEXTS), chance.choice(((), (23,), (0, 25))))
    if draw < 0.48:
        values = [chance.choice((None, b"", b"7", b"\0\0\0\7", b"v" * chance.choice((50, 2500, 5000))))]
        values *= chance.randrange(3)
        return build.bind(portal, name, values, chance.choice(((), (0,), (1,))), chance.choice(((), (1,))))
    if draw < 0.62:
        return build.execute(portal, chance.choice((0, 0, 1)))
    if draw < 0.68:
        return build.describe(chance.choice((STATEMENT, PORTAL)), name)
    if draw < 0.73:
        return build.close(chance.choice((STATEMENT, PORTAL)), name)
    if draw < 0.76:
        return build.FLUSH
    if draw < 0.84:
        return build.SYNC
    if draw < 0.88:
        # As drivers do it: all of one statement in one go.
        return build.parse(b"", chance.choice(TEXTS)) + build.bind(b"", b"") + build.execute() + build.SYNC
    if draw < 0.92:
        return build.close(STATEMENT, name) + build.parse(name, chance.choice(TEXTS))
    if draw < 0.96:
        return build.bind(b"", name) + build.execute() + chance.choice((b"", build.SYNC))
    return chance.choice(
        (
            build.message(b"d", b"1\t2\n" * chance.choice((1, 50, 4000))),
            build.message(b"c", b""),
            build.message(b"f", b"no\0"),
            build.message(b"F", b"\0\0\0\1" + b"\0" * 6),
            build.TERMINATE if chance.random() < 0.1 else build.SYNC,
        )
    )


def stream(chance: random.Random) -> list[bytes]:
    """A conversation of a few messages, most often well-formed ones."""
    return [message(chance) for _ in range(chance.randrange(1, 14))]


def mutated(chance: random.Random) -> bytes:
    """A conversation with one to four mutations, as bytes."""
    messages = stream(chance)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(messages))
        found = messages[at]
        draw = chance.randrange(9)
        if draw == 0:
            messages.insert(chance.randrange(len(messages) + 1), found)
        elif draw == 1 and len(messages) > 1:
            del messages[at]
        elif draw == 2:
            other = chance.randrange(len(messages))
            messages[at], messages[other] = messages[other], messages[at]
        elif draw == 3:
            messages[at] = bytes((chance.randrange(256),)) + found[1:]
        elif draw == 4:
            length = chance.choice((0, 3, 4, 5, len(found), len(found) - 2, 9_999, 10_001, 1 << 30, (1 << 31) - 1))
            messages[at] = found[:1] + (length & 0xFFFFFFFF).to_bytes(4, "big") + found[5:]
        else:
            messages[at] = noisy(found, chance)
    return b"".join(messages)


def noisy(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, put in, taken away or cut off."""
    if not data:
        return data
    at = chance.randrange(len(data))
    draw = chance.randrange(5)
    if draw == 0:
        return data[:at] + bytes((data[at] ^ (1 << chance.randrange(8)),)) + data[at + 1 :]
    if draw == 1:
        return data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :]
    if draw == 2:
        return data[:at] + chance.choice(JUNK) + data[at:]
    if draw == 3:
        return data[:at] + data[at + chance.randrange(1, 9) :]
    return data[:at]


def pieces(data: bytes, chance: random.Random) -> list[bytes]:
    """The bytes as they may arrive."""
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(5)))
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
