"""Prechecks of grants that are about to start, looked at in the background, on a clock that a test moves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.access.findings import Findings
from proxy.access.grants import Grants
from proxy.access.model import Grant, Terms
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.config import Config, load
from proxy.session.checking import AHEAD, RETRY, environment, findings
from proxy.session.steward import Steward

HOUR = timedelta(hours=1)


class House:
    """A steward whose one precheck is a program that a test makes hold."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.config = configuration(folder)
        self.grants = Grants(store, self.clock, self.emit)
        self.steward = Steward(self.config, store, self.clock, self.emit)
        self.findings = Findings(store, self.clock, self.emit)

    def emit(self, action: str, detail: dict[str, Any]) -> None:
        self.told.append((action, detail))

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.told]

    def looks(self) -> int:
        path = self.folder / "looks"
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def grant(self, *, starts_in: float = 0, prechecks: tuple[str, ...] = ("freeze",)) -> Grant:
        grant, _ = await self.grants.create(
            person="jo", vendor="Acme", database="app", policy="reader", policy_revision="ab", policy_text="name: r",
            reason="ticket", length=4 * HOUR, created_by="sam", terms=Terms(prechecks=prechecks),
            starts_at=self.clock.now() + timedelta(seconds=starts_in),
        )  # fmt: skip
        return grant

    async def rounds(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.steward.round()
            await self.steward._checking.idle()
            self.clock.advance(1)


def configuration(folder: Path) -> Config:
    tool = folder / "tool"
    tool.write_text(f"#!/bin/sh\necho x >> {folder}/looks\ntest -e {folder}/fine && echo 1 || exit 1\n")
    tool.chmod(0o755)
    file = folder / "config.yaml"
    database = {"host": "127.0.0.1", "port": 1, "tls": "disable",
                "credential": {"mode": "shared", "user": "x", "password_env": "APP_PASSWORD"}}  # fmt: skip
    tls = {"mode": "disable"}
    prechecks = {"freeze": {"kind": "command", "command": [str(tool)]}, "calm": {"kind": "sql", "sql": "select true"}}
    notify = {"chat": {"webhook": "https://chat.internal/hook", "secret_env": "CHAT_SECRET"}}
    data = {"listen": {"tls": tls}, "databases": {"app": database}, "prechecks": prechecks, "notify": notify}
    file.write_text(json.dumps(data))
    return load(file)


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    made = House(store, tmp_path)
    yield made
    await made.steward.close()
    await store.close()


@pytest.mark.thorough
async def test_a_grant_waits_is_looked_at_every_minute_and_starts_when_it_holds(house: House) -> None:
    grant = await house.grant()
    await house.rounds(150)
    assert house.looks() == 3
    assert house.actions == ["created", "precheck.failed"]
    assert (await house.grants.get(grant.id)).state(house.clock.now()) == "waiting"
    assert await house.grants.failing(grant.id) == "freeze: tool ended with exit code 1"
    (house.folder / "fine").touch()
    await house.rounds(40)
    assert house.looks() == 4
    assert house.actions == ["created", "precheck.failed", "precheck.passed", "active"]
    checked = await house.grants.get(grant.id)
    assert checked.state(house.clock.now()) == checked.stage == "active"
    await house.rounds(130)
    assert house.looks() == 4, "a grant that has started is not looked at any more"


async def test_a_grant_that_starts_later_is_looked_at_just_before(house: House) -> None:
    (house.folder / "fine").touch()
    grant = await house.grant(starts_in=100)
    await house.rounds(100 - int(AHEAD.total_seconds()))
    assert house.looks() == 0
    await house.rounds(1)
    assert house.looks() == 1
    assert (await house.grants.get(grant.id)).state(house.clock.now()) == "waiting"
    await house.rounds(30)
    assert house.actions == ["created", "precheck.passed", "active"]
    assert (await house.grants.get(grant.id)).state(house.clock.now()) == "active"


async def test_a_restart_looks_again_at_once_and_a_revoked_grant_is_left_alone(house: House, tmp_path: Path) -> None:
    grant = await house.grant()
    await house.rounds(2)
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    try:
        house.steward = Steward(house.config, store, house.clock, house.emit)
        await house.rounds(2)
        assert house.looks() == 2
        assert house.actions.count("precheck.failed") == 1
        await house.grants.revoke(grant.id, reason="no", by="anna")
        await house.rounds(int(RETRY) + 5)
        assert house.looks() == 2
    finally:
        await house.steward.close()
        await store.close()


async def test_a_database_that_is_down_and_a_check_that_is_unknown_do_not_hold(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PASSWORD", "")
    grant = await house.grant(prechecks=("calm", "gone"))
    await house.rounds(2)
    why = await house.grants.failing(grant.id)
    assert why == "calm: the database cannot be asked; gone: config.yaml has no prechecks.gone"
    kept = await house.findings.of(grant.id)
    assert "127.0.0.1" in kept[0].why, "where it is, is for the owner"


async def test_programs_get_no_secret_of_the_configuration(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PASSWORD", "app-secret")
    monkeypatch.setenv("CHAT_SECRET", "chat-secret")
    monkeypatch.setenv("WALG_S3_PREFIX", "s3://backups")
    given = environment(house.config)
    assert given["WALG_S3_PREFIX"] == "s3://backups"
    assert not {"APP_PASSWORD", "CHAT_SECRET"} & set(given)
    tool = house.folder / "tool"
    tool.write_text('#!/bin/sh\nprintf \'{"n": "%s"}\' "$(env | grep -c -- =app-secret)"\n')
    (found,) = await findings(house.config, "app", ["freeze"], house.clock)
    assert found.evidence == {"printed": {"n": "0"}}


async def test_a_database_that_is_gone_from_the_configuration(house: House) -> None:
    (found,) = await findings(house.config, "hr", ["calm"], house.clock)
    assert found.why == "the database cannot be asked: config.yaml has no database hr"
