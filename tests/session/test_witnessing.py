"""Record and state as witnesses of each other, in a state of either kind: whichever is put back, it is said, once.

Covers proxy/session/witnessing.py, proxy/access/witnesses.py and recorder/witness.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
import structlog.testing
from typer.testing import CliRunner

from proxy.access import tables
from proxy.access.alerts import Alerts
from proxy.access.store import Store
from proxy.access.witnesses import Witnesses
from proxy.cli.main import app
from proxy.clock import FakeClock
from proxy.session.witnessing import Witnessing
from recorder import treelog, witness
from recorder.heads import Given
from recorder.pack import Form
from recorder.upkeep import Upkeep
from recorder.verify import verify
from tests.recorder.support import Ticker, sealed
from tests.support.postgres import Servers, bindirs, fresh_database


class House:
    """A recordings folder, a state, and a server's rounds in them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.counted: list[str] = []

    async def serve(self, session: str | None = None) -> list[dict[str, Any]]:
        """Start, record, and end; what was logged."""
        if session is not None:
            sealed(self.folder, session)
        place = treelog.maker(self.folder)
        assert place is not None
        alerts = Alerts(self.store, FakeClock(), lambda action, detail: self.told.append((action, detail)))
        witnessing = Witnessing(Witnesses(self.store), alerts, self.folder, place, self.counted.append)
        upkeep = Upkeep(self.folder, form=Form(), retain=None, now=Ticker())
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                await witnessing(upkeep.round().checkpoint)
        return [dict(line) for line in logs]

    async def kept(self) -> bytes | None:
        return await Witnesses(self.store).last(str(treelog.maker(self.folder)))

    def kinds(self, kept: bytes | None) -> list[str]:
        assert kept is not None
        report = verify(self.folder, checkpoints=[Given("the state", kept)])
        return [found.kind for one in report.recordings for found in one.findings]


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    yield House(tmp_path / "r", store)
    await store.close()


async def test_each_knows_how_far_the_other_is(house: House) -> None:
    assert await house.serve("s-1") == []
    assert await house.serve("s-2") == []
    kept = await house.kept()
    assert kept == (house.folder / "checkpoint").read_bytes()
    assert witness.confirmed(house.folder) == verify(house.folder).log.lines
    assert house.kinds(kept) == []
    assert house.told == []


async def test_a_record_that_was_put_back(house: House, tmp_path: Path) -> None:
    await house.serve("s-1")
    shutil.copytree(house.folder, tmp_path / "old")
    await house.serve("s-2")
    kept = await house.kept()
    shutil.rmtree(house.folder)
    shutil.copytree(tmp_path / "old", house.folder)
    assert verify(house.folder).ok, "by itself it tells nothing"
    assert house.kinds(kept) == ["rolled-back"]
    for number in range(3):
        (line,) = await house.serve(f"t-{number}")
        assert line["event"] == "record_put_back"
    assert [action for action, _ in house.told] == ["alert.record"]
    assert house.counted == ["record"]
    assert await house.kept() == kept, "what it has seen stays, so that verify goes on saying so"
    assert house.kinds(kept) == ["rewritten"]


async def test_a_state_that_was_put_back(house: House) -> None:
    await house.serve("s-1")
    old = await house.kept()
    assert old is not None
    await house.serve("s-2")
    await Witnesses(house.store).keep(str(treelog.maker(house.folder)), old)
    first = await house.serve("s-3")
    assert [line["event"] for line in first] == ["state_put_back"]
    assert await house.serve("s-4") == []
    ((action, detail),) = house.told
    assert (action, detail["lines"] > detail["knows"]) == ("alert.state", True)
    assert await house.kept() == (house.folder / "checkpoint").read_bytes()


async def test_a_state_that_was_made_anew(house: House) -> None:
    await house.serve("s-1")
    async with house.store.write() as connection:
        await connection.execute(sa.delete(tables.facts))
    (line,) = await house.serve("s-2")
    assert line["event"] == "state_put_back"
    assert "knows 0" in line["reason"]


async def test_what_cannot_be_kept_is_kept_by_the_next_round(house: House, tmp_path: Path) -> None:
    sealed(house.folder, "s-1")
    alerts = Alerts(house.store, FakeClock(), lambda _a, _d: None)
    witnessing = Witnessing(Witnesses(house.store), alerts, house.folder, str(treelog.maker(house.folder)))
    note = Upkeep(house.folder, form=Form(), retain=None, now=Ticker()).round().checkpoint
    async with house.store.write() as connection:
        await connection.execute(sa.text("alter table facts rename to gone"))
    with structlog.testing.capture_logs() as logs:
        await witnessing(note)
    assert [line["event"] for line in logs] == ["witness_failed"]
    async with house.store.write() as connection:
        await connection.execute(sa.text("alter table gone rename to facts"))
    await witnessing(None)
    assert await house.kept() == note


def test_verify_asks_a_state_in_postgres(tmp_path: Path, pg_servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    pg = pg_servers.get(bindirs()[0])
    monkeypatch.setenv("PGPASSWORD", pg.password)
    url = f"postgresql://{pg.user}@{pg.host}:{pg.port}/{fresh_database(pg)}"
    credential = "credential: {mode: shared, user: u}"
    config = tmp_path / "config.yaml"
    config.write_text(
        f"listen: {{tls: {{mode: disable}}}}\nstate: {url}\nrecording: {{dir: r}}\n"
        f"databases: {{app: {{host: 127.0.0.1, tls: disable, {credential}}}}}\n"
    )

    async def live() -> None:
        store = await Store.open(url)
        house = House(tmp_path / "r", store)
        await house.serve("s-1")
        shutil.copytree(house.folder, tmp_path / "old")
        await house.serve("s-2")
        await store.close()

    asyncio.run(live())
    words = ["-c", str(config), "recording", "verify", "-o", "json"]
    answer = CliRunner().invoke(app, words)
    assert (answer.exit_code, json.loads(answer.stdout)["log"]["given"]) == (0, 1), answer.output
    shutil.rmtree(tmp_path / "r")
    shutil.copytree(tmp_path / "old", tmp_path / "r")
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 1
    assert '"rolled-back"' in answer.stdout
    config.write_text(config.read_text().replace(f":{pg.port}/", ":1/"))
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0
    assert "the checkpoint that the state keeps was not compared" in answer.stderr
