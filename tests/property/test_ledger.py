"""The ledger against a model of Postgres: wherever a pipeline fails, each reply finds its message."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.framing import ProtocolViolation
from proxy.wire.ledger import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE, QUERY, SYNC, Ledger, Owed

IDLE = ord("I")
KINDS = [QUERY, PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, SYNC]
REPLIES = {QUERY: "TDDCCZ", PARSE: "1", BIND: "2", DESCRIBE: "tT", EXECUTE: "DDC", CLOSE: "3", SYNC: "Z"}
REFUSED = 99  # not a message of the protocol: one that daypass answers itself


class Server:
    """What Postgres does with messages: the loop of PostgresMain, reduced to replies."""

    def __init__(self) -> None:
        self.skipping = False

    def answer(self, kind: int, fails: bool) -> str:
        if self.skipping and kind != SYNC:
            return ""
        if kind == SYNC:
            self.skipping = False
            return "EZ" if fails else "Z"
        if not fails:
            return REPLIES[kind]
        if kind == QUERY:
            return "TDEZ"
        self.skipping = True
        return "E"


STEPS = st.lists(st.tuples(st.sampled_from([*KINDS, REFUSED]), st.booleans(), st.integers(0, 3)), max_size=40)


@given(STEPS)
@settings(max_examples=500)
def test_every_reply_finds_its_message(steps: list[tuple[int, bool, int]]) -> None:
    """`steps`: what the client sends, whether it fails upstream, and how many replies arrive before the next step."""
    ledger, server = Ledger(), Server()
    wire: deque[tuple[str, int]] = deque()
    ended: dict[int, str] = {}
    told: list[int] = []
    number = 0

    def receive(count: int) -> None:
        while count and wire:
            count -= 1
            letter, owner = wire.popleft()
            if letter == "E":
                gone = ledger.error()
                assert gone[0].n == owner
                for entry in gone:
                    if entry.kind not in (QUERY, SYNC):
                        ended[entry.n] = "error"
            else:
                entry = ledger.reply(ord(letter))
                assert entry.n == owner
                if not ledger.entries or ledger.entries[0] is not entry:
                    ended[entry.n] = "done"
            for number in ledger.released(IDLE):
                told.append(number)

    for kind, fails, arriving in steps:
        number += 1
        if ledger.skipping and kind != SYNC:
            receive(arriving)
            continue
        if kind == SYNC:
            ledger.skipping = False
        if kind == REFUSED:
            if number < 256 and not ledger.refuse(bytes((number,))):
                told.append(number)
            ledger.skipping = True
        else:
            ledger.entries.append(Owed(kind, number))
            wire.extend((letter, number) for letter in server.answer(kind, fails))
        receive(arriving)
    receive(len(wire))

    # Whatever is left is waiting for a Sync that never came, and no reply at all is on its way for it.
    assert not wire
    assert ledger.held == sum(1 for entry in ledger.entries if entry.reply)
    assert told == sorted(told)
    assert not [entry for entry in ledger.entries if entry.kind == SYNC]


@given(st.lists(st.sampled_from(KINDS), max_size=8), st.integers(0, 255))
def test_an_unasked_reply_is_a_violation_or_fits_the_oldest_entry(kinds: list[int], letter: int) -> None:
    ledger = Ledger()
    for number, kind in enumerate(kinds, 1):
        ledger.entries.append(Owed(kind, number))
    try:
        entry = ledger.reply(letter)
    except ProtocolViolation:
        assert len(ledger.entries) == len(kinds)
    else:
        assert entry.n == 1


def test_a_refusal_waits_for_what_is_owed_before_it() -> None:
    ledger = Ledger()
    ledger.entries.append(Owed(PARSE, 1))
    assert ledger.refuse(b"no")
    assert ledger.unflushed
    assert ledger.released(IDLE) == b""
    ledger.reply(ord("1"))
    assert ledger.released(IDLE) == b"no"
    assert not ledger.refuse(b"at once")


def test_an_upstream_error_swallows_the_refusal_behind_it() -> None:
    ledger = Ledger()
    ledger.entries.append(Owed(PARSE, 1))
    ledger.refuse(b"no")
    ledger.entries.append(Owed(SYNC))
    assert [entry.n for entry in ledger.error()] == [1]
    assert ledger.held == 0
    assert not ledger.skipping
    ledger.reply(ord("Z"))
    with pytest.raises(ProtocolViolation):
        ledger.reply(ord("Z"))


def test_a_sync_inside_copy_data_earns_nothing() -> None:
    ledger = Ledger()
    for kind in (EXECUTE, SYNC):
        ledger.entries.append(Owed(kind))
    ledger.copy_in()
    assert [entry.kind for entry in ledger.entries] == [EXECUTE]
