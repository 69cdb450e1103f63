"""The fixtures of tests/live, for tests that break things."""

from tests.live.conftest import house, house_of_module, make_house

__all__ = ["house", "house_of_module", "make_house"]
