"""Start-up parameters: what passes, what is refused, what wins."""

from __future__ import annotations

import pytest

from proxy.session import parameters
from proxy.session.refusals import LoginRefused

WHO = {"user": "g-1", "database": "shop"}


def test_harmless_parameters_pass_under_any_spelling() -> None:
    asked = {**WHO, "application_name": "psql", "DateStyle": "ISO", "TIMEZONE": "UTC", "client_encoding": "'utf-8'"}
    passed = parameters.allowed(asked, observe=False)
    assert passed == {"application_name": "psql", "DateStyle": "ISO", "TIMEZONE": "UTC", "client_encoding": "UTF8"}


@pytest.mark.parametrize(
    "key",
    ["options", "replication", "search_path", "role", "session_authorization", "standard_conforming_strings", "x.y"],
)
def test_everything_else_is_refused_with_its_name_and_a_hint(key: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        parameters.allowed({**WHO, key: "on"}, observe=False)
    assert key in caught.value.refusal.text
    assert caught.value.refusal.hint


def test_replication_that_is_off_is_nothing() -> None:
    assert parameters.allowed({**WHO, "replication": "false"}, observe=False) == {}


def test_observe_mode_passes_everything() -> None:
    asked = {**WHO, "options": "-c a=b", "replication": "database", "client_encoding": "LATIN1"}
    assert parameters.allowed(asked, observe=True) == {k: v for k, v in asked.items() if k not in WHO}


def test_what_the_policy_sets_wins() -> None:
    sent = parameters.for_upstream(
        {"timezone": "UTC", "client_encoding": "UTF8"},
        {"client_encoding": "UTF8", "TimeZone": "Europe/Berlin"},
        user="reader",
        dbname="d",
    )
    assert sent == {"user": "reader", "database": "d", "client_encoding": "UTF8", "TimeZone": "Europe/Berlin"}
