"""What the client was shown of results, for the record: a digest of each, and its first rows or all of them.

Gets every byte of a result on its way out: after substitution, after masks, and only up to where a limit cut it. Knows
nothing of SQL. Invariants: what is recorded is what was passed on; what is kept here does not grow with a result: rows
become events piece by piece, and a row that is too long to hold is recorded in parts.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from proxy.policy.judge import Judges
from proxy.session.keeping import DIGEST, FULL, SAMPLE, Keeping
from proxy.session.names import Portal, Prepared
from proxy.wire import params, upstream
from proxy.wire.framing import COPY_DATA, DATA_ROW, HEADER, uint32
from proxy.wire.types import BUILT_IN, Types, with_own
from recorder import events
from recorder.results import Digest

if TYPE_CHECKING:
    from proxy.session.talk import Record

PENDING: Final = 256 << 10
"""Bytes of rows after which the recording is written: what waits in memory stays bounded."""
BEHIND: Final = 8 << 20
"""Bytes that may be on their way to a disk that is slower than the server; then the session waits for it."""
MOST_CATALOGS: Final = 64
NEVER: Final = 1 << 62


_types: dict[str, Types] = {}
"""Those of the last databases, by the revision of their catalog: sessions share them."""


def types_of(judge: Judges) -> Types:
    """What is known of the types of a judge's database."""
    if not judge.parts:
        return BUILT_IN
    catalog = judge.parts[0].catalog
    found = _types.get(catalog.revision)
    if found is None:
        while len(_types) >= MOST_CATALOGS:
            del _types[next(iter(_types))]
        found = _types[catalog.revision] = with_own(catalog.type_names_by_oid, catalog.enum_oids)
    return found


class Shown:
    """The results of one session, one after the other. `record` takes an event, `flush` writes what it took."""

    __slots__ = (
        "_binary", "_columns", "_described", "_digest", "_key", "_level", "_most", "_n", "_pending", "_record",
        "_types", "_unsafe", "runs",
    )  # fmt: skip

    def __init__(self, keeping: Keeping, record: Record, types: Types) -> None:
        self._record = record
        self._types = types
        self._key = keeping.key
        self._level = keeping.level
        self._most = 0 if keeping.level < SAMPLE else keeping.sample if keeping.level < FULL else NEVER
        self._n = 0
        """The statement whose result is on its way."""
        self._digest: Digest | None = None
        self._described: list[upstream.Field] | None = None
        """The columns of the next result in the simple protocol."""
        self._columns: list[upstream.Field] | None = None
        """Those of the result on its way."""
        self._binary: tuple[int, ...] | None = None
        self._pending = self._unsafe = 0
        """Bytes of rows that wait to be written, and that are written and not on the disk where they have to be."""
        self.runs: dict[int, Portal] = {}
        """What statements that run through the extended protocol run."""

    @property
    def rows(self) -> bool:
        """Whether rows themselves are recorded, so that it matters what their columns are."""
        return self._most > 0

    def described(self, body: bytes, prepared: Prepared | None) -> None:
        """A RowDescription: of the result that follows, or of a prepared statement's."""
        if self._most:
            found = upstream.row_description(body)
            if prepared is None:
                self._described = found
            else:
                prepared.columns = found

    def take(self, n: int, first: int, data: bytes, pos: int, stop: int) -> None:
        """Whole rows of statement `n` go out, the first of which is number `first`. Raises RecordError."""
        begins = n != self._n and self._begin(n)
        if self._digest is not None:
            self._digest.take(memoryview(data)[pos:stop])
        if first > self._most:
            return
        values: list[list[Any]] = []
        lines: list[Any] = []
        left = self._most - first + 1
        start = pos
        while pos < stop and left:
            end = pos + 1 + uint32(data, pos + 1)
            if data[pos] == COPY_DATA:
                lines.append(params.decode(data[pos + HEADER : end], 0, 0, self._types, NEVER))
            elif data[pos] == DATA_ROW:
                values.append(self._values(data[pos + HEADER : end]))
            else:  # what a function returned
                values.append([{"type": 0, "hex": data[pos + HEADER : end].hex()}])
            pos = end
            left -= 1
        self._append(
            events.Rows(
                n=n,
                first=first,
                columns=self._named() if begins else None,
                values=values or None,
                copy=lines or None,
            ),
            pos - start,
        )

    def part(self, n: int, first: int, data: bytes, *, more: bool) -> None:
        """A part of a row that is too long to hold goes out. Raises RecordError."""
        begins = n != self._n and self._begin(n)
        if self._digest is not None:
            self._digest.take(data)
        if first <= self._most:
            named = self._named() if begins else None
            piece = base64.b64encode(data).decode()
            self._append(events.Rows(n=n, first=first, columns=named, piece=piece, more=more), len(data))

    def ended(self, n: int) -> str | None:
        """Statement `n` has ended: the digest of its result, if it had one."""
        self._described = None
        if self.runs:
            self.runs.pop(n, None)
        if n != self._n:
            return None
        self._n = 0
        self._columns = self._binary = None
        digest, self._digest = self._digest, None
        return digest.hex() if digest is not None else None

    def _begin(self, n: int) -> bool:
        self._n = n
        self._digest = Digest(self._key) if self._level >= DIGEST else None
        portal = self.runs.get(n)
        if portal is None:
            self._columns, self._binary = self._described, None
        else:
            self._columns, self._binary = portal.prepared.columns, portal.formats
        return True

    def _named(self) -> tuple[events.Column, ...] | None:
        """The columns of the result that begins, for the record."""
        found = self._columns
        if found is None:
            return None
        names = self._types.names
        return tuple(
            events.Column(
                name=column.name,
                type=names.get(column.oid, ""),
                oid=0 if column.oid in names else column.oid,
                format="binary" if self._format(index) else "text",
            )
            for index, column in enumerate(found)
        )

    def _format(self, index: int) -> int:
        """The format of a column: what the Bind asked for; without one what the server said."""
        asked = self._binary
        if asked is not None:
            return 0 if not asked else asked[0] if len(asked) == 1 else asked[index] if index < len(asked) else 0
        columns = self._columns
        return columns[index].format if columns is not None and index < len(columns) else 0

    def _values(self, body: bytes) -> list[Any]:
        """The values of a DataRow; what is not one is shown as it came."""
        found: list[Any] = []
        columns = self._columns
        pos, end = 2, len(body)
        while pos + 4 <= end:
            size = uint32(body, pos)
            pos += 4
            if size > 0x7FFFFFFF:
                found.append(None)
                continue
            index = len(found)
            oid = columns[index].oid if columns is not None and index < len(columns) else 0
            found.append(params.decode(body[pos : pos + size], self._format(index), oid, self._types, NEVER))
            pos += size
        if pos != end or len(found) != int.from_bytes(body[:2], "big"):
            return [{"type": 0, "hex": body.hex()}]
        return found

    def _append(self, event: events.Rows, size: int) -> None:
        self._record.append(event)
        self._pending += size
        if self._pending <= PENDING:
            return
        size, self._pending = self._pending, 0
        if self._unsafe > BEHIND:
            self._record.flush()
            return

        def safe() -> None:
            self._unsafe -= size

        if not self._record.commit(safe):
            self._unsafe += size
