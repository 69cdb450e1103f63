"""The notary alone: what is told when something cannot be kept, and that it works on one message at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxy.access.agreements import AgreementError, Text
from proxy.access.store import StoreError
from proxy.session.notary import FULL, NOTHING_LEFT, Files, Notary
from proxy.session.refusals import Refusal
from proxy.wire import build, framing, upstream
from recorder.files import RecordError

SHOW, SIGN = build.query(b"show daypass.agreement"), build.query(b"set daypass.accept = 'Jo Doe'")


def a_text(name: str, body: str = "Behave.") -> Text:
    return Text(name, "1", name * 4, body)


class House:
    """The relay's place, and the files."""

    def __init__(self, *names: str) -> None:
        self.texts = [a_text(name) for name in names]
        self.signed: list[tuple[str, str]] = []
        self.trouble: Exception | None = None
        self.waits_for = ""
        self.data = b""
        self.blocked: list[bool] = []
        self.ends: list[tuple[str, str]] = []
        self.lost = 0
        self.gate: Callable[[], Awaitable[object]] | None = None
        self.notary = Notary(Files(self.pending, self.accept), {"timezone": "UTC"}, self.wait_for)
        self.notary.serve(self)

    async def pending(self) -> list[Text]:
        if self.gate is not None:
            await self.gate()
        if self.trouble is not None:
            raise self.trouble
        done = {name for name, _ in self.signed}
        return [text for text in self.texts if text.name not in done]

    async def accept(self, text: Text, name: str) -> None:
        self.signed.append((text.name, name))

    def wait_for(self, words: str) -> None:
        self.waits_for = words

    def upstream_data(self, data: bytes) -> None:
        self.data += data

    def upstream_blocked(self, blocked: bool) -> None:
        self.blocked.append(blocked)

    def upstream_lost(self) -> None:
        self.lost += 1

    def end(self, no: Refusal | None, detail: str) -> None:
        self.ends.append((no.reason if no is not None else "", detail))
        self.notary.close()

    async def heard(self, *messages: bytes) -> str:
        """The types of what comes back."""
        self.notary.write(b"".join(messages))
        for _ in range(50 + 5 * len(messages)):
            await asyncio.sleep(0)
        return self.taken()

    def taken(self) -> str:
        data, self.data = self.data, b""
        self.last = [(chr(kind), data[start:stop]) for kind, start, stop in framing.spans(data)]
        return "".join(kind for kind, _ in self.last)

    @property
    def error(self) -> upstream.Report:
        return next(upstream.report(body) for kind, body in self.last if kind == "E")


async def test_one_text_after_the_other() -> None:
    house = House("nda", "terms")
    assert await house.heard(SIGN) == "EZ"
    assert house.error.sqlstate == "22023"
    assert await house.heard(SHOW, SIGN, SIGN) == "TDCZ" + "NCZ" + "EZ"
    assert house.waits_for == "terms (version 1)"
    assert house.ends == []
    assert await house.heard(SHOW, SIGN) == "TDCZ" + "NCZ"
    assert house.signed == [("nda", "Jo Doe"), ("terms", "Jo Doe")]
    assert house.ends == [("signed", "all agreements are accepted")]
    assert await house.heard(SHOW) == ""


async def test_it_ends_outside_of_a_transaction() -> None:
    house = House("nda")
    assert await house.heard(build.query(b"begin"), SHOW, SIGN) == "CZ" + "TDCZ" + "NCZ"
    assert house.last[-1] == ("Z", b"T")
    assert house.ends == []
    assert await house.heard(build.query(b"rollback")) == "CZ"
    assert [reason for reason, _ in house.ends] == ["signed"]
    assert house.signed, "no rollback takes it back"


async def test_what_was_signed_elsewhere_meanwhile() -> None:
    for message in (SHOW, SIGN):
        house = House("nda")
        house.signed.append(("nda", "on paper"))
        answer = await house.heard(message)
        assert answer in ("TDCZ", "NCZ")
        assert NOTHING_LEFT.encode() in b"".join(body for _, body in house.last)
        assert [reason for reason, _ in house.ends] == ["signed"]


async def test_trouble_is_told_without_its_whereabouts() -> None:
    house = House("nda")
    for trouble, sqlstate in ((StoreError("/var/lib/x: no"), "58030"), (AgreementError("/etc/nda.md no"), "22023")):
        house.trouble = trouble
        for message in (SHOW, SIGN):
            assert await house.heard(message) == "EZ"
            assert house.error.sqlstate == sqlstate
            assert "/" not in house.error.text
    house.trouble = None
    assert await house.heard(SHOW) == "TDCZ"
    house.trouble = RecordError("disk full")
    assert await house.heard(SIGN) == ""
    assert house.ends == [("recording", "disk full")]


async def test_an_error_skips_up_to_sync() -> None:
    house = House("nda")
    answer = await house.heard(
        build.parse(b"", b"show daypass.agreement"), build.bind(b"", b"x"), build.execute(),
        build.parse(b"y", b"begin"), build.SYNC, build.bind(b"", b"y"), build.SYNC,
    )  # fmt: skip
    assert answer == "1EZEZ"
    assert await house.heard(build.parse(b"", b"begin; commit"), build.SYNC) == "EZ"
    assert await house.heard(build.parse(b"", b""), build.bind(b"", b""), build.execute(), build.SYNC) == "12IZ"
    assert await house.heard(build.describe(ord("S"), b"z"), build.SYNC) == "EZ"
    assert await house.heard(build.parse(b"", b"begin"), build.bind(b"", b"", [b"1"]), build.SYNC) == "1EZ"
    assert await house.heard(build.close(ord("S"), b"q"), build.close(ord("P")), build.SYNC) == "33Z"


async def test_nothing_is_worked_on_while_the_client_does_not_read() -> None:
    house = House("nda")
    house.notary.hold(True)
    assert await house.heard(*[SHOW] * 5) == ""
    house.notary.hold(False)
    assert await house.heard() == "TDCZ" * 5


async def test_no_more_is_taken_than_can_be_worked_on() -> None:
    house = House("nda")
    opened = asyncio.Event()
    house.gate = opened.wait
    many = FULL // len(SHOW) + 2
    await house.heard(*[SHOW] * many)
    assert house.blocked == [True]
    opened.set()
    answer = await house.heard(*[build.query(b"")] * 10)
    for _ in range(20 * many):
        await asyncio.sleep(0)
    assert answer + house.taken() == "TDCZ" * many + "IZ" * 10
    assert house.blocked == [True, False]


async def test_a_goodbye_ends_it_after_what_came_before() -> None:
    house = House("nda")
    assert await house.heard(SHOW, SIGN, build.TERMINATE) == "TDCZNCZ"
    assert house.signed == [("nda", "Jo Doe")]
    other = House("nda", "terms")
    assert await other.heard(SHOW, build.TERMINATE) == "TDCZ"
    assert other.lost == 1
