"""One-time links in a real store: for one person and one text, once, and only while they may."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.access import tables
from proxy.access.agreements import AgreementError, Agreements, Texts
from proxy.access.grants import GrantError, Grants
from proxy.access.links import LONGEST, Link, LinkRefused, Links
from proxy.access.store import Store
from proxy.access.timekeeping import TimeFacts
from proxy.clock import FakeClock
from tests.access.test_agreements import NDA, agreements, clock, folder, told
from tests.access.test_grants import Told

__all__ = ["agreements", "clock", "folder", "told"]

JO = "jo@vendor.example"


@pytest.fixture
def links(store: Store, clock: FakeClock, agreements: Agreements, told: Told) -> Links:
    return Links(store, clock, agreements, told)


async def make(links: Links, agreements: Agreements, person: str = JO, hours: float = 48) -> tuple[Link, str]:
    text = agreements.texts.read("nda")
    return await links.make(text, person=person, by="olga", length=timedelta(hours=hours))


async def why(links: Links, secret: str) -> str:
    """Why it opens nothing, whether one looks or accepts."""
    with pytest.raises(LinkRefused) as looked:
        await links.look(secret)
    with pytest.raises(LinkRefused) as accepted:
        await links.accept(secret, name="Jo Doe", address="203.0.113.7")
    assert looked.value.why == accepted.value.why
    return looked.value.why


async def test_a_link_is_looked_at_often_and_used_once(
    links: Links, agreements: Agreements, store: Store, told: Told
) -> None:
    link, secret = await make(links, agreements)
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    for _ in range(3):
        found, text = await links.look(secret)
        assert (found, text.text) == (link, NDA)
    assert await agreements.pending(JO, ["nda"]) == [text]
    used, _, made = await links.accept(secret, name=" Jo  Doe ", address="203.0.113.7")
    assert (used.used_at, used.acceptance) == (made.at, made.id)
    assert (made.person, made.signed_as, made.how, made.address) == (JO, "Jo Doe", "link", "203.0.113.7")
    assert (made.recorded_by, made.grant, made.sha256) == (JO, None, text.sha256)
    assert await agreements.pending(JO.upper(), ["nda"]) == []
    assert await agreements.all(JO) == [made]
    assert await why(links, secret) == "used"
    assert await agreements.all(JO) == [made]
    assert [action for action, _ in told] == ["agreement.text", "agreement.link", "agreement.accepted"]
    assert (told[1][1]["by"], told[1][1]["link"], told[2][1]["link"]) == ("olga", link.id, link.id)
    assert secret not in str(told)
    async with store.read() as connection:
        for table in tables.metadata.sorted_tables:
            assert secret not in str((await connection.execute(sa.select(table))).all())


async def test_two_at_once_accept_once(links: Links, agreements: Agreements) -> None:
    _, secret = await make(links, agreements)
    tries = [links.accept(secret, name=f"Jo Doe {n}", address="") for n in "abcde"]
    done = await asyncio.gather(*tries, return_exceptions=True)
    refused = [one for one in done if isinstance(one, LinkRefused)]
    assert [one.why for one in refused] == ["used"] * 4
    assert len(await agreements.all()) == 1


async def test_it_expires(links: Links, agreements: Agreements, clock: FakeClock) -> None:
    _, secret = await make(links, agreements, hours=1)
    clock.advance(3599)
    await links.look(secret)
    clock.advance(1)
    assert await why(links, secret) == "expired"
    assert await agreements.all() == []


async def test_it_is_for_one_text(links: Links, agreements: Agreements, folder: Path) -> None:
    _, secret = await make(links, agreements)
    (folder / "nda.md").write_text(NDA + " ")
    assert await why(links, secret) == "changed"
    (folder / "nda.md").unlink()
    assert await why(links, secret) == "changed"
    (folder / "nda.md").write_text(NDA)
    await links.look(secret)


@pytest.mark.parametrize("secret", ["", "x" * 43, "x" * 42, "../../etc/passwd", "'; --", "é" * 43, "x" * 5000])
async def test_what_is_no_secret(links: Links, agreements: Agreements, secret: str) -> None:
    await make(links, agreements)
    assert await why(links, secret) == "unknown"


async def test_a_newer_link_ends_the_one_before_and_no_other(
    links: Links, agreements: Agreements, folder: Path
) -> None:
    _, first = await make(links, agreements)
    _, hers = await make(links, agreements, person="ana")
    (folder / "terms.md").write_text("Behave.\n")
    _, other = await links.make(agreements.texts.read("terms"), person=JO, by="olga")
    _, second = await make(links, agreements, person=JO.upper())
    assert await why(links, first) == "expired"
    for secret in (second, hers, other):
        await links.look(secret)


async def test_a_revocation_ends_the_links_too(
    links: Links, agreements: Agreements, store: Store, clock: FakeClock
) -> None:
    text = agreements.texts.read("nda")
    await agreements.accept(text, person=JO, name="Jo Doe", how="cli", address="", by="olga")
    _, secret = await make(links, agreements)
    _, hers = await make(links, agreements, person="ana")
    grants = Grants(store, clock)
    await agreements.revoke("nda", person=JO, reason="left", by="olga", grants=grants, needs=lambda _: True)
    assert await why(links, secret) == "expired"
    await links.look(hers)


async def test_a_bad_name_leaves_it_as_it_was(links: Links, agreements: Agreements) -> None:
    _, secret = await make(links, agreements)
    for name in ("", "yes", "Jo \x07Doe", "Jo \u202eDoe", "a " * 101):
        with pytest.raises(AgreementError, match="full name"):
            await links.accept(secret, name=name, address="")
    await links.accept(secret, name="Jo Doe", address="")


async def test_what_cannot_be_recorded_leaves_it_as_it_was(
    store: Store, clock: FakeClock, links: Links, agreements: Agreements, folder: Path
) -> None:
    def full(action: str, detail: object) -> None:
        raise OSError("no space left")

    _, secret = await make(links, agreements)
    other = Links(store, clock, Agreements(store, clock, Texts(folder), full), full)
    with pytest.raises(OSError, match="no space"):
        await other.accept(secret, name="Jo Doe", address="")
    assert await agreements.all() == []
    with pytest.raises(OSError, match="no space"):
        await other.make(agreements.texts.read("nda"), person=JO, by="olga")
    await links.accept(secret, name="Jo Doe", address="")


async def test_a_clock_that_was_set_back_gives_no_link_more_time(
    links: Links, agreements: Agreements, store: Store, clock: FakeClock, told: Told
) -> None:
    _, secret = await make(links, agreements, hours=1)
    clock.advance(7200)
    await TimeFacts(store, clock, told).keep(clock.now(), clock.monotonic(), "boot")
    clock.step_wall(-7200)
    with pytest.raises(GrantError, match="this machine's clock says"):
        await links.look(secret)
    with pytest.raises(GrantError, match="this machine's clock says"):
        await links.accept(secret, name="Jo Doe", address="")
    with pytest.raises(GrantError, match="this machine's clock says"):
        await make(links, agreements)


async def test_links_that_make_no_sense(links: Links, agreements: Agreements, folder: Path) -> None:
    text = agreements.texts.read("nda")
    for length in (timedelta(0), timedelta(-1), LONGEST + timedelta(seconds=1)):
        with pytest.raises(AgreementError, match="at most 30 days"):
            await links.make(text, person=JO, by="olga", length=length)
    for person, by in (("", "olga"), (JO, " "), ("a\nb", "olga")):
        with pytest.raises(GrantError):
            await links.make(text, person=person, by=by)
    (folder / "nda.md").write_text("Other.\n")
    with pytest.raises(AgreementError, match="another text"):
        await links.make(text, person=JO, by="olga")
