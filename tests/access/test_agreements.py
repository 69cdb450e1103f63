"""Agreements in a real store: exact texts, names that were typed, acceptances that end what stood on them."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.access import tables
from proxy.access.agreements import LONGEST_FILE, LONGEST_TEXT, AgreementError, Agreements, Text, Texts, plausible
from proxy.access.grants import GrantError, Grants
from proxy.access.model import Grant, Terms
from proxy.access.store import Store
from proxy.clock import FakeClock
from tests.access.test_grants import WISH, Told

NDA = "---\nversion: 3\n---\n# Confidentiality\n\nYou tell nobody.\n"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    there = tmp_path / "agreements"
    there.mkdir()
    (there / "nda.md").write_text(NDA)
    return there


@pytest.fixture
def agreements(store: Store, clock: FakeClock, folder: Path, told: Told) -> Agreements:
    return Agreements(store, clock, Texts(folder), told)


async def sign(agreements: Agreements, text: Text, name: str = "Jo Doe", person: str = "jo@vendor.example") -> None:
    await agreements.accept(text, person=person, name=name, how="psql", address="203.0.113.7", by=person, grant="g-1")


async def test_a_text_is_its_bytes(folder: Path) -> None:
    texts = Texts(folder)
    text = texts.read("nda")
    assert text.sha256 == hashlib.sha256(NDA.encode()).hexdigest()
    assert (text.version, text.title, text.body) == ("3", "nda (version 3)", "# Confidentiality\n\nYou tell nobody.")
    (folder / "nda.md").write_bytes(NDA.replace("\n", "\r\n").encode())
    other = texts.read("nda")
    assert other.sha256 != text.sha256
    assert (other.body, other.version) == (text.body, "3")
    (folder / "plain.md").write_text("No version.\n")
    assert texts.read("plain").version == texts.read("plain").sha256[:12]
    assert texts.names() == ["nda", "plain"]
    assert Texts(folder / "none").names() == []


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("none", None, "none.md is missing"),
        ("../nda", None, "cannot be an agreement's name"),
        ("a/b", None, "cannot be an agreement's name"),
        ("", None, "cannot be an agreement's name"),
        ("latin", b"\xff", "not UTF-8 text (byte 0)"),
        ("empty", b"---\nversion: 1\n---\n\n \n", "is empty"),
        ("escape", b"one\ntwo \x1b[2J", "escape.md:2: the control character"),
        ("nul", b"a\0b", "control character"),
        ("lone", b"fine\rYou owe us a house\n", "control character"),
        ("long", b"x" * (LONGEST_TEXT + 1), "longer than 256 KiB"),
    ],
)
async def test_texts_that_cannot_be(folder: Path, name: str, data: bytes | None, why: str) -> None:
    if data is not None:
        (folder / f"{name}.md").write_bytes(data)
    with pytest.raises(AgreementError) as caught:
        Texts(folder).read(name)
    assert why in str(caught.value)
    assert Texts(folder).missing(["nda", name]) == [name]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("Jo Doe", "Jo Doe"), ("  Jo \t van   Doe ", "Jo van Doe"), ("李 小龍", "李 小龍"), ("J. O'Neill", "J. O'Neill")],
)
def test_names(typed: str, kept: str) -> None:
    assert plausible(typed) == kept


@pytest.mark.parametrize("typed", ["", " ", "yes", "on", "Jo", "1 2", "Jo \x07Doe", "Jo \u202eDoe", "a " * 101])
def test_what_is_no_name(typed: str) -> None:
    with pytest.raises(AgreementError):
        plausible(typed)


async def test_a_text_is_pending_until_it_is_accepted(agreements: Agreements, told: Told, folder: Path) -> None:
    (text,) = await agreements.pending("jo@vendor.example", ["nda", "nda"])
    await sign(agreements, text)
    assert await agreements.pending("Jo@Vendor.example ", ["nda"]) == []
    assert await agreements.pending("ana@vendor.example", ["nda"]) == [text]
    assert [action for action, _ in told] == ["agreement.text", "agreement.accepted"]
    detail = told[-1][1]
    assert (detail["sha256"], detail["signed_as"], detail["address"]) == (text.sha256, "Jo Doe", "203.0.113.7")
    assert (detail["by"], detail["grant"], detail["how"]) == ("jo@vendor.example", "g-1", "psql")
    ((kept, _),) = await agreements.kept()
    assert kept == text
    assert hashlib.sha256(kept.text.encode()).hexdigest() == text.sha256


async def test_a_new_text_asks_again_and_an_old_one_counts_again(agreements: Agreements, folder: Path) -> None:
    (text,) = await agreements.pending("jo@vendor.example", ["nda"])
    await sign(agreements, text)
    (folder / "nda.md").write_text(NDA.replace("3", "4"))
    (new,) = await agreements.pending("jo@vendor.example", ["nda"])
    assert new.version == "4"
    asked = [("jo@vendor.example", "nda"), ("ana", "nda"), ("jo@vendor.example", "gone")]
    assert set(await agreements.renewed(asked)) == {("jo@vendor.example", "nda"), ("ana", "nda")}
    with pytest.raises(AgreementError, match="another text"):
        await sign(agreements, text)
    (folder / "nda.md").write_text(NDA)
    assert set(await agreements.renewed(asked)) == {("ana", "nda")}


async def test_the_same_bytes_under_another_name_are_another_agreement(agreements: Agreements, folder: Path) -> None:
    (text,) = await agreements.pending("jo", ["nda"])
    await sign(agreements, text, person="jo")
    (folder / "terms.md").write_text(NDA)
    (other,) = await agreements.pending("jo", ["nda", "terms"])
    assert other.name == "terms"
    await sign(agreements, other, person="jo")
    assert await agreements.pending("jo", ["nda", "terms"]) == []


async def test_a_missing_text_is_an_error_for_a_login_and_nothing_new_for_a_session(
    agreements: Agreements, folder: Path
) -> None:
    (folder / "nda.md").unlink()
    with pytest.raises(AgreementError, match=r"nda\.md is missing"):
        await agreements.pending("jo", ["nda"])
    assert await agreements.renewed([("jo", "nda")]) == {}
    assert await agreements.renewed([]) == {}


async def test_accepting_twice_in_psql_is_once_and_paper_adds(agreements: Agreements) -> None:
    (text,) = await agreements.pending("jo", ["nda"])
    await sign(agreements, text, person="jo")
    await sign(agreements, text, person="JO", name="Some Body")
    assert [a.signed_as for a in await agreements.all()] == ["Jo Doe"]
    paper = await agreements.accept(
        text, person="jo", name="Jo Doe", how="paper", address="", by="root", file=("/tmp/x/scan.pdf", b"%PDF")
    )
    assert (paper.file_name, paper.file_sha256) == ("scan.pdf", hashlib.sha256(b"%PDF").hexdigest())
    assert len(await agreements.all("jo")) == 2
    assert await agreements.paper(paper.id) == ("scan.pdf", b"%PDF")
    for other in ("a-00000000", "\u00e9", (await agreements.all("jo"))[0].id + "x"):
        with pytest.raises(AgreementError, match="no acceptance"):
            await agreements.paper(other)
    with pytest.raises(AgreementError, match="larger than 16 MiB"):
        await agreements.accept(
            text, person="jo", name="Jo Doe", how="paper", address="", by="root", file=("x", b"0" * (LONGEST_FILE + 1))
        )


async def test_what_cannot_be_recorded_is_not_accepted(store: Store, clock: FakeClock, folder: Path) -> None:
    def full(action: str, detail: object) -> None:
        if action == "agreement.accepted":
            raise OSError("no space left")

    agreements = Agreements(store, clock, Texts(folder), full)
    (text,) = await agreements.pending("jo", ["nda"])
    with pytest.raises(OSError, match="no space"):
        await sign(agreements, text, person="jo")
    assert await agreements.pending("jo", ["nda"]) == [text]
    assert await agreements.all() == []
    assert await agreements.kept() == []


async def grant(grants: Grants, person: str, *agreements: str) -> Grant:
    made, _ = await grants.create(**WISH | {"person": person, "terms": Terms(agreements=agreements)})
    return made


async def test_a_revoked_agreement_ends_every_grant_that_needs_it(
    agreements: Agreements, store: Store, clock: FakeClock, told: Told
) -> None:
    grants = Grants(store, clock, told)
    (text,) = await agreements.pending("jo", ["nda"])
    await sign(agreements, text, person="jo")
    mine, other, over, hers = [
        await grant(grants, *words) for words in (("JO", "nda"), ("jo",), ("jo", "nda"), ("ana", "nda"))
    ]
    await grants.revoke(over.id, reason="done", by="root")
    clock.advance(1)

    async def revoke() -> list[Grant]:
        def needs(grant: Grant) -> bool:
            return "nda" in grant.terms.agreements

        done = await agreements.revoke(
            "nda", person="Jo", reason="left the firm", by="root", grants=grants, needs=needs
        )
        return done[1]

    assert [g.id for g in await revoke()] == [mine.id]
    states = {g.id: (g.state(clock.now()), g.ended_why) for g in await grants.list()}
    assert states[mine.id] == ("revoked", "agreement")
    assert states[other.id] == states[hers.id] == ("active", None)
    assert states[over.id] == ("revoked", "revoked")
    assert "left the firm" in ((await grants.get(mine.id)).revoke_reason or "")
    assert await agreements.pending("jo", ["nda"]) == [text]
    assert told[-1][0] == "agreement.revoked"
    assert told[-1][1]["grants"] == [mine.id]
    with pytest.raises(AgreementError, match="no text of nda that still counts"):
        await revoke()
    (was,) = await agreements.all()
    assert (was.revoked_by, was.revoke_reason) == ("root", "left the firm")


async def test_a_revocation_that_was_cut_off_is_finished_by_the_next(
    agreements: Agreements, store: Store, clock: FakeClock, told: Told
) -> None:
    (text,) = await agreements.pending("jo", ["nda"])
    await sign(agreements, text, person="jo")
    grants = Grants(store, clock, told)
    one, two = await grant(grants, "jo", "nda"), await grant(grants, "jo", "nda")

    class Dead(Exception):
        pass

    def dies(action: str, detail: dict[str, object]) -> None:
        if action == "revoked" and any(name == "revoked" for name, _ in told):
            raise Dead
        told(action, detail)

    dying = Grants(store, clock, dies)
    with pytest.raises(Dead):
        await agreements.revoke("nda", person="jo", reason="x", by="r", grants=dying, needs=lambda _: True)
    assert await agreements.pending("jo", ["nda"]) == [], "the acceptance stands until the last grant has ended"
    _, ended = await agreements.revoke("nda", person="jo", reason="x", by="r", grants=grants, needs=lambda _: True)
    assert len(ended) == 1
    assert {(await grants.get(g.id)).ended_why for g in (one, two)} == {"agreement"}
    assert await agreements.pending("jo", ["nda"]) == [text]


async def test_bad_words(agreements: Agreements, store: Store, clock: FakeClock) -> None:
    (text,) = await agreements.pending("jo", ["nda"])
    for bad in ({"person": ""}, {"by": " "}, {"name": "ok"}):
        words = {"person": "jo", "name": "Jo Doe", "how": "cli", "address": "", "by": "root"} | bad
        with pytest.raises(GrantError):
            await agreements.accept(text, **words)  # type: ignore[arg-type]
    clock.advance(timedelta(days=1).total_seconds())
    assert await agreements.all() == []
    async with store.read() as connection:
        assert (await connection.execute(sa.select(tables.steps))).all() == []
