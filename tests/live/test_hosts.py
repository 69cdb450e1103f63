"""Two hosts, one state in Postgres: one of them leads, and when it is killed the other one does, within seconds.

Covers proxy/access/lead.py and proxy/server/notify.py in the whole server.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from proxy.access.grants import Grants
from proxy.access.model import Grant
from proxy.access.store import Store
from proxy.clock import SystemClock
from proxy.demo.postgres import PostgresServer
from proxy.policy.load import parse
from tests.live.house import House, until
from tests.server.sinks import Hook
from tests.support.postgres import fresh_database

SECONDS = 15.0


def on(url: str, seconds: float) -> Grant:
    """A grant in the shared state, for so long."""
    return minted(url, seconds, "name: reader\ndatabases: [shop]\ntables: {app.orders: {}}\n")[0]


def minted(url: str, seconds: float, text: str) -> tuple[Grant, str]:
    """The same with its token, under this policy."""

    async def make() -> tuple[Grant, str]:
        store = await Store.open(url)
        try:
            return await Grants(store, SystemClock()).create(
                person="jo@vendor.example", vendor="Acme", database="shop", policy="reader",
                policy_revision=parse(text, "test").revision,
                policy_text=text, reason="r", length=timedelta(seconds=seconds), created_by="op",
            )  # fmt: skip
        finally:
            await store.close()

    return asyncio.run(make())


def wait_for(hook: Hook, action: str, grant: str) -> float:
    """Seconds until `action` of `grant` was told."""
    began = time.monotonic()
    for _ in until(SECONDS):
        if any(got.data["action"] == action and got.data["detail"].get("grant") == grant for got in hook.got):
            return time.monotonic() - began
    raise AssertionError(f"no {action} of {grant} in {[got.data['text'] for got in hook.got]}")


def leader(*houses: House) -> House:
    for _ in until(SECONDS):
        found = [
            house
            for house in houses
            if [line["event"] for line in house.log() if line.get("event") in {"leads", "lost_the_lead"}][-1:]
            == ["leads"]
        ]
        if found:
            (one,) = found
            return one
    raise AssertionError("nobody leads")


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGSTOP, marks=pytest.mark.slow),
    ],
)
def test_the_other_leads_when_one_is_gone(
    make_house: Callable[..., House], pg: PostgresServer, tmp_path: Path, how: signal.Signals
) -> None:
    url = f"postgresql://{pg.user}:{pg.password}@{pg.host}:{pg.port}/{fresh_database(pg)}"
    with Hook() as hook:
        settings = {"state": url, "notify": {"hook": {"webhook": hook.url}}}
        houses = [make_house(**settings).start() for _ in range(2)]
        first = leader(*houses)
        first.wait_log("leads")
        (other,) = [house for house in houses if house is not first]
        time.sleep(1.2)  # the sink has been seen, from now on it hears
        grant = on(url, 2.0)
        wait_for(hook, "grant.created", grant.id)
        wait_for(hook, "grant.ended", grant.id)
        grant = on(url, 0.5)
        assert first.process is not None
        first.process.send_signal(how)
        began = time.monotonic()
        try:
            wait_for(hook, "grant.ended", grant.id)
        finally:
            if how == signal.SIGSTOP:
                first.process.send_signal(signal.SIGCONT)
        took = time.monotonic() - began
        assert took < (14 if how == signal.SIGSTOP else 5), f"{took:.1f} s"
        assert leader(other) is other
        if how == signal.SIGSTOP:
            first.wait_log("lost_the_lead", timeout=SECONDS)
            time.sleep(2)
        if how == signal.SIGKILL:
            first.process.wait()
            first.process = None
    told = [(got.data["detail"].get("grant"), got.data["action"]) for got in hook.got if "grant" in got.data["detail"]]
    by_id = {got.data["id"]: got.data["action"] for got in hook.got}
    assert len(by_id) == len(set(told)), "each step once, by its id"
    assert told.count((grant.id, "grant.ended")) <= 2


@pytest.mark.slow
def test_removal_waits_for_the_sessions_of_the_other_host(
    make_house: Callable[..., House], pg: PostgresServer, tmp_path: Path
) -> None:
    url = f"postgresql://{pg.user}:{pg.password}@{pg.host}:{pg.port}/{fresh_database(pg)}"
    houses = [make_house(state=url).start() for _ in range(2)]
    first = leader(*houses)
    (other,) = [house for house in houses if house is not first]
    assert other.process is not None
    grant, token = minted(url, 3600.0, (other.folder / "policies" / "reader.yaml").read_text())
    login = (grant.id, token)
    with psycopg.connect(other.dsn(login), autocommit=True) as conn:
        conn.execute("select 1")
        time.sleep(2.5)  # it has told
        other.process.send_signal(signal.SIGSTOP)  # it cannot learn of the end, and its session stays
        try:
            revoke(url, grant.id)
            time.sleep(5)
            assert stands(url, login[0]) == ("ended", True)
        finally:
            other.process.send_signal(signal.SIGCONT)
        for _ in until(SECONDS):
            if stands(url, login[0])[0] == "removed":
                break
        assert stands(url, login[0]) == ("removed", False)


def revoke(url: str, grant: str) -> None:
    async def end() -> None:
        store = await Store.open(url)
        try:
            await Grants(store, SystemClock()).revoke(grant, reason="done", by="op")
        finally:
            await store.close()

    asyncio.run(end())


def stands(url: str, grant: str) -> tuple[str, bool]:
    """A grant's stage, and whether the proof of its sessions says that another host still has some."""
    with psycopg.connect(url) as conn:
        (stage,) = conn.execute("select stage from grants where id = %s", [grant]).fetchone() or ("",)
        query = "select ok, why from removals where \"grant\" = %s and proof = 'backends'"
        ok, why = conn.execute(query, [grant]).fetchone() or (True, "")
    return stage, not ok and "has open sessions of it" in why
