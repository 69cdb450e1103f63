"""The fast walks over message headers must agree with the plain ones, on any bytes at all."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import build, client, params, startup, upstream
from proxy.wire.framing import ProtocolViolation, spans
from proxy.wire.rows import walk, walk_plainly

BODIES = st.binary(max_size=40)
MESSAGES = st.builds(build.message, st.sampled_from([b"D", b"D", b"D", b"d", b"C", b"T", b"Z", b"E"]), BODIES)


def good_part(data: bytes) -> bytes:
    """The data up to the first length that cannot be right: there the two walks end differently, by design."""
    last = 0
    try:
        for _, _, stop in spans(data):
            last = stop
    except ProtocolViolation:
        return data[:last]
    return data


@given(st.lists(MESSAGES, max_size=30), st.integers(0, 60))
def test_the_row_walk_agrees_with_its_twin(messages: list[bytes], cut: int) -> None:
    data = b"".join(messages)
    data = data[: max(0, len(data) - cut)]
    assert walk(data, 0, len(data)) == walk_plainly(data, 0, len(data))


@given(st.binary(max_size=200))
def test_the_row_walk_agrees_with_its_twin_on_noise(data: bytes) -> None:
    data = good_part(data)
    assert walk(data, 0, len(data)) == walk_plainly(data, 0, len(data))


@given(st.lists(MESSAGES, max_size=20), st.data())
def test_spans_do_not_depend_on_how_the_bytes_arrive(messages: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(messages)
    cut = data.draw(st.integers(0, len(whole)))
    first = list(spans(whole[:cut]))
    rest = first[-1][2] if first else 0
    later = [(kind, start + rest, stop + rest) for kind, start, stop in spans(whole[rest:])]
    assert first + later == list(spans(whole))


@given(st.binary(max_size=300))
@settings(max_examples=400)
def test_no_bytes_make_a_decoder_do_anything_but_answer_or_refuse(data: bytes) -> None:
    for decode in (client.query, client.parse, client.bind, client.execute, client.target):
        try:
            decode(data, 0, len(data))
        except ProtocolViolation:
            continue
    for read in (startup.parse, upstream.authentication, upstream.parameter, upstream.key):
        try:
            read(data)
        except ProtocolViolation:
            continue
    upstream.report(data)
    upstream.parameter_types(data)
    upstream.tag(data)
    upstream.move_position(data, lambda position: position - 3)


@given(st.binary(max_size=40), st.integers(0, 3), st.sampled_from([0, 16, 17, 20, 21, 23, 700, 701, 1082, 1114, 1700]))
@settings(max_examples=400)
def test_no_value_makes_the_parameter_decoder_raise(value: bytes, form: int, oid: int) -> None:
    params.decode(value, form, oid)


@given(
    st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"")),
    st.lists(st.none() | st.binary(max_size=20), max_size=5),
    st.lists(st.integers(0, 1), max_size=3),
)
def test_a_bind_reads_back_as_it_was_built(name: bytes, values: list[bytes | None], results: list[int]) -> None:
    data = build.bind(b"p", name, values, [1], results)
    found = client.bind(data, 5, len(data))
    assert found == (b"p", name, (1,), values)


def test_the_row_walk_is_linear_and_quick() -> None:
    """A bound wide enough for a busy machine; the measured figure stands in docs/reference/wire.md."""
    row = build.message(b"D", b"\0\1\0\0\0\x2a" + b"x" * 42)
    data = row * 20_000
    began = time.perf_counter()
    assert walk(data, 0, len(data)) == (len(data), 20_000)
    assert time.perf_counter() - began < 0.25


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_length_below_four_is_refused(length: int) -> None:
    data = b"D" + length.to_bytes(4, "big") + b"xxxx"
    with pytest.raises(ProtocolViolation):
        list(spans(data))
    assert walk(data, 0, len(data)) == (0, 0)


def test_a_length_of_two_gigabytes_is_only_a_claim() -> None:
    data = b"D\x7f\xff\xff\xff" + b"x" * 100
    assert list(spans(data)) == []
    assert walk(data, 0, len(data)) == (0, 0)
