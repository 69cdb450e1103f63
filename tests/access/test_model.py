"""A grant's state and the decision at its door."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy.access.model import Grant, admission, clock_time, normal_network

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
GRANT = Grant(
    id="g-7k3m9x2q",
    person="jo@vendor.example",
    vendor="Acme",
    database="app",
    policy="reader",
    policy_revision="00",
    policy_text="name: reader",
    reason="ticket 42",
    bind_ip=None,
    created_at=NOON,
    created_by="root",
    starts_at=NOON,
    expires_at=NOON + timedelta(hours=4),
    revoked_at=None,
    revoke_reason=None,
)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (NOON - timedelta(microseconds=1), "waiting"),
        (NOON, "active"),
        (NOON + 4 * HOUR - timedelta(microseconds=1), "active"),
        (NOON + 4 * HOUR, "expired"),
    ],
)
def test_one_state_at_each_moment(now: datetime, state: str) -> None:
    assert GRANT.state(now) == state
    revoked = replace(GRANT, revoked_at=NOON, revoke_reason="done")
    assert revoked.state(now) == "revoked"
    refusal = admission(GRANT, now=now, database="app", address="")
    assert (refusal.reason if refusal else "active") == state


def test_an_active_grant_admits() -> None:
    assert admission(GRANT, now=NOON, database="app", address="203.0.113.7") is None


def test_each_refusal_says_what_is_true_and_what_to_do() -> None:
    revoked = replace(GRANT, revoked_at=NOON + HOUR, revoke_reason="work done")
    bound = replace(GRANT, bind_ip="203.0.113.0/24")
    cases = {
        "revoked": admission(revoked, now=NOON + 2 * HOUR, database="app", address=""),
        "expired": admission(GRANT, now=NOON + 5 * HOUR, database="app", address=""),
        "waiting": admission(GRANT, now=NOON - HOUR, database="app", address=""),
        "database": admission(GRANT, now=NOON, database="hr", address=""),
        "address": admission(bound, now=NOON, database="app", address="198.51.100.1"),
    }
    for reason, refusal in cases.items():
        assert refusal is not None
        assert refusal.reason == reason
        assert refusal.hint.endswith(".")
    texts = {reason: refusal.text for reason, refusal in cases.items() if refusal}
    assert texts["revoked"] == "grant g-7k3m9x2q was revoked at 2026-01-05 13:00:00 UTC. Reason: work done."
    assert texts["expired"] == "grant g-7k3m9x2q expired at 2026-01-05 16:00:00 UTC"
    assert "starts at 2026-01-05 12:00:00 UTC; it is 2026-01-05 11:00:00 UTC now" in texts["waiting"]
    assert texts["database"] == 'grant g-7k3m9x2q is for the database app, not for "hr"'
    assert "198.51.100.1" in texts["address"]


def test_what_a_client_says_cannot_drive_a_terminal() -> None:
    refusal = admission(GRANT, now=NOON, database="\x1b[2J" + "x" * 500, address="")
    assert refusal is not None
    assert refusal.text.isprintable()
    assert len(refusal.text) < 150


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("203.0.113.7", True),
        ("::ffff:203.0.113.7", True),  # the same client on a dual-stack socket
        ("203.0.114.7", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_bound_to_a_network(address: str, inside: bool) -> None:
    bound = replace(GRANT, bind_ip="203.0.113.0/24")
    assert (admission(bound, now=NOON, database="app", address=address) is None) is inside


def test_networks_as_people_write_them() -> None:
    assert normal_network(" 203.0.113.7 ") == "203.0.113.7/32"
    assert normal_network("2001:db8::/32") == "2001:db8::/32"
    with pytest.raises(ValueError, match=r"did you mean 203.0.113.0/24 or 203.0.113.7\?"):
        normal_network("203.0.113.7/24")
    for text in ("", "office", "203.0.113.7/33", "1.2.3"):
        with pytest.raises(ValueError, match="not an address or network"):
            normal_network(text)


def test_times_for_people_are_utc() -> None:
    assert clock_time(datetime.fromisoformat("2026-01-05T13:00:00+01:00")) == "2026-01-05 12:00:00 UTC"
