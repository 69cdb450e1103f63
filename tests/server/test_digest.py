"""Digests from real recordings to real receivers: once a period, each to whom it is for, and never a value in one."""

from __future__ import annotations

import asyncio
import email
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog.testing

from proxy.access.digests import Digests
from proxy.access.outbox import Outbox
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.config_notify import Digest, Notify
from proxy.server import aside
from proxy.server.aside import NotAnswered
from proxy.server.digest import Digester, schedule
from proxy.server.metrics import NoticeCounts
from proxy.server.notify import Notifier
from recorder.aside import Sums
from recorder.events import Outcome, SessionEnd, Statement
from recorder.journal import Recorder
from tests.recorder.support import start
from tests.server.sinks import Hook, Mailbox

MONDAY = datetime(2026, 1, 5, 9, tzinfo=UTC)
TOKEN = "dp_" + "a2" * 16
SECRETS = ["900-00-0001", "4711.25", "O'Hara", "deadbeefcafe", "hush-hush"]
"""Literals and bind values, in statements of all kinds and ends."""


def record(folder: Path, clock: FakeClock, *, vendor: str, database: str, session: str, statements: int = 6) -> None:
    def now() -> datetime:
        clock.advance(0.25)
        return clock.now()

    recorder = Recorder(folder, now=now)
    about = start(session, vendor=vendor, database=database, grant=f"g-{vendor}", person=f"jo@{vendor}.example")
    one = recorder.open(session, about)
    verdicts = ["allow", "mask", "deny", "allow", "hold", "allow"]
    for n, verdict in enumerate(verdicts[:statements], 1):
        literal = SECRETS[n % len(SECRETS)].replace("'", "''")
        one.append(
            Statement(
                n=n, sql=f"select * from app.t where a = '{literal}'", params=SECRETS, verdict=verdict, rule="table",
                rewritten=f"select 1 from app.t where b = '{literal}'", kind="select", tables=["app.t"],
            )
        )  # fmt: skip
        one.append(Outcome(n=n, rows=2, bytes=9, ms=1.0, sqlstate="42501" if verdict == "deny" else None))
    one.close(SessionEnd(reason="killed", detail=SECRETS[4], statements=statements))
    recorder.close()


