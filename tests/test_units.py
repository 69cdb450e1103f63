"""Durations and sizes: what is written can be read, and nonsense is told apart from a forgotten unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.units import LONGEST, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("15m", 900), ("4h", 14_400), ("7d", 604_800), ("1h30m", 5400), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "4 h", "-4h", "4H", "1.5h", "4h4h", "30m1h", "4h ", "٤h", "1e3s", "4hours"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        parse_duration(text)


def test_a_number_without_a_unit_gets_a_hint() -> None:
    with pytest.raises(ValueError, match="has no unit; write for example 30s or 30m"):
        parse_duration("30")


@pytest.mark.parametrize("text", ["3651d", "999999999d"])
def test_longer_than_ten_years(text: str) -> None:
    with pytest.raises(ValueError, match="ten years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512B", 512), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1GiB", 1 << 30), ("0B", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64KB", "64 KiB", "-1B", "1.5GiB", "GiB", "64kib"])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="64KiB"):
        parse_size(text)


@given(st.integers(0, int(LONGEST * 1000)))
def test_every_duration_is_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 1 << 50))
def test_every_size_is_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except ValueError:
            continue
