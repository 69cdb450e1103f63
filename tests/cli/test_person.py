"""`daypass person` and `daypass grant review` on the command line: answers, exit codes, tables.

Covers proxy/cli/person.py and proxy/cli/grant_review.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.access.grants import Grants
from proxy.access.stages import Stages
from proxy.access.store import Store
from proxy.clock import SystemClock
from proxy.session.telling import teller
from tests.cli.test_grant import answer, create, run


@pytest.fixture
def house(house: Path) -> Path:
    """A house whose grants need no database."""
    config = house / "config.yaml"
    text = config.read_text().replace("mode: ephemeral,", "mode: shared,")
    config.write_text(text + "\nreviews: {within: 1s, from: [auditors]}\npeople: {groups: {auditors: [ann]}}\n")
    return house


def removed(house: Path, grant: str) -> None:
    """What the server does with a grant that is over."""

    async def move() -> None:
        clock = SystemClock()
        store = await Store.open(f"sqlite:///{house / 'state.db'}")
        stages, grants = Stages(store, clock, teller(house / "recordings", clock.now)), Grants(store, clock)
        found = await grants.get(grant)
        assert await stages.move(
            found, "ended", ended_at=clock.now(), ended_why=found.ended_why, review_due=clock.now()
        )
        assert await stages.move(await grants.get(grant), "removed", removed_at=clock.now())
        await store.close()

    asyncio.run(move())


def test_a_person_is_disabled_and_enabled(house: Path) -> None:
    made = answer(create(house))["grant"]
    assert answer(run(house, "person", "list"))[0]["live_grants"] == 1
    done = answer(run(house, "person", "disable", "JO@vendor.example", "--reason", "left", "--by", "olga"))
    assert (done["grants"], done["disabled"]) == ([made], True)
    shown = answer(run(house, "grant", "show", made))
    assert (shown["state"], shown["ended_why"]) == ("revoked", "person")
    again = run(house, "person", "disable", "jo@vendor.example", "--reason", "left")
    assert again.exit_code == 2
    assert "was disabled at" in again.stderr
    refused = create(house)
    assert refused.exit_code == 2
    assert "jo@vendor.example was disabled" in refused.stderr
    token = run(house, "grant", "token", made)
    assert token.exit_code == 2
    (listed,) = answer(run(house, "person", "list", "--disabled"))
    assert (listed["disabled_by"], listed["disable_reason"]) == ("olga", "left")
    assert "disabled" in run(house, "person", "list", "-o", "table").stdout
    answer(run(house, "person", "enable", "jo@vendor.example", "--reason", "back"))
    assert answer(run(house, "person", "list", "--disabled")) == []
    assert run(house, "person", "enable", "jo@vendor.example", "--reason", "back").exit_code == 2
    answer(create(house))


def test_a_review_from_the_end_to_the_next_request(house: Path) -> None:
    made = answer(create(house))["grant"]
    sign = ("grant", "review", made, "--sign", "--verdict", "concern", "--note", "too many rows")
    early = run(house, *sign, "--by", "ann")
    assert early.exit_code == 2
    assert "is not over" in early.stderr
    answer(run(house, "grant", "revoke", made, "--reason", "done"))
    removed(house, made)
    (due,) = answer(run(house, "grant", "review", "--due"))
    assert due["grant"] == made
    assert "overdue" in run(house, "grant", "review", "--due", "-o", "table").stdout
    shown = answer(run(house, "grant", "review", made))
    assert shown["summary"]["statements"] == 0
    assert shown["unused"]["tables"]
    assert shown["review"] is None
    text = run(house, "grant", "review", made, "-o", "table").stdout
    assert "never used" in text
    assert "--sign --verdict" in text
    for by, why in (("jo@vendor.example", "it was their own"), ("bob", "reviews.from asks auditors")):
        refused = run(house, *sign, "--by", by)
        assert refused.exit_code == 2
        assert why in refused.stderr
    signed = answer(run(house, *sign, "--by", "ann"))
    assert (signed["stage"], signed["review"]["verdict"]) == ("reviewed", "concern")
    assert answer(run(house, "grant", "review", "--due")) == []
    assert run(house, *sign, "--by", "ann").exit_code == 2
    assert "Reviewed by ann" in run(house, "grant", "review", made, "-o", "table").stdout
    assert "concern, by ann" in run(house, "grant", "show", made, "-o", "table").stdout
    wish = [
        "--person",
        "kim@vendor.example",
        "--vendor",
        "ACME",
        "--database",
        "app",
        "--policy",
        "vendor-readonly",
        "--for",
        "1h",
    ]
    asked = answer(run(house, "request", "create", *wish, "--purpose", "again"))
    assert asked["last_review"]["verdict"] == "concern"
    assert "too many rows" in run(house, "request", "show", asked["request"], "-o", "table").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which grant?"),
        (("--due", "g-00000000"), "--due lists all"),
        (("g-00000000", "--sign"), "--sign needs --verdict and --note"),
        (("g-00000000", "--note", "x"), "belong to --sign"),
        (("g-00000000",), "there is no grant"),
    ],
)
def test_reviews_that_cannot_be(house: Path, words: tuple[str, ...], message: str) -> None:
    result = run(house, "grant", "review", *words)
    assert result.exit_code == 2
    assert message in result.stderr
