"""The state as a file and back: every row, from one moment, on both backends and across; what lived in it is ended."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from proxy.access import backup, steps, tables
from proxy.access.backup import BackupError
from proxy.access.grants import GrantError, Grants
from proxy.access.requests import Requests
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.wishes import GROUPS, HOUR, Told, ask

ANN = "ann@shop.example"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest_asyncio.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Store]:
    """Another state, in a file."""
    opened = await Store.open(f"sqlite:///{tmp_path}/other.db")
    yield opened
    await opened.close()


async def live(store: Store, clock: FakeClock) -> tuple[str, str, str]:
    """A request that waits, a grant that lives and its token."""
    requests = Requests(store, clock, lambda _a, _d: None, GROUPS)
    waiting = await ask(requests, person="other@vendor.example")
    _, grant = await requests.approve(await ask(requests), by=ANN, reason="fine")
    assert grant is not None
    return waiting, grant.id, await Grants(store, clock).rotate(grant.id, by=ANN)


async def rows(store: Store) -> dict[str, list[Any]]:
    async with store.read() as connection:
        return {
            table.name: [tuple(row) for row in await connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in tables.metadata.sorted_tables
        }


async def dumped(store: Store, clock: FakeClock) -> io.BytesIO:
    file = io.BytesIO()
    await backup.dump(store, file, clock.now())
    file.seek(0)
    return file


async def test_every_row_comes_back(store: Store, empty: Store, clock: FakeClock, told: Told) -> None:
    await live(store, clock)
    async with store.write() as connection:
        values = {"id": "a-1", "person_key": ANN, "person": ANN, "agreement": "nda", "sha256": "00", "how": "paper",
                  "signed_as": "Ann", "address": "", "file": b"\x00\xff", "at": clock.now(),
                  "recorded_by": "op"}  # fmt: skip
        await connection.execute(tables.acceptances.insert().values(values))
    before = await rows(store)
    file = await dumped(store, clock)
    restored = await backup.restore(empty, file, clock, told, by="op", keep_live=True)
    after = await rows(empty)
    assert restored.backup.rows == sum(map(len, before.values()))
    assert (restored.ended, restored.lapsed) == ([], [])
    assert told.actions() == ["state.restored"]
    assert after["steps"][:-1] == before["steps"]
    assert {k: v for k, v in after.items() if k != "steps"} == {k: v for k, v in before.items() if k != "steps"}
    assert await empty.identity() == await store.identity(), "it is the same installation"


async def test_into_the_other_kind_of_state(url: str, tmp_path: Path, clock: FakeClock, told: Told) -> None:
    """From a file into whatever `url` is; and the next step has a number of its own."""
    source = await Store.open(f"sqlite:///{tmp_path}/source.db")
    await live(source, clock)
    file = await dumped(source, clock)
    before = await rows(source)
    await source.close()
    target = await Store.open(url)
    await backup.restore(target, file, clock, told, by="op")
    async with target.write() as connection:
        await steps.take(connection, told, clock.now(), "hold.asked", {"by": "x"})
    numbers = [row[0] for row in (await rows(target))["steps"]]
    assert len(set(numbers)) == len(numbers) == len(before["steps"]) + 4  # restored, revoked, lapsed, asked
    await target.close()


async def test_nobody_is_given_back_what_was_taken_since(
    store: Store, empty: Store, clock: FakeClock, told: Told
) -> None:
    waiting, grant, _ = await live(store, clock)
    file = await dumped(store, clock)
    await Grants(store, clock).revoke(grant, reason="theft", by=ANN)
    clock.advance(60)
    restored = await backup.restore(empty, file, clock, told, by="op")
    assert (restored.ended, restored.lapsed) == ([grant], [waiting])
    found = await Grants(empty, clock).get(grant)
    assert (found.state(clock.now()), found.revoked_at) == ("revoked", clock.now())
    assert "restored from a backup of 2026-01-05 09:00:00 UTC" in (found.revoke_reason or "")
    with pytest.raises(GrantError, match=r"lapsed at 2026-01-05 09:01:00 UTC: the state was restored .*; ask again"):
        await Requests(empty, clock, told, GROUPS).approve(waiting, by=ANN, reason="x")
    assert told.actions() == ["state.restored", "revoked", "request.lapsed"]
    assert await Grants(empty, clock).live() == {}


async def test_kept_alive_but_for_what_is_known_to_have_ended(
    store: Store, empty: Store, clock: FakeClock, told: Told
) -> None:
    waiting, grant, _ = await live(store, clock)
    requests = Requests(store, clock, None, GROUPS)
    _, other = await requests.approve(await ask(requests, policy="writer"), by=ANN, reason="fine")
    assert other is not None
    file = await dumped(store, clock)
    restored = await backup.restore(
        empty, file, clock, told, by="op", keep_live=True, ended_since=[grant, "g-00000000"],
        disabled_since=[("BOB@shop.example", "left")],
    )  # fmt: skip
    assert (restored.ended, restored.lapsed) == ([grant], [])
    assert list(await Grants(empty, clock).live()) == [other.id]
    with pytest.raises(GrantError, match="was disabled"):
        await Requests(empty, clock, told, GROUPS).approve(waiting, by="bob@shop.example", reason="x")


async def test_only_into_an_empty_state(store: Store, clock: FakeClock, told: Told) -> None:
    await live(store, clock)
    before = await rows(store)
    with pytest.raises(BackupError, match="the state is not empty"):
        await backup.restore(store, await dumped(store, clock), clock, told, by="op")
    assert (await rows(store), told) == (before, [])


async def test_what_cannot_be_recorded_is_not_restored(store: Store, empty: Store, clock: FakeClock) -> None:
    await live(store, clock)
    before = await rows(empty)

    def full(action: str, detail: dict[str, Any]) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        await backup.restore(empty, await dumped(store, clock), clock, full, by="op")
    assert await rows(empty) == before


async def test_damaged_in_any_way_it_is_refused(tmp_path: Path, empty: Store, clock: FakeClock, told: Told) -> None:
    source = await Store.open(f"sqlite:///{tmp_path}/source.db")
    await live(source, clock)
    whole = (await dumped(source, clock)).getvalue()
    await source.close()
    lines = whole.splitlines(keepends=True)
    version = lines[0].replace(b'"version": "0', b'"version": "9')
    for data, message in (
        (b"", "no backup"),
        (b"hello\n", "no backup"),
        (b"[]\n", "no backup"),
        (b'{"x": 1}\n', "no backup"),
        (whole[:-200], "cut"),
        (b"".join(lines[:-1]), "it has no end"),
        (b"".join(lines[:3] + lines[4:]), "it was changed"),
        (b"".join([lines[0], lines[2], lines[1], *lines[3:]]), "it was changed"),
        (whole.replace(b"the monthly report", b"the monthly deport"), "it was changed"),
        (whole + lines[3], "something follows its end"),
        (b"".join([version, *lines[1:]]), "it was changed"),
    ):
        with pytest.raises(BackupError, match=message):
            await backup.restore(empty, io.BytesIO(data), clock, told, by="op")
    assert told == []


async def test_while_others_write_it_is_one_moment(store: Store, clock: FakeClock) -> None:
    """Each grant comes with its step: never one without the other."""
    grants = Grants(store, clock)
    wish: dict[str, Any] = {
        "person": "p", "vendor": "v", "database": "d", "policy": "x", "policy_revision": "r", "policy_text": "",
        "reason": "test", "length": HOUR, "created_by": "op",
    }  # fmt: skip

    async def write() -> None:
        for _ in range(15):
            await grants.create(**wish)

    async def read() -> list[tuple[int, int]]:
        counts = []
        for _ in range(5):
            found = [json.loads(line).get("table") for line in (await dumped(store, clock)).getvalue().splitlines()]
            counts.append((found.count("grants"), found.count("steps")))
            await asyncio.sleep(0.01)
        return counts

    _, counts = await asyncio.gather(write(), read())
    assert all(grants == steps for grants, steps in counts), counts


async def test_an_older_version_says_what_to_do(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "HEAD", "0003")
    file = await dumped(store, clock)
    monkeypatch.undo()
    with pytest.raises(BackupError, match="restore it with the daypass that made it"):
        backup.check(file)
