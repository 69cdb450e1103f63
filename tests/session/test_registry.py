"""Deadlines, seats and cancel keys, on a clock that a test moves."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.access.model import Grant, Terms
from proxy.policy.model import Limits
from proxy.session.commons import Commons
from proxy.session.refusals import refusal
from proxy.session.registry import Registry, Session
from proxy.wire import build
from tests.session.playbook import COLUMNS, IDLE, IN_BLOCK, Playbook, complete, select


def a_grant(play: Playbook, seconds: float = 3600) -> Grant:
    now = play.clock.now()
    return Grant(
        id="g-1", person="Ana", vendor="Acme", database="shop", policy="reader", policy_revision="r", policy_text="",
        reason="test", bind_ip=None, created_at=now, created_by="op", starts_at=now,
        expires_at=now + timedelta(seconds=seconds), revoked_at=None, revoke_reason=None,
    )  # fmt: skip


def a_session(play: Playbook, registry: Registry, *, seconds: float = 3600, **limits: float) -> Session:
    play.relay.talk.meter.apply(Limits.model_validate({name: f"{length:.0f}s" for name, length in limits.items()}))
    session = Session(
        id="s-1",
        grant=a_grant(play, seconds),
        relay=play.relay,
        pid=4711,
        secret=registry.secret(4711),
        deadline=play.clock.monotonic() + seconds,
        cancel_upstream=play.cancels.append,
    )
    registry.add(session)
    registry.follow(session, None, opening=True)
    return session


@pytest.fixture
def registry(play: Playbook, tmp_path: Path) -> Registry:
    return Registry(play.clock, Commons(tmp_path / "run"))


def walk(play: Playbook, registry: Registry, seconds: int) -> list[tuple[int, str]]:
    """What the client hears, second by second: (second, message)."""
    heard: list[tuple[int, str]] = []
    for second in range(seconds + 1):
        registry.tick()
        heard += [(second, message) for message in play.client_heard()]
        play.clock.advance(1)
    return heard


def test_a_session_is_told_15_5_and_1_minutes_before_its_end_and_ended_to_the_second(
    play: Playbook, registry: Registry
) -> None:
    a_session(play, registry, seconds=1000)
    assert walk(play, registry, 1200) == [
        (100, "Notice daypass: grant g-1 ends in 15 minutes, at 2026-01-05 09:16:40 UTC"),
        (700, "Notice daypass: grant g-1 ends in 5 minutes, at 2026-01-05 09:16:40 UTC"),
        (940, "Notice daypass: grant g-1 ends in 1 minute, at 2026-01-05 09:16:40 UTC"),
        (1000, "FATAL 57P01"),
    ]
    assert play.recorded("session.end")[0]["reason"] == "expired"


@pytest.mark.parametrize(("seconds", "told"), [(900, [600, 840]), (301, [1, 241]), (300, [240]), (61, [1]), (60, [])])
def test_only_what_lies_inside_of_a_session_is_told(
    play: Playbook, registry: Registry, seconds: int, told: list[int]
) -> None:
    a_session(play, registry, seconds=seconds)
    heard = walk(play, registry, seconds)
    assert [second for second, _ in heard] == [*told, seconds]


def test_a_notice_waits_for_the_end_of_a_message(play: Playbook, registry: Registry) -> None:
    a_session(play, registry, seconds=400)
    play.client(build.query(b"select 1"))
    play.clock.advance(100)
    value = b"x" * 200_000
    row = b"D" + struct.pack("!ihi", 4 + 2 + 4 + len(value), 1, len(value)) + value
    play.upstream(COLUMNS + row[:100_000])
    registry.tick()
    assert b"minutes" not in play.to_client.data
    play.upstream(row[100_000:] + complete("SELECT 1") + IDLE)
    play.clock.advance(2)
    registry.tick()
    registry.tick()
    heard = play.client_heard()
    assert heard.count(heard[-1]) == 1
    assert heard[-1] == "Notice daypass: grant g-1 ends in 5 minutes, at 2026-01-05 09:06:40 UTC"


def test_a_session_pauses_when_its_hours_are_over_to_the_second(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry, seconds=86_400)
    session.grant = replace(session.grant, terms=Terms(hours="08:00-10:20", timezone="Europe/Berlin"))
    registry.follow(session, None, opening=True)
    at = "at Mon 2026-01-05 10:20 Europe/Berlin (2026-01-05 09:20:00 UTC)"
    play.client(build.query(b"select 1"))
    heard = walk(play, registry, 1300)
    assert heard == [
        (300, f"Notice daypass: grant g-1 pauses in 15 minutes, {at}"),
        (900, f"Notice daypass: grant g-1 pauses in 5 minutes, {at}"),
        (1140, f"Notice daypass: grant g-1 pauses in 1 minute, {at}"),
        (1200, "FATAL 57P01"),
    ]
    assert play.ended == [True], "what runs is cancelled"
    assert play.recorded("session.end")[0]["reason"] == "paused"
    said = play.recorded("notice")[-1]["text"]
    assert "it opens at Tue 2026-01-06 08:00 Europe/Berlin (2026-01-06 07:00:00 UTC)" in said


def test_a_file_that_changes_is_followed_by_open_sessions(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry, seconds=86_400)
    session.address = "203.0.113.7"
    registry.follow(session, Terms(network=("203.0.113.0/24",), hours="08:00-18:00", max_seconds=7200))
    registry.tick()
    assert play.client_heard() == []
    assert session.deadline == play.clock.monotonic() + 7200
    registry.follow(session, Terms(max_seconds=800))
    registry.tick()
    assert play.client_heard() == ["Notice daypass: grant g-1 ends in 13 minutes, at 2026-01-05 09:13:20 UTC"]
    registry.follow(session, None)
    registry.tick()
    assert session.deadline == play.clock.monotonic() + 86_400, "a slip of the pen that was mended"
    registry.follow(session, Terms(hours="18:00-08:00"))
    registry.tick()
    assert play.relay.reason == "paused"


def test_a_network_that_is_taken_out_of_the_file_ends_sessions(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry)
    session.address = "203.0.113.7"
    registry.follow(session, Terms(network=("198.51.100.0/24",)))
    assert play.relay.reason == "address"
    assert play.client_heard() == ["FATAL 57P01"]


def test_a_wall_clock_that_steps_back_revives_nothing(play: Playbook, registry: Registry) -> None:
    a_session(play, registry, seconds=300)
    play.clock.step_wall(-86_400)
    play.clock.advance(301)
    registry.tick()
    assert play.relay.ended


def test_limits_that_come_later_are_kept(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry)
    registry.tick()
    play.clock.advance(100)
    session.relay.talk.meter.apply(Limits.model_validate({"idle": "60s"}))
    registry.tick()
    assert not play.relay.ended, "nothing told it to look"
    registry.look_again()
    registry.tick()
    assert play.relay.reason == "idle"


def test_a_busy_session_is_not_idle(play: Playbook, registry: Registry) -> None:
    a_session(play, registry, idle=60)
    play.client(build.query(b"select 1"))
    play.clock.advance(61)
    registry.tick()
    assert play.ended == []
    play.upstream(select(1))
    registry.tick()
    assert play.ended == [], "it is idle from the end of its statement on"
    play.clock.advance(61)
    registry.tick()
    assert play.relay.ended
    assert play.client_heard()[-1] == "FATAL 57P05"


def test_a_transaction_that_is_open_for_too_long_ends_the_session(play: Playbook, registry: Registry) -> None:
    a_session(play, registry, transaction=60)
    play.client(build.query(b"begin"))
    play.upstream(complete("BEGIN"), IN_BLOCK)
    play.clock.advance(30)
    play.client(build.query(b"select 1"))
    play.upstream(select(1)[:-1] + b"T")
    play.clock.advance(32)
    registry.tick()
    assert play.relay.ended
    assert play.client_heard()[-1] == "FATAL 25P04"
    assert play.recorded("session.end")[0]["reason"] == "transaction"


def test_transactions_that_end_in_time_do_not_add_up(play: Playbook, registry: Registry) -> None:
    a_session(play, registry, transaction=60)
    for _ in range(5):
        play.client(build.query(b"select 1"), build.query(b"select 2"))
        play.clock.advance(40)
        play.upstream(select(1))
        play.clock.advance(40)
        registry.tick()
        assert not play.relay.ended
        play.upstream(select(1))
        play.clock.advance(400)
        registry.tick()
        assert not play.relay.ended, "nothing is open"


def test_a_grant_that_is_no_longer_live_ends_its_sessions(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry)
    registry.keep_only({"g-1": session.grant}, {"s-1"})
    registry.keep_only({}, set())
    assert not play.relay.ended, "a session that began after the question is not in the answer"
    registry.keep_only({}, {"s-1"})
    assert play.client_heard() == ["FATAL 57P01"]
    assert play.recorded("session.end")[0]["reason"] == "revoked"


def test_the_last_word_says_who_ended_it_and_why(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry)
    over = replace(session.grant, revoked_at=play.clock.now(), revoked_by="olga", revoke_reason="work {done}")
    registry.keep_only({}, {"s-1"}, {"g-1": over})
    said = play.to_client.take()
    assert b"C57P01" in said
    assert b"daypass: grant g-1 was revoked: work {done}\0" in said
    assert play.recorded("session.end")[0]["reason"] == "revoked"


def test_a_policy_that_is_gone_ends_a_session_as_others_do(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry)
    session.finish(refusal("policy gone", policy="reader", grant="g-1"), "gone")
    assert play.client_heard() == ["FATAL 57P01"]
    assert play.recorded("session.end")[0]["reason"] == "policy gone"


def test_a_deadline_that_moves_nearer_is_followed(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry, seconds=3600)
    sooner = replace(session.grant, expires_at=play.clock.now() + timedelta(seconds=10))
    registry.keep_only({"g-1": sooner}, {"s-1"})
    play.clock.advance(11)
    registry.tick()
    assert play.relay.ended


def test_seats(play: Playbook, registry: Registry) -> None:
    assert registry.take_seat("g-1", 2) == 0
    assert registry.take_seat("g-1", 2) == 0
    assert registry.take_seat("g-1", 2) == 2
    assert registry.take_seat("g-2", 2) == 0
    registry.leave_seat("g-1")
    assert registry.take_seat("g-1", 2) == 0
    assert registry.take_seat("g-3", None) == 0


def test_a_cancel_key_opens_one_session_only(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry)
    assert registry.by_key(4711, session.secret) is session
    assert registry.by_key(4712, session.secret) is None
    assert registry.by_key(4711, b"\0\0\0\0") is None
    assert registry.by_key(4711, session.secret + b"\0") is None
    assert registry.by_key(4711, b"") is None
    session.cancel()
    assert play.recorded("cancel")


def test_who_cancels_hears_of_the_end_when_the_server_has_done_it(play: Playbook, registry: Registry) -> None:
    session = a_session(play, registry)
    play.client(build.query(b"select 1"))
    done: list[str] = []
    registry.cancel(4711, session.secret, lambda: done.append("cancelled"))
    assert done == []
    play.cancels.pop()()
    assert done == ["cancelled"]
    registry.cancel(4711, b"1234", lambda: done.append("nobody's"))
    assert done == ["cancelled", "nobody's"]
    session.relay.end(refusal("shutdown"), "over")
    with contextlib.suppress(IndexError):
        play.cancels.pop()()
    session.cancel(lambda: done.append("over"))
    assert done == ["cancelled", "nobody's", "over"], "nobody waits for a session that is over"


def test_a_cancel_for_nobody_here_is_asked_elsewhere(play: Playbook, registry: Registry) -> None:
    asked: list[tuple[int, bytes]] = []
    registry.elsewhere = lambda pid, secret, _done: asked.append((pid, secret))
    session = a_session(play, registry)
    registry.cancel(4711, session.secret)
    assert play.recorded("cancel")
    assert asked == []
    registry.cancel(4711, b"1234")
    registry.cancel(4711, b"of another length, as protocol 3.2 has")
    assert [secret for _, secret in asked] == [b"1234", b"of another length, as protocol 3.2 has"]
    assert len(registry.secret(4711, 32)) == 32


def test_a_warning_never_lands_inside_a_message(make_play: Callable[..., Playbook], tmp_path: Path) -> None:
    play = make_play()
    registry = Registry(play.clock, Commons(tmp_path / "run"))
    a_session(play, registry, seconds=300)
    play.client(build.query(b"select 1"))
    play.upstream(b"D\0\2\0\0" + b"x" * 70_000)
    play.to_client.take()
    play.clock.advance(250)
    registry.tick()
    assert play.to_client.take() == b""
