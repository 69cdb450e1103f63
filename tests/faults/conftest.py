"""The fixtures of tests/live, for tests that break things, and `figure`, which puts a line into the table of faults."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.live.conftest import house, house_of_module, make_house
from tests.session.conftest import make_judge, make_play, shop_catalog

__all__ = ["figure", "house", "house_of_module", "make_house", "make_judge", "make_play", "shop_catalog"]

Figure = Callable[[str, str, str, str], None]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """`figure(fault, what was done, figure reached, bound)`: a line of the table that `make faults` prints.

    Call it where everything that the line claims has been asserted.
    """

    def note(fault: str, done: str, reached: str, bound: str) -> None:
        record_property("figure", (fault, done, reached, bound))

    return note
