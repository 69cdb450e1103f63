"""Results: rows joined from their events, digests held against a given result."""

import base64

from recorder.events import Column, Outcome, Rows
from recorder.results import Digest, Row, copy_data, data_row, matches, read

KEY = bytes(range(32))
COLUMNS = (Column(name="id", type="int4", format="binary"), Column(name="name", type="text"))


def piece(data: bytes, *, more: bool, n: int = 1, first: int = 1) -> Rows:
    return Rows(n=n, first=first, piece=base64.b64encode(data).decode(), more=more)


def test_rows_are_numbered_across_their_events() -> None:
    events = [
        Rows(n=1, columns=COLUMNS, values=[[1, "a"], [2, None]]),
        Rows(n=1, first=3, values=[[3, ""]]),
        Outcome(n=1, rows=3, bytes=9, ms=1.0, sqlstate=None),
        Rows(n=2, copy=["1\ta\n"]),
    ]
    assert list(read(events)) == [
        Row(1, 1, COLUMNS, [1, "a"]),
        Row(1, 2, COLUMNS, [2, None]),
        Row(1, 3, COLUMNS, [3, ""]),
        Row(2, 1, None, copy="1\ta\n"),
    ]


def test_pieces_of_a_row_are_put_together() -> None:
    message = data_row([b"\0\0\0\7", b"x" * 100])
    events = [
        Rows(n=1, columns=COLUMNS, piece=base64.b64encode(message[:11]).decode(), more=True),
        piece(message[11:50], more=True),
        piece(message[50:], more=False),
        piece(data_row([None, "é".encode()]), more=False, first=2),
        piece(copy_data(b"\xff"), more=False, n=2),
        piece(data_row([b"torn"]), more=True, n=3),
    ]
    assert [(row.number, row.values or row.copy) for row in read(events)] == [
        (1, [{"type": 0, "hex": "00000007"}, "x" * 100]),
        (2, [None, "é"]),
        (1, {"type": 0, "hex": "ff"}),
    ]


def test_a_result_that_differs_in_anything_does_not_match() -> None:
    rows = [data_row([b"1", None]), data_row([b"", b"\0"])]
    digest = Digest(KEY)
    digest.take(rows[0] + rows[1][:3])
    digest.take(rows[1][3:])
    found = digest.hex()
    assert matches(found, KEY, rows)
    for other in (
        rows[:1],
        rows[::-1],
        [data_row([b"1", b""]), rows[1]],
        [data_row([b"1", None, b""]), rows[1]],
        [copy_data(b"1"), rows[1]],
    ):
        assert not matches(found, KEY, other)
    assert not matches(found, bytes(32), rows)
