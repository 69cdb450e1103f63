"""The time that grants begin and end by: the wall clock, as long as it goes on as time does.

A wall clock that is set by more than a minute is not believed until it agrees again or an operator accepts it; until
then time goes on from where it was. The highest time that was believed is kept in the state, with the monotonic clock's
reading, so that neither a restart nor a machine that starts in the past changes that. Invariant: a step of the wall
clock ends and revives nothing by itself.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import steps, tables
from proxy.access.grants import GrantError, new_id, one_line
from proxy.access.model import clock_time
from proxy.access.store import Emit, Store
from proxy.clock import Clock

STEP: Final = timedelta(seconds=60)
"""A wall clock that is further off than this is not believed."""
_FACT: Final = "clock"
_ZERO: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the state knows of time. `apart`: seconds by which a server finds the wall clock ahead, or (< 0) behind."""

    highest: datetime | None = None
    monotonic: float = 0.0
    boot: str = ""
    apart: float | None = None
    accepted: str = ""
    """The id of the last acceptance."""
    accepted_at: datetime | None = None
    """What the wall clock said then."""

    def encode(self) -> str:
        """As JSON."""
        values = dataclasses.asdict(self)
        return json.dumps({k: v.isoformat() if isinstance(v, datetime) else v for k, v in values.items() if v})

    @classmethod
    def decode(cls, text: str) -> Kept:
        """What `encode` wrote."""
        data: dict[str, Any] = json.loads(text)
        for key in ("highest", "accepted_at"):
            if key in data:
                data[key] = datetime.fromisoformat(data[key])
        return cls(**{key: value for key, value in data.items() if key in cls.__slots__})

    def behind(self, now: datetime) -> bool:
        """Whether the wall clock says what cannot be."""
        return self.highest is not None and now < self.highest - STEP


def boot() -> str:
    """What is another text after each start of the machine: within one, monotonic clocks of processes are one clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class Steady:
    """A Clock whose `now()` does not follow a step of the wall clock."""

    def __init__(self, clock: Clock, kept: Kept | None = None, boot: str = "") -> None:
        self._clock = clock
        self.monotonic = clock.monotonic
        self.microseconds = clock.microseconds
        self.random = clock.random
        kept = kept or Kept()
        wall, monotonic = clock.now(), clock.monotonic()
        self._wall, self._monotonic = wall, monotonic
        self._highest = max(wall, kept.highest or wall)
        self._unknown = False
        """Whether it is only known that it cannot be earlier than the highest time: the machine was off in between."""
        if kept.highest is not None and boot and kept.boot == boot and monotonic >= kept.monotonic:
            self._wall, self._monotonic = kept.highest, kept.monotonic
            self._highest = kept.highest
        elif kept.behind(wall):
            self._wall, self._unknown = self._highest, True
        self._apart = _ZERO
        self._look()

    def now(self) -> datetime:
        """The time that is believed: aware, in UTC."""
        return self._look()

    def wall(self) -> datetime:
        """What the wall clock says, believed or not."""
        return self._clock.now()

    def apart(self) -> float:
        """Seconds by which the wall clock is ahead of the time that is believed; 0 while it is believed itself."""
        self._look()
        return self._apart.total_seconds()

    def accept(self) -> None:
        """The operator says that the wall clock is right."""
        self._highest = self._clock.now()
        self._believe(self._highest, self._clock.monotonic())

    def _look(self) -> datetime:
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        expected = self._wall + timedelta(seconds=monotonic - self._monotonic)
        near = wall >= expected - STEP if self._unknown else abs(wall - expected) <= STEP
        if near and wall >= self._highest - STEP:
            self._believe(wall, monotonic)
            return wall
        self._apart = wall - expected
        return expected

    def _believe(self, wall: datetime, monotonic: float) -> None:
        self._wall, self._monotonic, self._apart, self._unknown = wall, monotonic, _ZERO, False
        self._highest = max(self._highest, wall)


class TimeFacts:
    """What is kept of time in a store."""

    def __init__(self, store: Store, clock: Clock, emit: Emit) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit

    async def read(self) -> Kept:
        """What is kept. Raises StoreError."""
        async with self._store.read() as connection:
            return await _read(connection)

    async def keep(self, now: datetime, monotonic: float, boot: str) -> None:
        """`now` is believed. Where another process has kept a later time, that stays."""
        async with self._store.write() as connection:
            kept = await _read(connection)
            if kept.apart is not None:
                await steps.take(connection, self._emit, now, "clock.agreed", {"by": "daypass", "time": now})
                kept = dataclasses.replace(kept, apart=None)
            if kept.highest is None or kept.highest <= now:
                kept = dataclasses.replace(kept, highest=now, monotonic=monotonic, boot=boot)
            await _write(connection, kept)

    async def alert(self, now: datetime, wall: datetime, apart: float) -> None:
        """The wall clock is not believed: said once, until it agrees or is accepted."""
        async with self._store.write() as connection:
            kept = await _read(connection)
            if kept.apart is None:
                detail = {"by": "daypass", "wall": wall, "expected": now, "seconds": round(apart)}
                await steps.take(connection, self._emit, now, "alert.clock", detail)
                await _write(connection, dataclasses.replace(kept, apart=apart))

    async def accept(self, *, by: str, reason: str) -> tuple[Kept, datetime]:
        """The wall clock as it is now is right, whatever was before. Returns what was kept, and the time."""
        by, reason = one_line("by", by), one_line("reason", reason)
        now = self._clock.now()
        async with self._store.write() as connection:
            kept = await _read(connection)
            detail = {"by": by, "reason": reason, "time": now, "before": kept.highest}
            await steps.take(connection, self._emit, now, "clock.accepted", detail)
            await _write(connection, Kept(highest=now, accepted=new_id("c", self._clock), accepted_at=now))
        return kept, now


async def refuse_wrong_clock(connection: AsyncConnection, now: datetime) -> None:
    """Raises GrantError where the wall clock is behind a time that has been: what is given now would begin and end
    at a wrong time."""
    kept = await _read(connection)
    if kept.behind(now) and kept.highest is not None:
        raise GrantError(
            f"this machine's clock says {clock_time(now)}, and it has been {clock_time(kept.highest)} before: "
            "set the clock, or, if it is right, run `daypass clock accept`"
        )


async def _read(connection: AsyncConnection) -> Kept:
    query = sa.select(tables.facts.c.value).where(tables.facts.c.name == _FACT)
    text = (await connection.execute(query)).scalar()
    return Kept.decode(text) if text is not None else Kept()


async def _write(connection: AsyncConnection, kept: Kept) -> None:
    columns, value = tables.facts.c, kept.encode()
    mine = sa.update(tables.facts).where(columns.name == _FACT)
    if not (await connection.execute(mine.values(value=value))).rowcount:
        await connection.execute(tables.facts.insert().values(name=_FACT, value=value))
