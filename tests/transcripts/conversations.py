"""What a client says in each transcript, step by step; what comes of it stands in NAME.trace beside this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from proxy.wire import build
from tests.live.house import House

BINARY = 1
INT4, TEXT = 23, 25


def u16(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def statement(sql: bytes, *values: bytes, types: tuple[int, ...] = (), limit: int = 0) -> bytes:
    """Parse, Bind, Describe and Execute of the unnamed statement, as drivers send them."""
    return (
        build.parse(b"", sql, types)
        + build.bind(b"", b"", values)
        + build.describe(ord("P"))
        + build.execute(b"", limit)
    )


def call(function: int, *arguments: bytes) -> bytes:
    """A FunctionCall with binary arguments and a binary result."""
    body = u32(function) + u16(1, BINARY, len(arguments))
    body += b"".join(u32(len(argument)) + argument for argument in arguments)
    return build.message(b"F", body + u16(BINARY))


def copy_data(*lines: bytes) -> bytes:
    return b"".join(build.message(b"d", line) for line in lines)


COPY_DONE = build.message(b"c", b"")
COPY_FAIL = build.message(b"f", b"the client has thought again\0")


@dataclass(frozen=True)
class Step:
    """`send` goes out in one piece; then messages are read until each letter of `until` was seen, in this order."""

    why: str
    send: bytes
    until: str = "Z"
    meanwhile: Callable[[House], None] | None = None
    """What happens elsewhere once the bytes are sent."""


@dataclass(frozen=True)
class Conversation:
    """One session under the policy `reader` (enforced) or `watcher` (observed)."""

    name: str
    steps: tuple[Step, ...]
    policy: str = "reader"


def notify(house: House) -> None:
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as other:
        other.execute("notify orders, 'number 7'")


SIMPLE = Conversation(
    "simple",
    (
        Step("an empty query", build.query(b"")),
        Step("nothing but a comment", build.query(b"-- nothing")),
        Step("several statements", build.query(b"select 1 as one; begin; select 2 as two; commit")),
        Step("an error in the middle of several", build.query(b"select 1 as one; select 1/0; select 3 as three")),
        Step(
            "one denied among several: nothing is sent", build.query(b"select 1; select * from hr.salaries; select 2")
        ),
        Step(
            "an error in a transaction, and what follows it",
            build.query(b"begin") + build.query(b"select nothing from orders") + build.query(b"select 1"),
            "ZZZ",
        ),
        Step("a denied statement leaves the failed transaction as it is", build.query(b"delete from orders")),
        Step("the end of it", build.query(b"rollback")),
        Step(
            "a table with a denied column and a mask is replaced",
            build.query(b"select email from customers where id = 1"),
        ),
        Step("an error position in a text that was edited", build.query(b"select email, 1/zero from customers")),
    ),
)

PIPELINE = Conversation(
    "pipeline",
    (
        Step(
            "two statements before one Sync",
            statement(b"select $1::int4 + 1", b"41") + statement(b"select 'b'") + build.SYNC,
        ),
        Step(
            "a denied statement among others: its error has its place, everything up to Sync is skipped",
            statement(b"select 1") + statement(b"select * from hr.salaries") + statement(b"select 3") + build.SYNC,
        ),
        Step(
            "the server's own error among others",
            statement(b"select 1") + statement(b"select 1/$1::int4", b"0") + statement(b"select 3") + build.SYNC,
        ),
        Step(
            "two Syncs: what is behind the first is not touched by the error before it",
            statement(b"delete from orders") + build.SYNC + statement(b"select 2") + build.SYNC,
            "ZZ",
        ),
        Step("an empty statement", statement(b"") + build.SYNC),
        Step(
            "a Query right behind a pipeline",
            statement(b"select 1") + build.SYNC + build.query(b"select 2"),
            "ZZ",
        ),
        Step(
            "a Query that is skipped, because no Sync followed the error",
            statement(b"delete from orders") + build.query(b"select 2") + build.SYNC,
        ),
        Step("Sync alone, twice", build.SYNC + build.SYNC, "ZZ"),
    ),
)

PORTALS = Conversation(
    "portals",
    (
        Step("a transaction, in which portals live", build.query(b"begin")),
        Step(
            "a portal with max_rows is suspended",
            build.parse(b"s", b"select g from generate_series(1, 5) g")
            + build.bind(b"p", b"s")
            + build.execute(b"p", 2)
            + build.SYNC,
        ),
        Step("and resumed, to the end", build.execute(b"p", 2) + build.execute(b"p", 2) + build.SYNC),
        Step(
            "two portals of one statement, in turn",
            build.bind(b"a", b"s")
            + build.bind(b"b", b"s")
            + build.execute(b"a", 1)
            + build.execute(b"b", 3)
            + build.execute(b"a")
            + build.SYNC,
        ),
        Step("one is closed, and then unknown", build.close(ord("P"), b"b") + build.execute(b"b") + build.SYNC),
        Step(
            "a portal of SQL, executed by the wire",
            build.query(b"rollback; begin; declare c cursor for select 7 as seven"),
        ),
        Step("which names it as any other", build.describe(ord("P"), b"c") + build.execute(b"c", 1) + build.SYNC),
        Step("portals end with their transaction", build.query(b"commit")),
        Step("so this one does not exist", build.execute(b"a") + build.SYNC),
    ),
)

DESCRIBE = Conversation(
    "describe",
    (
        Step(
            "Flush without Sync: the answers come at once",
            build.parse(b"s", b"select id, email from customers where id = $1", (INT4,))
            + build.describe(ord("S"), b"s")
            + build.FLUSH,
            "1tT",
        ),
        Step("the portal", build.bind(b"p", b"s", (b"1",)) + build.describe(ord("P"), b"p") + build.FLUSH, "2T"),
        Step("its rows", build.execute(b"p") + build.SYNC),
        Step(
            "a statement without rows",
            build.parse(b"n", b"set statement_timeout = '10s'") + build.describe(ord("S"), b"n") + build.SYNC,
        ),
        Step(
            "Close of a statement, of a portal, of what never was",
            build.close(ord("S"), b"s") + build.close(ord("P"), b"p") + build.close(ord("S"), b"never") + build.SYNC,
        ),
        Step("a closed statement", build.describe(ord("S"), b"s") + build.SYNC),
        Step("a name that never was", build.bind(b"", b"never") + build.SYNC),
        Step("a name that is taken", build.parse(b"n", b"select 1") + build.SYNC),
    ),
)

FLUSH = Conversation(
    "flush-denied",
    (
        Step(
            "a denied statement and Flush: the error comes at once",
            build.parse(b"", b"delete from orders") + build.FLUSH,
            "E",
        ),
        Step("what follows is skipped", build.bind(b"", b"") + build.execute() + build.SYNC),
    ),
)

WATCHED_COPY_AT_ONCE = Conversation(
    "observe-copy-at-once",
    (
        Step("a table of its own", build.query(b"create temp table t (id int primary key, word text)")),
        Step(
            "a client that does not wait for CopyInResponse",
            build.query(b"copy t from stdin") + copy_data(b"1\tone\n", b"2\ttwo\n") + COPY_DONE,
        ),
        Step(
            "and goes on at once",
            build.query(b"copy t from stdin") + copy_data(b"3\tthree\n") + COPY_DONE + build.query(b"select 1"),
            "ZZ",
        ),
        Step(
            "by the extended protocol: the Sync ahead of the data is ignored, the one behind counts",
            build.parse(b"", b"copy t from stdin")
            + build.bind(b"", b"")
            + build.execute()
            + build.SYNC
            + copy_data(b"4\tfour\n")
            + COPY_DONE
            + build.SYNC,
        ),
        Step("as does the next", build.SYNC + statement(b"select 1") + build.SYNC, "ZZ"),
        Step(
            "for a table that is not there",
            build.query(b"copy nothing from stdin") + copy_data(b"5\tfive\n") + COPY_DONE + build.query(b"select 1"),
            "ZZ",
        ),
        Step(
            "with data that the table does not take",
            build.query(b"copy t from stdin") + copy_data(b"six\tsix\n") + COPY_DONE + build.query(b"select 1"),
            "ZZ",
        ),
        Step(
            "which thinks again",
            build.query(b"copy t from stdin") + copy_data(b"7\tseven\n") + COPY_FAIL + build.query(b"select 1"),
            "ZZ",
        ),
        Step(
            "two of them in one Query",
            build.query(b"copy t from stdin; copy t from stdin")
            + copy_data(b"8\teight\n")
            + COPY_DONE
            + copy_data(b"9\tnine\n")
            + COPY_DONE,
        ),
        Step("goes on", statement(b"select 1") + build.SYNC),
        Step("what arrived", build.query(b"copy (select * from t order by id) to stdout")),
    ),
    policy="watcher",
)

BINARIES = Conversation(
    "binary",
    (
        Step(
            "values and results in binary",
            build.parse(b"", b"select $1::int4, $2::text, $3::bool, null::date", (INT4, TEXT))
            + build.bind(b"", b"", (u32(7), "ü".encode(), None), (1, 0, 0), (1,))
            + build.describe(ord("P"))
            + build.execute()
            + build.SYNC,
        ),
        Step(
            "one format for all values, one for each result",
            build.parse(b"", b"select id, name, price from products where id = any($1::int4[]) order by id")
            + build.bind(b"", b"", (u32(1) + u32(0) + u32(INT4) + u32(1) + u32(1) + u32(4) + u32(2),), (1,), (1, 0, 1))
            + build.describe(ord("P"))
            + build.execute()
            + build.SYNC,
        ),
        Step(
            "a value that is none",
            build.parse(b"", b"select $1::int4", (INT4,))
            + build.bind(b"", b"", (b"seven",), (1,))
            + build.execute()
            + build.SYNC,
        ),
    ),
)

COPY = Conversation(
    "copy",
    (
        Step("COPY of a table", build.query(b"copy (select id, name from products order by id limit 2) to stdout")),
        Step("COPY in binary", build.query(b"copy (select 1) to stdout (format binary)")),
        Step(
            "COPY by the extended protocol",
            build.parse(b"", b"copy (select 'x') to stdout") + build.bind(b"", b"") + build.execute() + build.SYNC,
        ),
        Step("COPY FROM is denied", build.query(b"copy products from stdin")),
        Step("and COPY data out of turn is ignored", copy_data(b"1\tx\n") + COPY_DONE + build.query(b"select 1")),
        Step("COPY to a file is denied", build.query(b"copy products to '/tmp/products'")),
    ),
)

WATCHED_COPY = Conversation(
    "observe-copy",
    (
        Step("a table of its own", build.query(b"create temp table t (id int primary key, word text)")),
        Step("COPY FROM, by the simple protocol", build.query(b"copy t from stdin"), "G"),
        Step("its data", copy_data(b"1\tone\n", b"2\ttwo\n") + COPY_DONE),
        Step(
            "COPY FROM, by the extended protocol: Sync and Flush on the way are ignored",
            build.parse(b"", b"copy t from stdin") + build.bind(b"", b"") + build.execute() + build.SYNC,
            "G",
        ),
        Step(
            "its data",
            copy_data(b"3\tthree\n") + build.FLUSH + build.SYNC + copy_data(b"4\tfour\n") + COPY_DONE + build.SYNC,
        ),
        Step("the client thinks again", build.query(b"copy t from stdin"), "G"),
        Step("", copy_data(b"5\tfive\n") + COPY_FAIL),
        Step("data that the table does not take", build.query(b"copy t from stdin"), "G"),
        Step("", copy_data(b"six\tsix\n") + COPY_DONE),
        Step("a client that says nothing more after such an error", build.query(b"copy t from stdin"), "G"),
        Step("", copy_data(b"six\tsix\n", *([b"7\t" + b"x" * 300 + b"\n"] * 3)), "EZ"),
        Step("and goes on by the extended protocol", statement(b"select 1") + build.SYNC),
        Step(
            "such an error in the extended protocol",
            build.parse(b"", b"copy t from stdin") + build.bind(b"", b"") + build.execute() + build.SYNC,
            "G",
        ),
        Step("", copy_data(b"six\tsix\n") + COPY_DONE + build.SYNC),
        Step("COPY TO has what arrived", build.query(b"copy (select * from t order by id) to stdout")),
    ),
    policy="watcher",
)

WATCHED_NOTIFY = Conversation(
    "observe-notify",
    (
        Step("LISTEN", build.query(b"listen orders")),
        Step("a notification comes when nothing else does", b"", "A", notify),
        Step("one's own comes before ReadyForQuery", build.query(b"notify orders, 'mine'")),
        Step("UNLISTEN", build.query(b"unlisten *")),
    ),
    policy="watcher",
)

NOTIFY = Conversation(
    "notify",
    (
        Step("LISTEN is denied", build.query(b"listen orders")),
        Step("and so is NOTIFY", build.query(b"notify orders")),
    ),
)

FUNCTION = Conversation(
    "function-call",
    (
        Step("FunctionCall of int4pl: denied", call(177, u32(40), u32(2))),
        Step("in a transaction", build.query(b"begin") + call(177, u32(40), u32(2)) + build.query(b"commit"), "ZZZ"),
    ),
)

WATCHED_FUNCTION = Conversation(
    "observe-function-call",
    (
        Step("FunctionCall of int4pl", call(177, u32(40), u32(2))),
        Step("of a function that is not there", call(7, u32(40))),
        Step("a transaction, in which descriptors live", build.query(b"begin; select lo_from_bytea(77001, 'large')")),
        Step("lo_open", call(952, u32(77001), u32(0x60000))),
        Step("lo_lseek", call(956, u32(0), u32(1), u32(0))),
        Step("loread", call(954, u32(0), u32(3))),
        Step("lowrite", call(955, u32(0), b"er")),
        Step("lo_close", call(953, u32(0))),
        Step("what it holds now", build.query(b"select convert_from(lo_get(77001), 'UTF8'); rollback")),
    ),
    policy="watcher",
)

CONVERSATIONS = (
    SIMPLE,
    PIPELINE,
    PORTALS,
    DESCRIBE,
    FLUSH,
    BINARIES,
    COPY,
    WATCHED_COPY,
    WATCHED_COPY_AT_ONCE,
    NOTIFY,
    WATCHED_NOTIFY,
    FUNCTION,
    WATCHED_FUNCTION,
)
