"""The terms that a policy file says, and those of the policies that daypass itself brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.access.model import Terms
from proxy.policy.load import PolicyError, parse
from proxy.session.terms import terms_of

ROOT = Path(__file__).parents[2]
BROUGHT = [
    "proxy/cli/templates/vendor-readonly.yaml",
    "proxy/demo/vendor-readonly.yaml",
    "policies/vendor-readonly.yaml",
]


def test_every_term_of_a_policy() -> None:
    text = """
name: full
databases: [app]
tables: {app.orders: {}}
window: {max: 2h, days: mon-fri, hours: "22:00-06:00", timezone: Europe/Berlin}
network: [203.0.113.0/24]
approvals: {count: 2, from: [owners]}
agreements: [nda]
prechecks: [backup]
"""
    assert terms_of(parse(text, "full")) == Terms(
        approvals=2,
        approvers=("owners",),
        agreements=("nda",),
        prechecks=("backup",),
        network=("203.0.113.0/24",),
        days="mon-fri",
        hours="22:00-06:00",
        timezone="Europe/Berlin",
        max_seconds=7200.0,
    )
    assert terms_of(parse("name: bare\ndatabases: [app]\ntables: {app.orders: {}}\n", "bare")) == Terms()


@pytest.mark.parametrize("file", BROUGHT)
def test_the_policies_of_init_and_demo_have_hours_and_networks_as_comments_that_work(file: str) -> None:
    text = (ROOT / file).read_text()
    brought = terms_of(parse(text, file))
    assert brought.weekly.always
    assert brought.network == ()
    lines = [line for line in text.splitlines() if not line.startswith("window:")]
    loud = "\n".join(
        line.removeprefix("# ") if line.startswith(("# window:", "# network:")) else line for line in lines
    )
    said = terms_of(parse(loud, file))
    assert not said.weekly.always
    assert said.network


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ('{hours: "09:00-09:00"}', "they end when they begin"),
        ('{hours: "09:00-24:30"}', "24:00 is the end of the day"),
        ("{timezone: Europe/Berlni}", "a time zone of the IANA list"),
        ("{days: montag}", "days"),
    ],
)
def test_windows_that_make_no_sense(window: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        parse(f"name: bare\ndatabases: [app]\ntables: {{app.orders: {{}}}}\nwindow: {window}\n", "bare")
