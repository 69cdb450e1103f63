"""Which FROM entries a name can mean: the nearest where that is certain, else every candidate."""

from __future__ import annotations

from proxy.policy.columns import Columns
from proxy.policy.entries import Level, Rel, owners


def test_the_nearest_level_is_enough_outside_of_from() -> None:
    outer = Level(None, [Rel("x", Columns(("far",)))])
    inner = Level(outer, [Rel("x", Columns(("near",)))])
    assert [r.columns.names for r in owners("x", inner, False)] == [("near",)]
    assert [r.columns.names for r in owners("x", inner, True)] == [("near",), ("far",)]


def test_a_hidden_name_does_not_end_the_search() -> None:
    outer = Level(None, [Rel("x", Columns(("far",)))])
    inner = Level(outer, [Rel("x", Columns(("near",)), hidden=True)])
    assert len(owners("x", inner, False)) == 2
    assert owners("y", inner, False) == []


def test_a_subquery_is_no_table_of_a_schema() -> None:
    assert Rel("x", Columns(())).is_table(())
    assert not Rel("x", Columns(())).is_table(("app",))
