"""Results as the record holds them: rows put together again from their events, and digests held against a given result.

A digest is keyed BLAKE2b over the messages that the client got, byte for byte: DataRow and CopyData with their headers,
in order. Must not know how rows were judged or masked: what is recorded is what was shown. Invariant: `read` gives
every row that the events hold, once, in order; half a row at a torn end is left out.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recorder.events import Column, Event, Outcome, Rows

TEXTUAL = frozenset({"text", "varchar", "bpchar", "name", "json", "unknown", "xml"})
"""Types whose binary format is their text."""
_DATA_ROW, _COPY_DATA = b"D", b"d"


@dataclass(frozen=True, slots=True)
class Row:
    """Row `number` (from 1) of what statement `n` returned: its values, or a piece of COPY data."""

    n: int
    number: int
    columns: tuple[Column, ...] | None
    values: list[Any] | None = None
    copy: Any = None


def read(events: Iterable[Event]) -> Iterator[Row]:
    """The rows in `events`; what is no `rows` event is passed over."""
    columns: dict[int, tuple[Column, ...] | None] = {}
    pieces: dict[int, list[bytes]] = {}
    for event in events:
        if isinstance(event, Outcome):
            columns.pop(event.n, None)
            pieces.pop(event.n, None)
        if not isinstance(event, Rows):
            continue
        n = event.n
        if event.columns is not None:
            columns[n] = event.columns
        known = columns.get(n)
        if event.piece is not None:
            pieces.setdefault(n, []).append(base64.b64decode(event.piece))
            if not event.more:
                yield _joined(n, event.first, known, b"".join(pieces.pop(n)))
        for number, values in enumerate(event.values or (), event.first):
            yield Row(n, number, known, values)
        for number, line in enumerate(event.copy or (), event.first):
            yield Row(n, number, known, copy=line)


def _joined(n: int, number: int, columns: tuple[Column, ...] | None, message: bytes) -> Row:
    if message[:1] == _COPY_DATA:
        return Row(n, number, columns, copy=_text(message[5:]))
    values: list[Any] = []
    pos = 7
    for index in range(int.from_bytes(message[5:7], "big")):
        size = int.from_bytes(message[pos : pos + 4], "big", signed=True)
        pos += 4
        if size < 0:
            values.append(None)
            continue
        raw, pos = message[pos : pos + size], pos + size
        column = columns[index] if columns is not None and index < len(columns) else None
        plain = column is None or column.format == "text" or column.type in TEXTUAL
        values.append(_text(raw) if plain else {"type": column.oid if column else 0, "hex": raw.hex()})
    return Row(n, number, columns, values)


def _text(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"type": 0, "hex": raw.hex()}


class Digest:
    """What `outcome` says of a result under `digest`. `key` is the installation's."""

    __slots__ = ("_hash", "taken")

    def __init__(self, key: bytes) -> None:
        self._hash = hashlib.blake2b(key=key, digest_size=32)
        self.taken = False

    def take(self, shown: bytes) -> None:
        """The next bytes that the client got: whole messages, or parts of one."""
        self._hash.update(shown)
        self.taken = True

    def hex(self) -> str:
        """The digest, hex."""
        return self._hash.hexdigest()


def data_row(values: Sequence[bytes | None]) -> bytes:
    """The DataRow message of these values, each in the format in which it was sent."""
    parts = [len(values).to_bytes(2, "big")]
    for value in values:
        parts.append(b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value)
    return _message(_DATA_ROW, b"".join(parts))


def copy_data(data: bytes) -> bytes:
    """The CopyData message of one line (or other piece) of COPY."""
    return _message(_COPY_DATA, data)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def matches(expected: str, key: bytes, messages: Iterable[bytes]) -> bool:
    """Whether a given result (`data_row` or `copy_data` of each of its rows) is the one whose digest is recorded."""
    found = Digest(key)
    for message in messages:
        found.take(message)
    return hmac.compare_digest(found.hex(), expected)
