"""A whole life of a grant, driven from whatever state it is found in, and a bomb that ends it between any two steps.

    python -m tests.access.life URL RECORDINGS CLOCK N

drives it in a process of its own and dies, as if killed, at the Nth boundary (0: not at all).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import tables
from proxy.access.alerts import Alerts
from proxy.access.grants import Grants
from proxy.access.model import Grant
from proxy.access.removals import PROOFS, Finding, Removals
from proxy.access.requests import Requests
from proxy.access.reviews import Reviews
from proxy.access.stages import Stages
from proxy.access.store import Emit, Store
from proxy.clock import Clock, FakeClock
from proxy.config import Config, load
from proxy.session.removal import Removal
from proxy.session.steward import Steward
from proxy.session.telling import teller
from tests.access.wishes import GROUPS, wish

ANN, BOB = "ann@shop.example", "bob@shop.example"
CONFIG = """listen: {tls: {mode: disable}}
databases: {app: {host: 127.0.0.1, tls: disable, credential: {mode: shared, user: u}}}
"""
LIFE = [
    "request.created", "request.voice", "request.voice", "request.approved", "created", "token", "active", "paused",
    "active", "ended", *(f"removal.{proof}" for proof in PROOFS), "removed", "review.signed", "reviewed",
]  # fmt: skip


class Bomb:
    """Counts the boundaries between steps, and at one of them does what ends a process."""

    def __init__(self, at: int, explode: Callable[[], None]) -> None:
        self.at, self.count, self._explode = at, 0, explode

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            self._explode()

    def around(self, emit: Emit) -> Emit:
        """`emit`, with a boundary before the record and one between record and commit."""

        def told(action: str, detail: dict[str, Any]) -> None:
            self.tick()
            emit(action, detail)
            self.tick()

        return told


class MortalStore(Store):
    """A store with a boundary after each commit."""

    bomb: Bomb | None = None

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with super().write() as connection:
            yield connection
        if self.bomb is not None:
            self.bomb.tick()


class Gone:
    """Looks that find nothing left."""

    async def look(self, _grant: Grant, wanted: tuple[str, ...]) -> Mapping[str, Finding]:
        return {proof: Finding(True, "gone") for proof in wanted}


async def live_on(store: Store, clock: Clock, emit: Emit, config: Config, until: Callable[[datetime], None]) -> None:
    """Does what is still to be done, as people and the steward would: each looks first, and goes on from there.

    `until` lets time pass to a moment.
    """
    requests, grants = Requests(store, clock, emit, GROUPS), Grants(store, clock, emit)
    stages, steward = Stages(store, clock, emit), Steward(config, store, clock, emit)
    if not await requests.all():
        asked = wish(approvals=2, approvers=("owners",), starts_at=clock.now() + timedelta(hours=1))
        await requests.create(asked, by="sam@shop.example", lapse=timedelta(days=1))
    (request,) = await requests.all()
    spoken = {voice.by for voice in await requests.voices(request.id)}
    for by in (ANN, BOB):
        if by not in spoken:
            await requests.approve(request.id, by=by, reason="fine")
    (grant,) = await grants.list()
    if grant.stage == "waiting" and not await _has_token(store, grant):
        await grants.rotate(grant.id, by=ANN)
    until(grant.starts_at)
    await steward.round()
    if await _taken(store) == LIFE[:7]:
        (grant,) = await grants.list()
        await stages.move(grant, "paused")
    await steward.round()
    until(grant.expires_at)
    for _ in range(3):
        await steward.round()
    (grant,) = await grants.list()
    if grant.stage == "ended":
        removals, alerts = Removals(store, clock, emit), Alerts(store, clock, emit)
        await Removal(stages, removals, alerts, Gone(), clock).round()
    (grant,) = await grants.list()
    if grant.stage == "removed":
        await Reviews(store, clock, emit, GROUPS).sign(grant.id, by=ANN, verdict="fine", note="fine", summary={})


async def _has_token(store: Store, grant: Grant) -> bool:
    query = sa.select(tables.grants.c.verifier).where(tables.grants.c.id == grant.id)
    async with store.read() as connection:
        return bool((await connection.execute(query)).scalar())


async def _taken(store: Store) -> list[str]:
    async with store.read() as connection:
        return list((await connection.execute(sa.select(tables.steps.c.action).order_by(tables.steps.c.id))).scalars())


async def end_state(store: Store) -> dict[str, object]:
    """What is left of a life, without what is another each time: ids, tokens, the moment of a step."""
    async with store.read() as connection:
        grants = (await connection.execute(sa.select(tables.grants))).mappings().all()
        requests = (await connection.execute(sa.select(tables.requests))).mappings().all()
        voices = (await connection.execute(sa.select(tables.approvals.c.by).order_by(tables.approvals.c.by))).scalars()
        state: dict[str, object] = {
            "grants": [(g["person"], g["stage"], g["ended_why"], g["ended_at"] == g["expires_at"]) for g in grants],
            "of": [g["request"] == r["id"] for g, r in zip(grants, requests, strict=True)],
            "requests": [(r["person"], r["state"], r["decided_by"]) for r in requests],
            "voices": list(voices),
            "tokens": [bool(g["verifier"]) for g in grants],
        }
    return state | {"steps": await _taken(store)}


class SharedClock(FakeClock):
    """A clock that a file remembers from process to process; its randomness never repeats."""

    def __init__(self, file: Path) -> None:
        super().__init__(datetime.fromisoformat(file.read_text()))
        self._file = file

    __slots__ = ("_file",)

    def random(self, n: int) -> bytes:
        return secrets.token_bytes(n)

    def until(self, moment: datetime) -> None:
        if (left := (moment - self.now()).total_seconds()) > 0:
            self.advance(left)
            self._file.write_text(self.now().isoformat())


async def main(url: str, recordings: Path, clock_file: Path, at: int) -> None:
    clock = SharedClock(clock_file)
    bomb = Bomb(at, lambda: os._exit(9))
    store = await MortalStore.open(url)
    store.bomb = bomb
    try:
        emit = bomb.around(teller(recordings, clock.now))
        await live_on(store, clock, emit, load(clock_file.with_name("config.yaml")), clock.until)
    finally:
        await store.close()
    sys.stdout.write(f"{bomb.count}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
