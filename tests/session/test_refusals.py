"""The table of refusals is whole: every entry can be said, and says nothing that it should not."""

from __future__ import annotations

import string
from typing import Any

import pytest

from proxy.session.refusals import TABLE, refusal
from proxy.wire import upstream


@pytest.mark.parametrize("reason", TABLE)
def test_every_refusal_can_be_said(reason: str) -> None:
    kind = TABLE[reason]
    names = {field for text in (kind.text, kind.hint) for _, field, _, _ in string.Formatter().parse(text) if field}
    facts: dict[str, Any] = dict.fromkeys(names, 7)
    no = refusal(reason, **facts)
    found = upstream.report(no.message[5:])
    assert (found.sqlstate, found.severity, found.text) == (kind.sqlstate, kind.severity, no.text)
    assert len(kind.sqlstate) == 5
    assert kind.lives == (kind.severity == "ERROR")


def test_the_words_for_a_failed_proof_are_postgres_own() -> None:
    assert refusal("password", user="x").text == 'password authentication failed for user "x"'


def test_what_a_client_sent_is_not_a_format_string() -> None:
    assert "{grant}" in refusal("startup", text="{grant}", hint="").text