class House:
    """A state, a folder of recordings, digests of it and a notifier, in a time of the test's own."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.clock = store, folder, FakeClock(MONDAY)
        self.told: list[tuple[str, dict[str, Any]]] = []
        folder.mkdir()
        Recorder(folder, now=self.clock.now).close()

    def digester(self, **wanted: dict[str, Any]) -> Digester:
        shapes = {name: Digest.model_validate({"every": "day", **values}) for name, values in wanted.items()}
        digests = Digests(self.store, self.clock, lambda action, detail: self.told.append((action, detail)), "ab12")
        return Digester(shapes, self.folder, digests, self.clock)

    async def deliver(self, **sinks: dict[str, Any]) -> NoticeCounts:
        shapes = {name: Notify.model_validate({"timeout": "5s", "events": [], **at}) for name, at in sinks.items()}
        counts = NoticeCounts()
        notifier = Notifier(
            shapes,
            Outbox(self.store, self.clock),
            self.clock,
            "0a1b2c3d",
            counts,
        )
        for name in shapes:
            await notifier.round(name)
        return counts


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    yield House(store, tmp_path / "recordings")
    await store.close()


def clean(text: str) -> None:
    for secret in [*SECRETS, *(secret.replace("'", "''") for secret in SECRETS), TOKEN]:
        assert secret not in text


async def test_owner_and_vendor_each_get_theirs(house: House) -> None:
    digester = house.digester(
        owners={"to": ["mail", "hook"]},
        acme={"vendor": "acme", "to": ["acme"]},
        shop={"databases": ["shop"], "to": ["shop"]},
        nobody={"vendor": "nobody", "to": ["acme"]},
    )
    await digester.round()
    record(house.folder, house.clock, vendor="acme", database="app", session="s-1")
    record(house.folder, house.clock, vendor="zeta", database="shop", session="s-2", statements=2)
    await digester.round()
    assert house.told == [], "the day is not over"
    house.clock.advance(86_400)
    await digester.round()
    assert [(detail["digest"], detail["sessions"], detail["statements"]) for _, detail in house.told] == [
        ("owners", 2, 8),
        ("acme", 1, 6),
        ("shop", 1, 2),
    ]
    async with Mailbox(None) as box:
        smtp = {
            "host": "127.0.0.1",
            "port": box.port,
            "tls": "disable",
            "from": "d@shop.example",
            "to": ["a@b.example"],
        }
        with Hook() as hook, Hook() as acme, Hook(answer=200) as shop:
            counts = await house.deliver(
                mail={"smtp": smtp},
                hook={"webhook": hook.url},
                acme={"webhook": acme.url},
                shop={"webhook": shop.url, "form": "slack"},
            )
            again = await house.deliver(mail={"smtp": smtp}, hook={"webhook": hook.url})
    assert (counts.failed, counts.delivered) == ({}, {"mail": 1, "hook": 1, "acme": 1, "shop": 1})
    assert again.delivered == {}

    (raw,) = box.mails
    assert isinstance(raw.content, bytes)
    mail = email.message_from_bytes(raw.content, policy=default)
    assert isinstance(mail, EmailMessage)
    assert mail["Subject"] == "[daypass] Access report: all sessions, 2026-01-05 08:00 UTC to 2026-01-06 08:00 UTC"
    plain, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert page is not None
    assert mail.get_content_type() == "multipart/alternative"
    markdown = plain.get_content().replace("\r\n", "\n")
    assert markdown.startswith("# Access report: all sessions\n")
    assert "| g-acme (jo@acme.example, acme, app) | 1 | 6 | 1 | 12 |" in markdown.replace("\\", "")
    assert page.get_content().startswith("<!doctype html>")
    assert "https:" not in page.get_content()

    data = hook.got[0].data
    assert (data["action"], data["digest"]["statements"], data["digest"]["tables"]) == (
        "digest.made",
        8,
        {"app.t": {"statements": 8, "rows": 16}},
    )
    theirs = acme.got[0].body.decode()
    assert "zeta" not in theirs
    assert "shop" not in theirs
    assert json.loads(theirs)["digest"]["persons"] == {"jo@acme.example": 1}
    (said,) = (got.data["text"] for got in shop.got)
    assert "database shop" in said
    assert "2 statements" in said
    for text in (markdown, page.get_content(), hook.got[0].body.decode(), theirs, said, json.dumps(house.told)):
        clean(text)
    assert all(secret in (house.folder / "2026/01/s-1.jsonl").read_text() for secret in SECRETS)


async def test_a_program_name_that_is_a_token(house: House) -> None:
    digester = house.digester(owners={"to": ["hook"]})
    await digester.round()
    recorder = Recorder(house.folder, now=house.clock.now)
    recorder.open("s-1", start("s-1", application_name=TOKEN)).close(
        SessionEnd(reason="client", detail=None, statements=0)
    )
    recorder.close()
    house.clock.advance(86_400)
    await digester.round()
    with Hook() as hook:
        await house.deliver(hook={"webhook": hook.url})
    assert hook.got[0].data["digest"]["applications"] == {"***": 1}


@pytest.mark.thorough
async def test_nothing_is_told_of_nothing_unless_asked(house: House) -> None:
    digester = house.digester(quiet={"to": ["a"]}, always={"to": ["a"], "empty": True})
    await digester.round()
    house.clock.advance(5 * 86_400 + 120)
    await digester.round()
    (step,) = house.told
    assert (step[1]["digest"], step[1]["until"]) == ("always", "2026-01-10T08:00:00.000000Z"), "once, not five times"
    house.clock.advance(86_400)
    await digester.round()
    assert [detail["until"][:10] for _, detail in house.told] == ["2026-01-10", "2026-01-11"]


async def test_each_period_that_was_missed_is_told(house: House) -> None:
    await house.digester(owners={"to": ["a"]}).round()
    for number in range(3):
        record(house.folder, house.clock, vendor="acme", database="app", session=f"s-{number}", statements=number + 1)
        house.clock.advance(86_400)
    await house.digester(owners={"to": ["a"]}).round()
    assert [detail["statements"] for _, detail in house.told] == [1, 2, 3]


async def test_two_processes_and_a_death_between_two_steps(house: House) -> None:
    """What dies before the transaction is done again; what dies after it is not."""
    wanted = {"owners": {"to": ["hook"]}}
    await house.digester(**wanted).round()
    record(house.folder, house.clock, vendor="acme", database="app", session="s-1")
    house.clock.advance(86_400)
    dying = house.digester(**wanted)

    def die(_action: str, _detail: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    dying._digests._emit = die
    with pytest.raises(KeyboardInterrupt):
        await dying.round()
    assert await Outbox(house.store, house.clock).due("hook", []) == []
    await asyncio.gather(*(house.digester(**wanted).round() for _ in range(3)))
    await house.digester(**wanted).round()
    assert len(house.told) == 1
    assert len(await Outbox(house.store, house.clock).due("hook", [])) == 1


async def test_what_cannot_be_counted_is_counted_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    digester = house.digester(owners={"to": ["a"], "empty": True})
    await digester.round()
    house.clock.advance(86_400)
    monkeypatch.setattr(aside, "PROGRAM", "recorder.no_such_module")
    with structlog.testing.capture_logs() as logs:
        await digester.round()
        await digester.round()
    assert [(line["event"], line["digest"]) for line in logs] == [("digest_failed", "owners")], "not again at once"
    assert "no_such_module" in logs[0]["reason"]
    monkeypatch.undo()
    house.clock.advance(301)
    await digester.round()
    assert len(house.told) == 1


async def test_an_answer_that_never_comes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "PATIENCE", 0.0)
    with pytest.raises(NotAnswered, match="no answer within 0 s"):
        await aside.ask(Sums(str(house.folder), MONDAY, MONDAY + timedelta(days=1)))


def test_a_week_begins_on_monday_unless_it_is_said() -> None:
    assert schedule(Digest(every="week", to=["a"])).day == "mon"
    assert schedule(Digest(every="week", day="fri", to=["a"])).day == "fri"
    assert schedule(Digest(every="day", to=["a"])).day is None
