"""What the processes of one installation share while they serve: a grant's seats and budgets, and who leads.

For each grant that has sessions there is a small file: what the grant had used before, its rate, and a row for each
process, which only that process writes. A process has its row as long as it holds the file of its place (`flock`), so
what a dead one sat on is free at once, and an old process that drains counts beside a new one. Knows no sockets and no
SQL. Invariants: seats are counted and taken under one lock, so a limit holds exactly; what is passed to a client under
a limit of the grant stands in the file before the next process looks.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy.session.budget import Spent, refilled
from recorder import files
from recorder.files import RecordError

HEAD: Final = struct.Struct("<qqdd")
"""Rows and bytes used before the file was made; statements that may run at once, and when that was so."""
ROW: Final = struct.Struct("<qqq")
"""Of one process: sessions, rows, bytes."""
WHOLE: Final = 1 << 16
"""More than a grant's file ever has: rows for 2,700 processes."""


class Commons:
    """One process's part in it. `place` is its number, the smallest that no living process has. RecordError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tabs: dict[str, Tab] = {}
        self._lead = -1
        self._resigned = False
        try:
            files.make_folder(folder)
            self._guard = _open(folder / "guard")
            with self.alone():
                self.place, self._held = self._sit_down()
                for path in folder.glob("*.tab"):
                    _leave_empty(path, self.place)
        except OSError as cause:
            raise files.record_error("use", folder, cause) from cause

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile. RecordError where another process keeps it for seconds."""
        with files.locked(self._guard, self.folder / "guard"):
            yield

    def _sit_down(self) -> tuple[int, int]:
        for number in itertools.count():
            fd = _open(self._place(number))
            if files.hold(fd, patience=0):
                return number, fd
            os.close(fd)
        raise AssertionError("counting ends nowhere")

    def _place(self, number: int) -> Path:
        return self.folder / f"place.{number}"

    def lives(self, number: int) -> bool:
        """Whether a process has this place. Only while `alone`: looking holds the file for an instant."""
        return number == self.place or files.held(self._place(number))

    def leads(self) -> bool:
        """Whether this is the one process that does what only one should do. Another one does when it is gone."""
        if self._lead < 0 and not self._resigned:
            fd = _open(self.folder / "lead")
            if not files.hold(fd, patience=0):
                os.close(fd)
                return False
            self._lead = fd
        return self._lead >= 0

    def resign(self) -> None:
        """Let another process lead, from now on."""
        self._resigned = True
        if self._lead >= 0:
            os.close(self._lead)
        self._lead = -1

    # Grants

    def take_seat(self, grant: str, limit: int | None) -> int:
        """Take a seat for the grant; 0, or how many are taken when none is free. RecordError."""
        with self.alone():
            tab = self._tab(grant)
            taken = tab.taken()
            if limit is not None and taken >= limit:
                return taken
            tab.seats += 1
            tab.write()
        return 0

    def leave_seat(self, grant: str) -> None:
        """Give a seat back."""
        tab = self._tabs[grant]
        tab.seats -= 1
        with contextlib.suppress(RecordError):  # `unsaved` writes it again
            tab.write()

    def seats(self, grant: str) -> int:
        """How many seats of the grant living processes of this host have. RecordError."""
        with self.alone():
            if not (self.folder / f"{grant}.tab").exists():
                return 0
            known = grant in self._tabs
            tab = self._tab(grant)
            try:
                return tab.taken()
            finally:
                if not known:
                    self._tabs.pop(grant).close()

    def sat(self) -> list[str]:
        """The grants that have a seat in any living process of this host. RecordError."""
        return [path.stem for path in self.folder.glob("*.tab") if self.seats(path.stem)]

    def spent(self, grant: str, rows: int, octets: int) -> Spent:
        """What a grant has used, by all its sessions; `rows` and `octets` are what the state says. RecordError."""
        with self.alone():
            tab = self._tab(grant)
            tab.learn(rows, octets)
        return tab.spent

    def unsaved(self) -> dict[str, Spent]:
        """What grants have used here and the state does not know yet. Forgets those that have no session any more."""
        found = {}
        for grant, tab in list(self._tabs.items()):
            with contextlib.suppress(RecordError):
                tab.spent.publish()
                tab.write()
                if tab.spent.new_rows or tab.spent.new_octets:
                    found[grant] = tab.spent
                elif not tab.seats:
                    with self.alone():
                        self._tabs.pop(grant).close()
        return found

    def _tab(self, grant: str) -> Tab:
        if grant not in self._tabs:
            path = self.folder / f"{grant}.tab"
            try:
                self._tabs[grant] = Tab(self, path)
            except OSError as cause:
                raise files.record_error("open", path, cause) from cause
        return self._tabs[grant]

    def close(self) -> None:
        """Leave. Never raises."""
        self.resign()
        for tab in self._tabs.values():
            with contextlib.suppress(RecordError), self.alone():
                tab.close()
        self._tabs.clear()
        os.close(self._held)
        os.close(self._guard)


