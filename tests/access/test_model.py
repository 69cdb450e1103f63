"""A grant's state and the decision at its door."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy.access.model import Grant, Terms, admission, clock_time, local_time, normal_network, pause

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


WORK = Terms(days="mon-fri", hours="09:00-18:00", timezone="Europe/Berlin")
LONG = replace(GRANT, terms=WORK, expires_at=NOON + timedelta(days=30))


def second_by_second(grant: Grant, around: datetime, file: Terms | None = None) -> list[tuple[int, str]]:
    """The states in the two minutes around a moment: (seconds from it, state), where they change."""
    found: list[tuple[int, str]] = []
    for second in range(-60, 61):
        state = grant.state(around + timedelta(seconds=second), file)
        if not found or found[-1][1] != state:
            found.append((second, state))
    return found


def test_a_grant_pauses_outside_of_its_hours_second_by_second() -> None:
    closes = datetime(2026, 1, 5, 17, tzinfo=UTC)
    assert second_by_second(LONG, closes) == [(-60, "active"), (0, "paused")]
    assert LONG.turns(NOON) == closes
    opens = datetime(2026, 1, 6, 8, tzinfo=UTC)
    assert LONG.turns(closes) == opens
    assert second_by_second(LONG, opens) == [(-60, "paused"), (0, "active")]
    friday = datetime(2026, 1, 9, 17, tzinfo=UTC)
    assert LONG.turns(friday) == datetime(2026, 1, 12, 8, tzinfo=UTC)


def test_a_grant_over_the_day_on_which_clocks_are_set_second_by_second() -> None:
    grant = replace(LONG, terms=Terms(hours="02:30-04:00", timezone="Europe/Berlin"), starts_at=NOON)
    grant = replace(grant, expires_at=NOON + timedelta(days=365))
    forward = datetime(2026, 3, 29, 1, tzinfo=UTC)  # 02:00 becomes 03:00, which is inside
    assert second_by_second(grant, forward) == [(-60, "paused"), (0, "active")]
    back = datetime(2026, 10, 25, 1, tzinfo=UTC)  # 03:00 becomes 02:00, which is not
    assert second_by_second(grant, back) == [(-60, "active"), (0, "paused")]
    assert second_by_second(grant, back + timedelta(minutes=30)) == [(-60, "paused"), (0, "active")]


def test_start_and_end_go_before_hours_second_by_second() -> None:
    night = replace(LONG, starts_at=datetime(2026, 1, 5, 20, tzinfo=UTC))
    assert second_by_second(night, night.starts_at) == [(-60, "waiting"), (0, "paused")]
    assert second_by_second(night, night.expires_at) == [(-60, "active"), (0, "expired")]
    unchecked = replace(LONG, terms=replace(WORK, prechecks=("backup",)))
    assert unchecked.state(NOON) == "waiting"
    assert replace(unchecked, checked_at=NOON).state(NOON) == "active"


def test_the_grant_and_the_file_must_both_allow() -> None:
    file = Terms(hours="12:00-20:00", timezone="Europe/Berlin")
    ten, eleven, six = (datetime(2026, 1, 6, hour, tzinfo=UTC) for hour in (10, 11, 18))
    assert LONG.state(ten) == "active"
    assert LONG.state(ten, file) == "paused"
    assert second_by_second(LONG, eleven, file) == [(-60, "paused"), (0, "active")]
    assert LONG.state(six, file) == "paused"
    assert replace(LONG, terms=Terms()).state(six, file) == "active"
    assert LONG.turns(ten, file) == eleven


def test_a_shorter_longest_in_the_file_ends_a_grant_sooner_second_by_second() -> None:
    file = Terms(max_seconds=3600)
    assert GRANT.ends(file) == NOON + HOUR
    assert second_by_second(GRANT, NOON + HOUR, file) == [(-60, "active"), (0, "expired")]
    assert GRANT.ends(Terms(max_seconds=1e9)) == GRANT.expires_at
    assert GRANT.ends(Terms(max_seconds=1e15)) == GRANT.expires_at
    refusal = admission(GRANT, now=NOON + 2 * HOUR, database="app", address="", file=file)
    assert refusal is not None
    assert refusal.text == "grant g-7k3m9x2q expired at 2026-01-05 13:00:00 UTC"


def test_a_paused_login_hears_when_it_opens_in_both_times() -> None:
    night = datetime(2026, 1, 9, 20, tzinfo=UTC)
    refusal = admission(LONG, now=night, database="app", address="")
    assert refusal is not None
    assert refusal.reason == "paused"
    assert refusal.text == (
        "grant g-7k3m9x2q pauses outside of its hours; "
        "it opens at Mon 2026-01-12 09:00 Europe/Berlin (2026-01-12 08:00:00 UTC)"
    )
    last = replace(LONG, expires_at=night + HOUR)
    assert "do not come again before it ends at 2026-01-09 21:00:00 UTC" in pause(last, night)
    plain = replace(LONG, terms=Terms(hours="09:00-18:00"))
    assert pause(plain, night).endswith("it opens at 2026-01-10 09:00:00 UTC")
    assert (
        local_time(night, [WORK.weekly, WORK.weekly]) == "Fri 2026-01-09 21:00 Europe/Berlin (2026-01-09 20:00:00 UTC)"
    )


@pytest.mark.parametrize(
    ("pinned", "now", "address", "admits"),
    [
        (("203.0.113.0/24",), (), "203.0.113.7", True),
        (("203.0.113.0/24",), (), "::ffff:203.0.113.7", True),
        (("203.0.113.0/24",), (), "198.51.100.1", False),
        (("203.0.113.0/24", "198.51.100.0/24"), (), "198.51.100.1", True),
        (("203.0.113.0/24",), ("198.51.100.0/24",), "203.0.113.7", False),
        (("203.0.113.0/24",), ("203.0.113.0/28",), "203.0.113.7", True),
        (("203.0.113.0/24",), ("203.0.113.0/28",), "203.0.113.77", False),
        ((), ("203.0.113.0/24",), "203.0.113.77", True),
        ((), ("203.0.113.0/24",), "", False),
        ((), ("::ffff:203.0.113.0/120",), "203.0.113.7", True),
        ((), ("2001:db8::/32",), "2001:db8::7", True),
        ((), ("2001:db8::/32",), "203.0.113.7", False),
    ],
)
def test_networks_of_the_grant_and_of_the_file(
    pinned: tuple[str, ...], now: tuple[str, ...], address: str, admits: bool
) -> None:
    grant = replace(GRANT, terms=Terms(network=pinned))
    refusal = admission(grant, now=NOON, database="app", address=address, file=Terms(network=now))
    assert (refusal is None) is admits
    if refusal is not None:
        assert refusal.reason == "address"


def test_an_unchecked_grant_says_what_fails() -> None:
    grant = replace(GRANT, terms=Terms(prechecks=("backup", "lag")))
    refusal = admission(grant, now=NOON, database="app", address="")
    assert refusal is not None
    assert refusal.text.endswith("waits for a check by the owner: backup, lag")
    refusal = admission(grant, now=NOON, database="app", address="", failing="backup: 3 days old")
    assert refusal is not None
    assert refusal.text.endswith("waits for a check by the owner: backup: 3 days old")
