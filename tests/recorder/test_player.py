"""The deck: keys and time against what is shown, without a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.player import END, Deck, Jump, Quit, Say, Show
from recorder.tape import Tape
from tests.recorder.test_tape import record


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return Tape(record(tmp_path, 120))


def shown(deck: Deck, keys: str) -> list[int | str]:
    """What a row of keys shows: numbers of entries jumped to, or the remark."""
    out: list[int | str] = []
    for key in keys:
        for action in deck.press(key):
            if isinstance(action, Jump):
                out.append(action.at)
            elif isinstance(action, Say):
                out.append(action.text)
            elif isinstance(action, Show):
                out.append(f"+{action.entry.seq}")
            else:
                out.append("quit")
    return out


def test_in_its_own_time(tape: Tape) -> None:
    deck = Deck(tape, max_idle=0.5)
    assert deck.due() == 0
    assert isinstance(deck.step()[0], Show)
    assert deck.due() == 0.5  # a second, cut
    deck = Deck(tape, max_idle=5)
    deck.step()
    assert deck.due() == 1
    shown(deck, "++")
    assert (deck.speed, deck.due()) == (4, 0.25)
    shown(deck, "---")
    assert (deck.speed, deck.due()) == (0.5, 2)
    shown(deck, "-" * 20)
    assert deck.speed == 0.125
    shown(deck, "+" * 20)
    assert deck.speed == 64
    shown(deck, " ")
    assert deck.due() is None
    shown(deck, " ")
    assert deck.due() is not None


def test_it_ends(tape: Tape) -> None:
    deck, steps = Deck(tape), 0
    while deck.due() is not None:
        assert not deck.over
        deck.step()
        steps += 1
    assert (steps, deck.at, deck.ended, deck.over, deck.step()) == (243, 242, True, True, [])


def test_who_looks_is_not_thrown_out_at_the_end(tape: Tape) -> None:
    deck = Deck(tape)
    assert shown(deck, "G.") == [242, END, END]
    assert (deck.ended, deck.over) == (True, False)


def test_steps_and_jumps(tape: Tape) -> None:
    deck = Deck(tape)
    deck.step()
    assert shown(deck, "..") == ["+2", "+3"]
    assert deck.paused
    assert shown(deck, "nn") == [99, 199]
    assert shown(deck, "n") == ["nothing is refused after this"]
    assert shown(deck, "]][[") == [241, 242, END, 241, 199]
    assert shown(deck, "g[") == [0, "there is no mark before this"]
    assert shown(deck, "G]") == [242, END, "there is no mark after this"]
    assert shown(deck, "q") == ["quit"]
    assert deck.press("x") == []
    assert deck.press("\x03") == [Quit()]


def test_ten_seconds(tape: Tape) -> None:
    deck = Deck(tape)
    deck.step()
    assert deck.press("right") == [Jump(19)]
    assert not deck.paused
    assert deck.press("right") == [Jump(39)]
    assert deck.press("left") == [Jump(19)]
    assert deck.press("left") == [Jump(0)]
    assert deck.press("left") == [Jump(0)]


def test_search(tape: Tape) -> None:
    deck = Deck(tape)
    deck.step()
    assert shown(deck, ";") == ["nothing to search for; type / and words"]
    assert shown(deck, "/word7q\x7f,\r")[-1] == 13
    assert shown(deck, "/") == [""]
    assert deck.due() is None  # time stands still while somebody types
    assert shown(deck, "\x7f") == [""]
    assert shown(deck, "/word11\r")[-1] == 21
    assert shown(deck, ";")[-1] == 219  # Word110
    assert shown(deck, "/nothing at all\r")[-1] == "nothing holds 'nothing at all'"


@pytest.mark.parametrize("key", ["escape", "\x7f", "\x03"])
def test_typing_can_be_given_up(tape: Tape, key: str) -> None:
    deck = Deck(tape)
    shown(deck, "/")
    deck.press(key)
    assert deck.typed is None


def test_a_beginning_elsewhere(tape: Tape) -> None:
    deck = Deck(tape, at=100)
    deck.step()
    assert deck.at == 100
    assert deck.offset == 50


def test_an_empty_tape(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    deck = Deck(Tape(tmp_path / "x"))
    assert deck.over
    for key in ".]n[gG/;? +right":
        deck.press(key)