class Tab:
    """One grant's file, as one process has it open: the `ground` of its `spent`. `seats` are those of this process."""

    def __init__(self, commons: Commons, path: Path) -> None:
        self._commons = commons
        self._path = path
        self._offset = HEAD.size + commons.place * ROW.size
        self._fd = _open(path)
        fcntl.flock(self._fd, fcntl.LOCK_SH)  # nobody who closes it takes it away from us
        rows = list(_table(self._read()))
        self.seats, self._rows, self._octets = rows[commons.place] if commons.place < len(rows) else (0, 0, 0)
        self._written: tuple[int, int, int] | None = None
        self.spent = Spent(ground=self)

    def used(self) -> tuple[int, int]:
        """Rows and bytes that all processes have put here. RecordError."""
        data = self._read()
        rows, octets, _, _ = _head(data)
        for row in _table(data):
            rows += row[1]
            octets += row[2]
        return rows, octets

    def put(self, rows: int, octets: int) -> None:
        """These go to clients of this process. RecordError."""
        self._rows += rows
        self._octets += octets
        try:
            self.write()
        except RecordError:  # whoever put it still has it
            self._rows -= rows
            self._octets -= octets
            raise

    def wait(self, per_minute: int, now: float) -> float:
        """As `Spent.wait`, for the statements of all processes. RecordError."""
        with self._commons.alone():
            rows, octets, tokens, filled = _head(self._read())
            tokens, wait = refilled(tokens if filled else -1.0, filled, per_minute, now)
            self._write(HEAD.pack(rows, octets, tokens, now), 0)
        return wait

    def write(self) -> None:
        """This process's row, where it is not what was written last. RecordError."""
        mine = (self.seats, self._rows, self._octets)
        if mine != self._written:
            self._write(ROW.pack(*mine), self._offset)
            self._written = mine

    def taken(self) -> int:
        """The seats that living processes have. Only while `alone`."""
        found = 0
        for place, (seats, rows, octets) in enumerate(_table(self._read())):
            if seats and self._commons.lives(place):
                found += seats
            elif seats:
                self._write(ROW.pack(0, rows, octets), HEAD.size + place * ROW.size)
        return found

    def learn(self, rows: int, octets: int) -> None:
        """What the state says: more than is known here, where another host of the installation has served. Only while
        `alone`."""
        before_rows, before_octets, tokens, filled = _head(self._read())
        more = max(0, rows - self.spent.rows), max(0, octets - self.spent.octets)
        if any(more):
            self._write(HEAD.pack(before_rows + more[0], before_octets + more[1], tokens, filled), 0)

    def close(self) -> None:
        """Let the file go, and remove it where nobody else has it open. Only while `alone`."""
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path.unlink()
        os.close(self._fd)

    def _read(self) -> bytes:
        try:
            return os.pread(self._fd, WHOLE, 0)
        except OSError as cause:
            raise files.record_error("read", self._path, cause) from cause

    def _write(self, data: bytes, offset: int) -> None:
        try:
            os.pwrite(self._fd, data, offset)
        except OSError as cause:
            raise files.record_error("write", self._path, cause) from cause


def _head(data: bytes) -> tuple[int, int, float, float]:
    if len(data) < HEAD.size:
        return 0, 0, 0.0, 0.0
    found: tuple[int, int, float, float] = HEAD.unpack_from(data)
    return found


def _table(data: bytes) -> Iterator[tuple[int, int, int]]:
    return ROW.iter_unpack(data[HEAD.size : len(data) - (len(data) - HEAD.size) % ROW.size])


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _leave_empty(path: Path, place: int) -> None:
    """Nobody sits at this place any more: its holder died."""
    offset = HEAD.size + place * ROW.size
    fd = os.open(path, os.O_RDWR)
    try:
        if len(row := os.pread(fd, ROW.size, offset)) == ROW.size:
            _, rows, octets = ROW.unpack(row)
            os.pwrite(fd, ROW.pack(0, rows, octets), offset)
    finally:
        os.close(fd)
