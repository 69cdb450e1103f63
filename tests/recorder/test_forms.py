"""recorder/forms.py: the quick ways write what the plain ways write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from recorder import chain
from recorder.events import Statement, encode
from recorder.forms import Form, Stamps


def read(line: bytes) -> Statement:
    return msgspec.json.decode(line, type=Statement)


TEXT = st.text(max_size=30) | st.sampled_from(['"n":0,', '"params":null,', 'a"params":null,b', "\ud800", '\\"n":0,'])


@given(
    TEXT,
    TEXT,
    st.none() | st.lists(st.none() | TEXT | st.integers(-(1 << 63), (1 << 63) - 1), max_size=4),
    st.integers(0, 1 << 40),
)
def test_a_form_writes_what_encode_writes(sql: str, name: str, params: list[Any] | None, n: int) -> None:
    event = Statement(
        n=n, sql=sql, params=params, verdict="allow", rule="allow", rewritten=None, name=name, portal="", tables=["a.b"]
    )
    same = msgspec.structs.replace(event, params=["other"], n=7)
    for form in (Form(event), Form(same)):
        assert read(form.fill(n, params)) == read(encode(event))


@given(st.lists(st.integers(0, 4_102_444_800_000_000), min_size=1, max_size=5))
def test_a_stamp_is_the_time_as_the_chain_writes_it(times: list[int]) -> None:
    now = iter([*times, *times])
    stamps = Stamps(lambda: next(now))
    for at in [*times, *times]:
        assert stamps.now() == chain.stamp(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at))
