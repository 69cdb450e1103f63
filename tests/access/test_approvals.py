"""Whose voice counts: never one's own, never twice, only of those who are asked; in any order of any people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access import approvals
from proxy.access.approvals import Voice
from proxy.access.grants import GrantError
from proxy.access.model import Request, Terms, person_key
from tests.access.wishes import GROUPS

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def request(*, count: int = 1, approvers: tuple[str, ...] = (), **changes: Any) -> Request:
    values: dict[str, Any] = dict.fromkeys(Request.__slots__) | {
        "id": "r-7k3m9x2q",
        "person": "jo@vendor.example",
        "policy": "reader",
        "terms": Terms(approvals=count, approvers=approvers),
        "break_glass": False,
        "created_by": "sam@shop.example",
        "lapses_at": NOON + timedelta(days=7),
        "state": "requested",
    }
    return Request(**values | changes)


def speak(asked: Request, by: str, voices: Sequence[Voice] = (), for_: Iterable[str] = ()) -> Voice:
    return approvals.voice(asked, voices, by=by, reason="fine", at=NOON, groups=GROUPS, for_=for_)


def test_another_person_may() -> None:
    assert speak(request(), "ann@shop.example") == Voice("ann@shop.example", None, (), "fine", NOON)


@pytest.mark.parametrize(
    "name", ["jo@vendor.example", "JO@Vendor.Example", " jo@vendor.example", "ＪＯ@vendor.example"]
)
def test_nobody_approves_for_himself_however_he_spells_his_name(name: str) -> None:
    with pytest.raises(GrantError, match="the grant is for"):
        speak(request(), name)


def test_nor_does_who_asked() -> None:
    with pytest.raises(GrantError, match="it was asked for by"):
        speak(request(), "SAM@shop.example")


def test_no_voice_counts_twice() -> None:
    first = speak(request(count=2), "ann@shop.example")
    with pytest.raises(GrantError, match=r"has approved r-7k3m9x2q already; 1 more must be by others"):
        speak(request(count=2), "Ann@SHOP.example", [first])


def test_only_people_of_the_asked_groups() -> None:
    asked = request(approvers=("owners",))
    with pytest.raises(GrantError, match="the policy reader asks owners"):
        speak(asked, "lea@shop.example")
    assert speak(asked, "cy@shop.example").groups == ("owners",)


def test_a_group_without_people_is_named() -> None:
    with pytest.raises(GrantError, match=r"asks board; board has no people in config\.yaml"):
        speak(request(approvers=("board",)), "ann@shop.example")


def test_a_delegate_speaks_for_whom_he_stands() -> None:
    asked = request(approvers=("owners",))
    assert speak(asked, "dan@shop.example", for_=["ann@shop.example"]).for_whom == "ann@shop.example"
    spoken = [speak(asked, "ann@shop.example")]
    with pytest.raises(GrantError):
        speak(request(count=2, approvers=("owners",)), "dan@shop.example", spoken, ["ann@shop.example"])
    with pytest.raises(GrantError):  # the voice of him who asked is no voice, whoever speaks it
        speak(
            request(approvers=("owners",), created_by="ann@shop.example"), "dan@shop.example", (), ["Ann@shop.example"]
        )


def test_who_has_a_voice_of_his_own_gives_that_first() -> None:
    voice = speak(request(approvers=("owners",)), "bob@shop.example", for_=["ann@shop.example"])
    assert voice.for_whom is None


def test_break_glass_takes_one_voice_which_may_be_the_requesters_and_never_the_persons() -> None:
    alarm = request(count=3, break_glass=True)
    assert approvals.needed(alarm) == 1
    assert speak(alarm, "sam@shop.example").by == "sam@shop.example"
    with pytest.raises(GrantError, match="the grant is for"):
        speak(alarm, "jo@vendor.example")


def test_at_least_one_other_person_always() -> None:
    assert approvals.needed(request(count=0)) == 1
    assert approvals.missing(request(count=0), []) == 1


PEOPLE = st.sampled_from(
    ["jo@vendor.example", "JO@vendor.example", "sam@shop.example", "ann@shop.example", "ANN@shop.example",
     "bob@shop.example", "cy@shop.example", "dan@shop.example", "lea@shop.example"]
)  # fmt: skip
SPEECHES = st.lists(st.tuples(PEOPLE, st.lists(PEOPLE, max_size=3)), max_size=12)


@given(SPEECHES, st.integers(1, 3), st.sampled_from([(), ("owners",), ("owners", "legal")]))
def test_no_sequence_of_people_gives_two_voices_to_one_human(
    speeches: list[tuple[str, list[str]]], count: int, approvers: tuple[str, ...]
) -> None:
    asked, voices = request(count=count, approvers=approvers), list[Voice]()
    members = {person_key(name) for group in approvers for name in GROUPS[group]}
    for by, for_ in speeches:
        try:
            voices.append(speak(asked, by, voices, for_))
        except GrantError:
            continue
    mouths = [person_key(voice.by) for voice in voices]
    heads = [person_key(voice.for_whom or voice.by) for voice in voices]
    concerned = {"jo@vendor.example", "sam@shop.example"}
    assert len(set(mouths)) == len(mouths)
    assert len(set(heads)) == len(heads)
    assert not (set(mouths) | set(heads)) & concerned
    assert not approvers or set(heads) <= members
    # One human's mouth and another's delegated voice are one yes each, and never the same yes twice.
    assert len({*mouths, *heads}) >= len(voices)
