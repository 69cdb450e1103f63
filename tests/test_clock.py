"""The clock: the wall may step, the monotonic clock may not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.clock import Clock, FakeClock, SystemClock


def test_the_system_clock_is_aware_and_goes_on() -> None:
    clock: Clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()
    assert len(clock.random(16)) == 16
    assert clock.random(16) != clock.random(16)


def test_a_fake_clock_moves_when_told() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    begun = clock.monotonic()
    clock.advance(90.5)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, 500_000, tzinfo=UTC)
    assert clock.monotonic() - begun == 90.5


def test_a_step_of_the_wall_is_no_passing_of_time() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    begun = clock.monotonic()
    clock.step_wall(-3600)
    assert clock.now() == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert clock.monotonic() == begun


def test_a_fake_clock_repeats_itself_and_does_not_run_back() -> None:
    one, two = FakeClock(), FakeClock()
    assert [one.random(8), one.random(8)] == [two.random(8), two.random(8)]
    assert one.random(8) != one.random(8)
    with pytest.raises(ValueError, match="backwards"):
        one.advance(-1)
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 1, 1))
